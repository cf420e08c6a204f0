"""An experiment's runs, weighed: what every arm reached, what does not count, the verdict, and what to be warned of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from dreamerjax.core.errors import UserError
from dreamerjax.experiment.design import Arm, Budget, Experiment, Gate
from dreamerjax.experiment.results import Run, read_run, value
from dreamerjax.experiment.statistics import Estimate, Verdict, contrast_arms, contrast_estimate, estimate, improvement, judge
from dreamerjax.storage.compatibility import require_same


class State(Protocol):
    """What the runner says of one run of an experiment."""

    @property
    def path(self) -> Path | None:
        """The run directory; None of a run that was never started."""

    @property
    def state(self) -> str:
        """`missing`, `finished`, `interrupted` or `failed`."""

    @property
    def error(self) -> str | None:
        """What ended a run that failed."""


@dataclass(frozen=True)
class ArmResult:
    """The comparable runs of one arm, in the order of the experiment's seeds."""

    arm: Arm
    seeds: tuple[int, ...]
    runs: tuple[Run, ...]
    values: np.ndarray  # [n], one per run
    middle: Estimate


@dataclass(frozen=True)
class Absence:
    """A run that does not count, and why."""

    arm: str
    seed: int
    reason: str


@dataclass(frozen=True)
class Analysis:
    """Everything that a report says."""

    experiment: Experiment
    arms: tuple[ArmResult, ...]
    absent: tuple[Absence, ...]
    contrast: Estimate
    improvement: Estimate | None  # probability that a treatment run is better than a control run; None for two factors
    verdict: Verdict
    warnings: tuple[str, ...]


def analyse(experiment: Experiment, states: Mapping[tuple[str, int], State], changed: Sequence[str]) -> Analysis:
    """Weighs what there is.

    Args:
        experiment: as its file says now.
        states: of each (arm, seed).
        changed: keys of the experiment's file that say something else than at its first run.

    Raises:
        UserError: no run can be compared; exit code 1.
    """
    absent: list[Absence] = []
    arms = tuple(_arm_result(experiment, arm, states, absent) for arm in experiment.arms)
    runs = [run for arm in arms for run in arm.runs]
    if not runs:
        first = f", for example {absent[0].arm}, seed {absent[0].seed}: {absent[0].reason}" if absent else ""
        raise UserError(f"experiment {experiment.slug}: none of its {len(absent)} runs can be compared{first}", exit_code=1)
    hypothesis = experiment.hypothesis
    values = {arm.arm.name: arm.values for arm in arms}
    contrast = contrast_estimate(values, experiment.arms, hypothesis.contrast, experiment.confidence)
    few = [arm.name for arm in contrast_arms(experiment.arms, hypothesis.contrast) if len(values[arm.name]) < 2]
    verdict = judge(contrast, higher=hypothesis.higher, by=hypothesis.by)
    if few:
        verdict = Verdict("inconclusive", f"fewer than 2 seeds finished of {', '.join(few)}")
    return Analysis(
        experiment=experiment,
        arms=arms,
        absent=tuple(absent),
        contrast=contrast,
        improvement=_improvement(experiment, values),
        verdict=verdict,
        warnings=tuple(_warnings(experiment, runs, absent, changed)),
    )


def without_places(text: str) -> str:
    """A text without the directories of the absolute paths in it: a report says nothing of the machine's folders."""
    return re.sub(r"(?<![\w.])/(?:[^\s/:'\"]+/)+", "", " ".join(text.split()))


def mixed_code(runs: Sequence[Run]) -> list[str]:
    """Warnings of runs that were not made by one committed version of the code and one set of packages."""
    commits = sorted({run.commit for run in runs})
    dirty = sum(run.dirty for run in runs)
    versions: dict[str, set[str]] = {}
    for run in runs:
        for package, version in (run.meta.get("versions") or {}).items():
            versions.setdefault(package, set()).add(str(version))
    mixed = [f"{package} {', '.join(sorted(found))}" for package, found in sorted(versions.items()) if len(found) > 1]
    warnings = [f"The runs come from {len(commits)} commits: {', '.join(commits)}."] if len(commits) > 1 else []
    warnings += [f"{dirty} of {len(runs)} runs started with changes that were not committed."] if dirty else []
    return warnings + ([f"The runs used different packages: {'; '.join(mixed)}."] if mixed else [])


def _arm_result(experiment: Experiment, arm: Arm, states: Mapping[tuple[str, int], State], absent: list[Absence]) -> ArmResult:
    seeds, runs, values = [], [], []
    for seed in experiment.seeds:
        try:
            run = _finished(states.get((arm.name, seed)))
            values.append(value(run, experiment.metric))
        except UserError as error:
            absent.append(Absence(arm.name, seed, without_places(str(error))))
            continue
        seeds.append(seed)
        runs.append(run)
    array = np.array(values, np.float64)
    return ArmResult(arm, tuple(seeds), tuple(runs), array, estimate(array, experiment.confidence))


def _finished(state: State | None) -> Run:
    if state is None or state.path is None or state.state == "missing":
        raise UserError("never started")
    if state.state != "finished":
        how = "was interrupted" if state.state == "interrupted" else state.state
        raise UserError(f"run {state.path.name} {how}" + (f": {state.error}" if state.error else ""))
    return read_run(state.path)


def _improvement(experiment: Experiment, values: Mapping[str, np.ndarray]) -> Estimate | None:
    contrast = experiment.hypothesis.contrast
    if contrast.factor is not None:
        return None
    treatment, control = ([values[name] for name in names] for names in (contrast.treatment, contrast.control))
    better, worse = (treatment, control) if experiment.hypothesis.higher else (control, treatment)
    return improvement(better, worse, experiment.confidence)


def _warnings(experiment: Experiment, runs: Sequence[Run], absent: Sequence[Absence], changed: Sequence[str]) -> list[str]:
    warnings = []
    if experiment.pilot:
        warnings.append("This is a pilot: its verdict decides nothing.")
    if absent:
        total = len(experiment.arms) * len(experiment.seeds)
        warnings.append(f"{len(absent)} of {total} runs do not count; see the list below.")
    if changed:
        warnings.append(f"experiment.yaml has changed since the first run: {', '.join(changed)}.")
    if experiment.gate is Gate.dynamics:
        warnings += _other_families(runs)
    if experiment.metric.budget is Budget.seconds:
        warnings.append("The budget is wall time: whatever else the machine did moved the results.")
    return warnings + mixed_code(runs)


def _other_families(runs: Sequence[Run]) -> list[str]:
    for run in runs[1:]:
        try:
            require_same(runs[0].meta.get("family") or {}, run.meta.get("family") or {}, runs[0].name)
        except UserError as error:
            return [f"The gate is dynamics, yet the arms are not one model family: {error} ({run.name})."]
    return []
