"""What an experiment showed: REPORT.md with the verdict first, two pictures, and every number in results.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dreamerjax.core.files import write_json, write_text
from dreamerjax.core.formatting import number
from dreamerjax.experiment import spec
from dreamerjax.experiment.analysis import ArmResult, results, weigh
from dreamerjax.experiment.design import Experiment, Status
from dreamerjax.experiment.figures import draw_curves, draw_metric
from dreamerjax.experiment.records import curve
from dreamerjax.experiment.states import runs, unchanged
from dreamerjax.experiment.statistics import level_means


def write_up(experiment: Experiment, root: Path) -> Path:
    """Writes REPORT.md, curves.png, metric.png and results.json beside the experiment's file; returns the first.

    The text of NOTES.md, where a researcher discusses the results, ends the report. Once every run has finished the
    experiment's status becomes `reported`.

    Raises UserError: a run has another configuration than its arm; or no run can be compared, or a file cannot be written, with
    exit code 1.
    """
    states, directory = unchanged(experiment, runs(experiment, root)), experiment.directory
    first = root / experiment.slug / spec.FILE  # the file as it was at the first run
    changed = spec.changes(directory / spec.FILE, first) if first.is_file() else ()
    arms, absent = weigh(experiment, states)
    _draw(experiment, [arm for arm in arms if arm.runs])
    numbers = results(experiment, arms, absent, changed)
    write_json(directory / "results.json", numbers)
    notes = directory / "NOTES.md"
    write_text(directory / "REPORT.md", render(experiment, numbers, notes.read_text("utf-8") if notes.is_file() else ""))
    if all(state.state == "finished" for state in states.values()):
        spec.set_status(directory / spec.FILE, Status.reported)
    return directory / "REPORT.md"


def _draw(experiment: Experiment, arms: Sequence[ArmResult]) -> None:
    metric, title = experiment.metric, experiment.question
    curves = [(arm.arm.name, [curve(run, metric.name, metric.budget) for run in arm.runs]) for arm in arms]
    confidence = experiment.rule.confidence
    draw_curves(experiment.directory / "curves.png", curves, title=title, metric=metric, confidence=confidence)
    draw_metric(experiment.directory / "metric.png", arms, title=title, metric=metric.label)


def render(experiment: Experiment, numbers: Mapping[str, Any], notes: str) -> str:
    """REPORT.md of `results`, also as results.json has them, which ends with `notes`, Markdown or empty."""
    arms, contrast = numbers["arms"], experiment.hypothesis.contrast
    middles = {arm["name"]: float(arm["interquartile_mean"]["value"]) for arm in arms}
    factors = [] if contrast.factor is None else [contrast.factor, str(contrast.against)]
    used = (*contrast.treatment, *contrast.control)
    counts = [len(arm["runs"]) for arm in arms if factors or arm["name"] in used]
    return spec.TEMPLATES.get_template("report.md.j2").render(
        experiment=experiment,
        results=numbers,
        notes=notes.strip(),
        levels=[(key, *level) for key in factors for level in level_means(middles, experiment.arms, key).items()],
        seeds=" + ".join(map(str, counts)) if len(counts) <= 4 else f"{sum(counts)} in {len(counts)} arms",
        commits=", ".join(sorted({run["commit"] for arm in arms for run in arm["runs"]})),
        packages=", ".join(f"{name} {version}" for name, version in (numbers["versions"] or {}).items() if version),
    )


def _number(value: Any) -> str:
    return number(float(value))  # results.json has NaN as text


def _median(runs: Sequence[Mapping[str, Any]], key: str) -> str:
    return f"{np.median([run[key] for run in runs]):,.0f}"


def _findings(runs: Sequence[Mapping[str, Any]]) -> str:
    found = Counter(name for run in runs for name in run["findings"])
    return "; ".join(f"{count} of {len(runs)}: {name}" for name, count in found.most_common()) or "none"


spec.TEMPLATES.filters |= {"number": _number, "median": _median, "findings": _findings}
