"""The parts of a report, from top to bottom."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from dreamerjax.config.flat import flatten
from dreamerjax.config.schema import Config, Mode
from dreamerjax.report import charts
from dreamerjax.report.dreams import dreams_section, meanings
from dreamerjax.report.glossary import Glossary
from dreamerjax.report.html import Html, element, folded, join, listing, marked, page, pairs, paragraph, picture, section, table
from dreamerjax.report.media import LIMITS, Media, show
from dreamerjax.report.reading import IN_PROGRESS, Run
from dreamerjax.report.words import NOT_KNOWN, amount, duration, moment, outcome_words, whole
from dreamerjax.storage.checkpoints import saved_in
from dreamerjax.visualization.learning_curve import series

_COLORS = {"solved": "good", "finished": "good", "failed": "bad", IN_PROGRESS: "open"}  # of an outcome, as the style has them
_SVG = "image/svg+xml"


def render(run: Run, media: Media, glossary: Glossary, style: str) -> Html:
    """The whole page.

    Args:
        run: what it is about.
        media: pictures and videos of the run.
        glossary: what metrics and findings mean.
        style: CSS.
    """
    return page(
        f"{run.name}: {run.config.get('env.id', 'a run')}",
        style,
        _header(run),
        _missing(run),
        _purpose(run),
        _curves(run),
        _findings(run, glossary),
        _diagnostics(run, glossary),
        dreams_section(run, media, glossary),
        _media(media),
        _configuration(run),
        _machine(run),
        _places(run),
    )


def _header(run: Run) -> Html:
    config, figures, meta = run.config, run.figures, run.meta
    error = figures.get("error")
    facts = [
        ("Environment", str(config.get("env.id", NOT_KNOWN))),
        ("Seed", str(config.get("train.seed", meta.get("seed", NOT_KNOWN)))),
        ("Started", moment(meta.get("started"))),
        ("Duration", duration(figures.get("seconds"))),
        ("Environment steps", whole(figures.get("env_steps"))),
        ("Updates", whole(figures.get("updates"))),
        ("Training episodes", whole(figures.get("episodes"))),
        ("Random policy's return", amount(figures.get("baseline_return"))),
        ("Last greedy return", _at(figures.get("last_return"), figures.get("last_step"))),
        ("Best greedy return", _at(figures.get("best_return"), figures.get("best_step"))),
        ("Last sampled return", _at(figures.get("last_sampled_return"), figures.get("last_step"))),
    ]
    return join(
        [
            element(
                "header",
                element("h1", run.name),
                paragraph(f"A dreamerjax run, reported {datetime.now().astimezone():%Y-%m-%d %H:%M %z}"),
                element("span", outcome_words(run), class_=f"outcome {_COLORS.get(run.outcome, '')}".strip()),
                *([paragraph(str(error), class_="error")] if error else []),
            ),
            section("The run in figures", pairs(facts), *_evaluations(run)),
        ]
    )


def _at(value: Any, step: Any) -> str:
    return "none" if value is None else f"{amount(value)} at step {whole(step)}"


def _evaluations(run: Run) -> list[Html]:
    """What `python -m dreamerjax.evaluate` measured."""
    rows = []
    for name, found in run.evaluations.items():
        low, high = found.get("return_mean_95") or (None, None)
        rows.append(
            [
                name,
                str(found.get("checkpoint", "")),
                whole(found.get("env_step")),
                str(found.get("policy", "")),
                whole(found.get("episodes")),
                f"{amount(found.get('return_mean'))} [{amount(low)}, {amount(high)}]",
                amount(found.get("return_min")),
                amount(found.get("return_max")),
            ]
        )
    head = ["evaluated afterwards", "checkpoint", "step", "policy", "episodes", "mean return [95% interval]", "min", "max"]
    return [table(head, rows)] if rows else []


def _missing(run: Run) -> Html:
    if not run.missing:
        return Html("")
    return element("section", element("h2", "To be aware of"), _list(run.missing), class_="missing")


def _list(items: Sequence[str]) -> Html:
    return element("ul", *(element("li", item) for item in items))


def _purpose(run: Run) -> Html:
    hypothesis = str(run.meta.get("hypothesis") or "") or "The run states no hypothesis (run.hypothesis)."
    metric = str(run.meta.get("primary_metric") or "")
    rows: list[tuple[str, str]] = [("Primary metric", element("code", metric) if metric else "none")]
    steps, values = series(run.records, metric)
    if len(values):
        rows.append(("Its last value", _at(float(values[-1]), float(steps[-1]))))
        low, high = amount(float(values.min())), amount(float(values.max()))
        rows.append(("Its range", f"{low} to {high}, logged {len(values)} times"))
    elif metric:
        rows.append(("Its last value", "it was not logged"))
    return section("Hypothesis", paragraph(hypothesis), pairs(rows))


def _curves(run: Run) -> Html:
    title = "Learning curve"
    if not run.has("eval/") and not run.has("episode/return"):
        return section(title, paragraph("No evaluation and no finished episode so far."))
    threshold = run.config.get("train.stop_at_return")
    alt = f"Episode returns of {run.name} against environment steps: evaluations and training episodes"
    curve = picture(_SVG, charts.learning_curve(run.records, threshold), alt, "curve")
    return section(title, element("div", curve, class_="wide"))


def _findings(run: Run, glossary: Glossary) -> Html:
    title = "Findings of the collapse watch"
    if not run.records and not run.findings:
        return section(title, paragraph("Not known: there are no metrics to find anything in."))
    if not run.findings:
        return section(title, paragraph("None: it saw no failure that it knows."))
    hint = paragraph("A finding is a hint, not a verdict: look at its numbers.")
    return section(title, hint, element("ol", *(_finding(found, glossary) for found in run.findings), class_="findings"))


def _finding(found: dict[str, Any], glossary: Glossary) -> Html:
    name, times = str(found.get("name")), found.get("times", 1)
    again = f", {times} times" if times != 1 else ""
    until = "it still lasted at the end" if found.get("active") else f"last seen at step {whole(found.get('last_step'))}"
    means, advice = glossary.findings.get(name, ("", ""))
    return element(
        "li",
        element("strong", f"Step {whole(found.get('first_step'))}: "),
        element("code", name),
        f" ({until}{again})",
        paragraph(_sentence(str(found.get("evidence", "")))),
        *([paragraph(element("strong", "Means: "), marked(means), ".")] if means else []),
        *([paragraph(element("strong", "Try: "), marked(advice), ".")] if advice else []),
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _diagnostics(run: Run, glossary: Glossary) -> Html:
    title = "Losses and diagnostics"
    drawn = [(panel, charts.draw_panel(panel, run.records)) for panel in charts.PANELS]
    figures = [_panel(panel, svg, glossary) for panel, svg in drawn if svg is not None]
    if not figures:
        every = run.config.get("train.log_every", NOT_KNOWN)
        return section(title, paragraph(f"None logged so far: they are logged every {every} updates (train.log_every)."))
    return section(title, element("div", *figures, class_="panels"))


def _panel(panel: charts.Panel, svg: bytes, glossary: Glossary) -> Html:
    alt = f"{panel.title}: {', '.join(panel.all_metrics)} against environment steps"
    words = meanings("What these mean", {name: name for name in panel.all_metrics}, glossary)
    return element("figure", picture(_SVG, svg, alt, "panel"), words)


def _media(media: Media) -> Html:
    """Pictures and videos other than those of examinations."""
    if not media.others:
        return Html("")
    return section("Media", *(show(path, media) for path in media.others), paragraph(LIMITS, class_="note"))


def _configuration(run: Run) -> Html:
    defaults = flatten(Config())
    rows = [
        [element("code", key), str(value), str(defaults.get(key, "no such key in this version"))]
        for key, value in run.config.items()
        if (key not in defaults or defaults[key] != value) and key != "run.hypothesis"
    ]
    parts = [table(["key", "this run", "default"], rows)] if rows else [paragraph("Every key has its default.")]
    return section("Configuration", *parts, folded("config.yaml, every key", listing(run.config_yaml)))


def _machine(run: Run) -> Html:
    meta = run.meta
    git = meta.get("git") or {}
    commit = str(git.get("commit") or NOT_KNOWN)[:10] + (", with changes that were not committed" if git.get("dirty") else "")
    source = meta.get("source") or {}
    rows = [
        ("Machine", str(meta.get("platform", NOT_KNOWN))),
        ("Cores", str(meta.get("cpus", NOT_KNOWN))),
        ("Devices", ", ".join(map(str, meta.get("devices") or [NOT_KNOWN]))),
        ("Commit", commit),
    ]
    if source:
        rows.append(("Began from", f"{source.get('run')} at step {whole(source.get('env_step'))}"))
    versions = [f"{name} {version}" for name, version in (meta.get("versions") or {}).items() if version]
    command = [folded("Command line", listing(str(meta["command"])))] if meta.get("command") else []
    words = paragraph(f"Versions: {', '.join(versions) or NOT_KNOWN}.")
    return section("Machine and versions", pairs(rows), words, *command)


def _places(run: Run) -> Html:
    directory = run.directory
    path, latest = str(directory.path), saved_in(directory.checkpoints / "latest")
    best = saved_in(directory.checkpoints / "best")
    rows = [
        ("Run directory", path),
        ("Latest checkpoint", _newest(latest)),
        ("Best checkpoint", _newest(best)),
        ("Metrics", f"{directory.metrics}, {whole(len(run.records))} lines"),
        ("TensorBoard", f"tensorboard --logdir {shlex.quote(path)}"),
    ]
    if not latest:
        return section(
            "Where things lie", pairs(rows, long=True), paragraph("Without a checkpoint it cannot be evaluated or continued.")
        )
    word = shlex.quote(path)
    commands = [
        f"python -m dreamerjax.evaluate run={word} episodes=100",
        *([f"python -m dreamerjax.evaluate run={word} checkpoint=best"] if best else []),
        f"python -m dreamerjax.train resume={word}",
        *([f"python -m dreamerjax.train mode=dreamer from={word}"] if run.config.get("mode") == Mode.bootstrap.name else []),
        f"python -m dreamerjax.evaluate run={word} gap=true",
    ]
    hint = paragraph("To evaluate, continue, and examine:")
    return section("Where things lie", pairs(rows, long=True), hint, listing("\n".join(commands)))


def _newest(checkpoints: Sequence[Path]) -> str:
    return str(checkpoints[-1]) if checkpoints else "none"
