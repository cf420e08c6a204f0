"""The report of an experiment: REPORT.md with the verdict first, two pictures, and every number in results.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dreamerjax.core.files import write_json, write_text
from dreamerjax.core.machine import machine
from dreamerjax.experiment.analysis import Analysis, ArmResult, analyse
from dreamerjax.experiment.design import RULE, Budget, Experiment, Status
from dreamerjax.experiment.figures import ArmCurves, ArmValues, Grid, draw_curves, draw_metric
from dreamerjax.experiment.markdown import ESTIMATOR, render
from dreamerjax.experiment.results import Run, curve, end
from dreamerjax.experiment.statistics import RESAMPLES, Estimate


def write_report(experiment: Experiment, root: Path) -> Path:
    """Writes REPORT.md, curves.png, metric.png and results.json beside the experiment's file; returns the first.

    The text of NOTES.md, where a researcher discusses the results, ends the report. Once every run has finished the
    experiment's status becomes `reported`.

    Args:
        experiment: read from its file.
        root: directory of the runs.

    Raises:
        UserError: a run has another configuration than its arm; or no run can be compared, or a file cannot be written, with
            exit code 1.
    """
    from dreamerjax.experiment.runner import runs
    from dreamerjax.experiment.spec import FILE, changes, set_status
    from dreamerjax.experiment.states import unchanged

    states, directory, computer = unchanged(experiment, runs(experiment, root)), experiment.directory, machine()
    first = root / experiment.slug / FILE  # the file as it was at the first run
    analysis = analyse(experiment, states, changes(directory / FILE, first) if first.is_file() else ())
    draw(analysis)
    write_json(directory / "results.json", results(analysis, computer))
    notes = directory / "NOTES.md"
    discussion = notes.read_text(encoding="utf-8") if notes.is_file() else ""
    write_text(directory / "REPORT.md", render(analysis, discussion, computer))
    if all(state.state == "finished" for state in states.values()):
        set_status(directory / FILE, Status.reported)
    return directory / "REPORT.md"


def draw(analysis: Analysis) -> None:
    """Writes curves.png and metric.png beside the experiment's file."""
    experiment, metric = analysis.experiment, analysis.experiment.metric
    arms = [arm for arm in analysis.arms if arm.runs]
    draw_curves(
        experiment.directory / "curves.png",
        [ArmCurves(arm.arm.name, tuple(curve(run, metric.name, metric.budget) for run in arm.runs)) for arm in arms],
        title=experiment.question,
        metric=metric.name,
        budget=metric.budget,
        at=metric.at,
        confidence=experiment.confidence,
    )
    draw_metric(
        experiment.directory / "metric.png",
        [ArmValues(arm.arm.name, arm.values, arm.middle) for arm in arms],
        title=experiment.question,
        metric=metric.name,
        grid=sweep_grid(arms),
    )


def sweep_grid(arms: list[ArmResult]) -> Grid | None:
    """Interquartile means of a grid over exactly two swept keys, with two levels of each or more; else None."""
    levels = [dict(arm.arm.levels) for arm in arms]
    keys = list(dict.fromkeys(key for level in levels for key in level))
    if len(keys) != 2 or any(len(level) != 2 for level in levels):
        return None
    rows, columns = (tuple(dict.fromkeys(level[key] for level in levels)) for key in keys)
    if min(len(rows), len(columns)) < 2 or len(arms) < len(rows) * len(columns) / 2:
        return None  # a line, or a random sweep, in which hardly any pair of levels meets
    values = np.full((len(rows), len(columns)), np.nan)
    for arm, level in zip(arms, levels, strict=True):
        values[rows.index(level[keys[0]]), columns.index(level[keys[1]])] = arm.middle.value
    return Grid(keys[0], keys[1], rows, columns, values)


def results(analysis: Analysis, computer: dict[str, Any]) -> dict[str, Any]:
    """Every number of the report, JSON-able but for NaN."""
    experiment, hypothesis, metric = analysis.experiment, analysis.experiment.hypothesis, analysis.experiment.metric
    runs = [run for arm in analysis.arms for run in arm.runs]
    return {
        "experiment": experiment.slug,
        "date": experiment.date,
        "question": experiment.question,
        "verdict": analysis.verdict.name,
        "reason": analysis.verdict.reason,
        "contrast": _numbers(analysis.contrast),
        "probability_of_improvement": _numbers(analysis.improvement),
        "hypothesis": {
            "change": hypothesis.change,
            "expect": hypothesis.expect,
            "direction": "higher" if hypothesis.higher else "lower",
            "by": hypothesis.by,
            "contrast": vars(hypothesis.contrast),
        },
        "metric": {
            "name": metric.name,
            "statistic": metric.statistic.value,
            "budget": metric.budget.value,
            "start": metric.start,
            "at": metric.at,
        },
        "rule": RULE,
        "confidence": experiment.confidence,
        "estimator": ESTIMATOR,
        "resamples": RESAMPLES,
        "arms": [_arm(arm) for arm in analysis.arms],
        "absent": [vars(absence) for absence in analysis.absent],
        "warnings": analysis.warnings,
        "machine": computer,
        "versions": runs[0].meta.get("versions"),
    }


def _arm(arm: ArmResult) -> dict[str, Any]:
    values = arm.values if len(arm.values) else np.array([np.nan])
    return {
        "name": arm.arm.name,
        "overrides": arm.arm.overrides,
        "script": arm.arm.script,
        "levels": dict(arm.arm.levels),
        "interquartile_mean": _numbers(arm.middle),
        "mean": values.mean(),
        "min": values.min(),
        "max": values.max(),
        "runs": [_run(*entry) for entry in zip(arm.seeds, arm.runs, arm.values, strict=True)],
    }


def _run(seed: int, run: Run, number: float) -> dict[str, Any]:
    return {
        "seed": seed,
        "run": run.name,
        "value": number,
        **{budget.value: end(run, budget) for budget in Budget},
        "outcome": run.summary.get("outcome"),
        "findings": run.findings,
        "commit": run.commit,
        "dirty": run.dirty,
    }


def _numbers(estimate: Estimate | None) -> dict[str, float] | None:
    return None if estimate is None else vars(estimate)
