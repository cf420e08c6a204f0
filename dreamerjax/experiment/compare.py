"""Any runs as arms: seeds of one setting are an arm, and every arm is set against the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dreamerjax.core.errors import UserError
from dreamerjax.core.run_directory import find_run
from dreamerjax.experiment.design import TOLERANCE, Arm, Budget, Contrast, Metric
from dreamerjax.experiment.records import RunRecord, curve, end, reaches, read_run, value
from dreamerjax.experiment.statistics import Estimate, contrast_estimate, estimate, improvement

CONFIDENCE = 0.95
_NOT_A_SETTING = ("run.", "parallel.", "train.seed", "resume")  # what keys begin with that do not tell one arm from another


@dataclass(frozen=True)
class ComparedArm:
    """Runs that differ in nothing but the seed."""

    label: str  # the keys in which the arms differ, with this one's values
    runs: tuple[RunRecord, ...]
    values: np.ndarray  # [n]
    middle: Estimate
    difference: Estimate | None  # to the first arm; None of that itself
    above: Estimate | None  # probability that a run lies above one of the first arm


def compare_runs(
    names: Sequence[str], root: str | Path, metric: str, *, at: float | None, budget: Budget
) -> tuple[list[ComparedArm], Metric]:
    """The arms that runs make, in the order in which their first runs are named, and by what they are compared.

    `names` are paths, ids under `root`, or `latest`, two at least and each once. A run's number is the last value of `metric`
    at or before `at`, which `budget` counts and is rounded down; by default where they all end.

    Raises UserError: the same seed twice, no such run, different environments, a run that ended before `at` or, without it,
    elsewhere than the others; a metric that a run does not have.
    """
    runs = [read_run(find_run(name, root)) for name in names]
    for run in runs[1:]:
        there, here = (each.config.get("env.id") for each in (runs[0], run))
        if there != here:
            raise UserError(
                f"returns of different environments do not compare: {runs[0].name} is of {there}, {run.name} of {here}"
            )
    for run in runs:
        curve(run, metric, budget)
    question = Metric(metric, budget, at=_common_budget(runs, at, budget))
    arms = _arms(runs)
    labels = _labels([arm[0] for arm in arms])
    values = [np.array([value(run, question) for run in arm]) for arm in arms]
    sides = [Arm("first", ()), Arm("other", ())], Contrast(treatment=("other",), control=("first",))
    against = [
        (
            contrast_estimate({"first": values[0], "other": other}, *sides, CONFIDENCE),
            improvement([other], [values[0]], CONFIDENCE),
        )
        for other in values[1:]
    ]
    return [
        ComparedArm(label, tuple(arm), numbers, estimate(numbers, CONFIDENCE), *compared)
        for label, arm, numbers, compared in zip(labels, arms, values, [(None, None), *against], strict=True)
    ], question


def show(arms: Sequence[ComparedArm], metric: Metric, console: Console) -> None:
    """Prints a table of the arms."""
    at = f"{metric.name} at {metric.at:,} {metric.budget.value}"
    table = Table(title=escape(f"{at}, IQM over seeds [{CONFIDENCE:.0%} interval]"))
    table.add_column("arm", overflow="fold")
    for name in ("seeds", "IQM", "minus the first", "probability above the first"):
        table.add_column(name, justify="right")
    for arm in arms:
        numbers = ["" if number is None else str(number) for number in (arm.middle, arm.difference, arm.above)]
        table.add_row(*map(escape, (arm.label, str(len(arm.runs)), *numbers)))
    console.print(table)


def _common_budget(runs: Sequence[RunRecord], at: float | None, budget: Budget) -> int:
    unit, ends = budget.value, {run.name: end(run, budget) for run in runs}
    shortest, longest = min(ends, key=ends.__getitem__), max(ends, key=ends.__getitem__)
    least = int(ends[shortest])
    if at is None and ends[shortest] < ends[longest] * (1 - TOLERANCE):
        raise UserError(
            f"the runs end at different {unit}: {shortest} at {least:,}, {longest} at {ends[longest]:,.0f}; "
            f"--at {least} compares them where all have been"
        )
    if at is not None and at <= 0:
        raise UserError(f"--at {at:g} must be above 0 {unit}")
    short = [run.name for run in runs if at is not None and not reaches(run, budget, at)]
    if short:
        raise UserError(f"--at {at:g}: {', '.join(short)} ended before it; {least} is the most that all runs reach")
    return least if at is None else int(at)


def _arms(runs: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Runs whose settings are equal, together."""
    arms: list[list[RunRecord]] = []
    for run in runs:
        arm = next((arm for arm in arms if _settings(arm[0]) == _settings(run)), None)
        if arm is None:
            arms.append([run])
            continue
        twin = next((other for other in arm if other.seed == run.seed), None)
        if twin is not None:
            raise UserError(f"runs {twin.name} and {run.name} have the same settings and the same seed {run.seed}")
        arm.append(run)
    return arms


def _settings(run: RunRecord) -> dict[str, Any]:
    return {key: setting for key, setting in run.config.items() if not key.startswith(_NOT_A_SETTING)}


def _labels(firsts: Sequence[RunRecord]) -> list[str]:
    """What tells each arm from the others."""
    settings = [_settings(run) for run in firsts]
    keys = sorted({key for each in settings for key in each if any(other.get(key) != each[key] for other in settings)})
    return [", ".join(f"{key}={each[key]}" for key in keys if key in each) or "all runs" for each in settings]
