"""The part of a report on dreams against reality: what the examinations logged, and their pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dreamerjax.report.glossary import Glossary
from dreamerjax.report.html import Html, element, folded, join, marked, pairs, paragraph, section, table
from dreamerjax.report.media import Media, examination_pictures
from dreamerjax.report.reading import Run
from dreamerjax.report.words import amount, whole

COLUMNS = {
    "states": "states",
    "return_imagined": "imagined return",
    "return_real": "real return",
    "return_bias": "bias",
    "return_ratio": "ratio",
    "return_error": "mean error",
    "return_rank": "rank correlation",
    "bootstrap": "critic's weight",
    "worst_step": "worst step k",
    "reward_bias": "reward bias there",
    "continue_bias": "continue bias there",
    "kl": "KL, nats",
    "open_loop_error": "open loop, std",
    "open_loop_image_error": "open loop of images",
}
_BY_STEP = ("reward_bias", "continue_bias")  # metrics for each imagined step; the table has the worst one


def dreams_section(run: Run, media: Media, glossary: Glossary) -> Html:
    """Tables and pictures, or why there are none."""
    title = "Dreams against reality"
    rows = [*_logged(run), *_evaluated(run)]
    if not rows and not media.examinations:
        every = run.config.get("monitor.dreams_every")
        when = f"every {whole(every)} environment steps" if every else "only when asked for"
        return section(
            title,
            paragraph(
                f"No examination so far: dreams are compared with held-out episodes {when} (monitor.dreams_every), and by the "
                "last command on this page."
            ),
        )
    parts = [paragraph("From states of held-out episodes: what the agent believed it would get, and what it then got.")]
    if rows:
        shown = {name: words for name, words in COLUMNS.items() if any(cells[name] for _, cells in rows)}
        head = ["environment step", *shown.values()]
        parts.append(table(head, [[where, *(cells[name] for name in shown)] for where, cells in rows], numbers=True))
        parts.append(_meanings(shown, glossary))
    return section(title, *parts, examination_pictures(media))


def _logged(run: Run) -> Iterator[tuple[str, dict[str, str]]]:
    """Where each examination was, and the cell of every column."""
    for record in run.records:
        if "gap/return_imagined" in record:
            gap = {key.removeprefix("gap/"): value for key, value in record.items() if key.startswith("gap/")}
            yield whole(record["env_step"]), _cells(gap)


def _evaluated(run: Run) -> Iterator[tuple[str, dict[str, str]]]:
    for name, evaluation in run.evaluations.items():
        if isinstance(gap := evaluation.get("gap"), dict):
            yield f"{whole(evaluation.get('env_step'))} ({name})", _cells(gap)


def _cells(gap: Mapping[str, float]) -> dict[str, str]:
    """Empty where there is no such number."""
    worst = gap.get("worst_step")
    there = f"/{worst:02.0f}" if isinstance(worst, int | float) else ""
    values = {name: gap.get(name + there if name in _BY_STEP else name) for name in COLUMNS}
    return {name: amount(value) if value is not None else "" for name, value in values.items()}


def _meanings(columns: Mapping[str, str], glossary: Glossary) -> Html:
    names = {f"gap/{name}/01" if name in _BY_STEP else f"gap/{name}": words for name, words in columns.items()}
    return meanings("What the columns mean", names, glossary)


def meanings(title: str, names: Mapping[str, str], glossary: Glossary) -> Html:
    """What metrics mean and what a healthy run shows, folded; nothing where the glossary knows none of them.

    Args:
        title: to click on.
        names: metrics, and what the page calls them.
        glossary: of docs/metrics.md.
    """
    rows = [(", ".join(words), _meaning(*texts)) for texts, words in glossary.of(names).items()]
    return folded(title, pairs(rows, long=True)) if rows else Html("")


def _meaning(what: str, healthy: str) -> Html:
    return join([marked(what), ".", *([" In a healthy run: ", element("em", marked(healthy)), "."] if healthy else [])])
