"""An experiment's runs, weighed: what every arm reached, what does not count, the verdict, and what to be warned of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dreamerjax.core.errors import UserError
from dreamerjax.core.machine import machine
from dreamerjax.experiment.design import RULE, Arm, Budget, Experiment, Gate, Statistic
from dreamerjax.experiment.power import smallest_effect
from dreamerjax.experiment.records import RunRecord, end, read_run, value
from dreamerjax.experiment.states import ExperimentRun
from dreamerjax.experiment.statistics import (
    ESTIMATOR,
    RESAMPLES,
    Estimate,
    Verdict,
    contrast_arms,
    contrast_estimate,
    estimate,
    improvement,
    judge,
    log_rank,
)
from dreamerjax.storage.compatibility import require_same


@dataclass(frozen=True)
class ArmResult:
    """The comparable runs of one arm, in the order of the experiment's seeds."""

    arm: Arm
    runs: tuple[RunRecord, ...]
    values: np.ndarray  # [n], one per run
    middle: Estimate


def weigh(
    experiment: Experiment, states: Mapping[tuple[str, int], ExperimentRun]
) -> tuple[tuple[ArmResult, ...], list[dict[str, Any]]]:
    """What every arm reached, and the runs that do not count, from the state of each (arm, seed).

    Raises UserError: no run can be compared; exit code 1.
    """
    arms, absent = [], []
    for arm in experiment.arms:
        runs, values = [], []
        for seed in experiment.seeds:
            try:
                run = _finished(states[arm.name, seed])
                values.append(value(run, experiment.metric))
                runs.append(run)
            except UserError as error:
                absent.append({"arm": arm.name, "seed": seed, "reason": without_places(str(error))})
        array = np.array(values, np.float64)
        arms.append(ArmResult(arm, tuple(runs), array, estimate(array, experiment.rule.confidence)))
    if not any(arm.runs for arm in arms):
        first = "for example {arm}, seed {seed}: {reason}".format(**absent[0])
        message = f"experiment {experiment.slug}: none of its {len(absent)} runs can be compared, {first}"
        raise UserError(message, exit_code=1)
    return tuple(arms), absent


def results(
    experiment: Experiment, arms: Sequence[ArmResult], absent: Sequence[Mapping[str, Any]], changed: Sequence[str]
) -> dict[str, Any]:
    """The content of results.json: the verdict, and every number of the report.

    `arms` have at least one run, see `weigh`; `absent` does not count; `changed` are keys of the experiment's file that say
    something else than at its first run.
    """
    hypothesis, metric, confidence = experiment.hypothesis, experiment.metric, experiment.rule.confidence
    runs = [run for arm in arms for run in arm.runs]
    values = {arm.arm.name: arm.values for arm in arms}
    contrast = contrast_estimate(values, experiment.arms, hypothesis.contrast, confidence)
    better, ranks = None, None
    if hypothesis.contrast.factor is None:
        sides = [[values[name] for name in names] for names in (hypothesis.contrast.treatment, hypothesis.contrast.control)]
        above, below = sides if hypothesis.higher else reversed(sides)
        better = improvement(above, below, confidence)
        if metric.statistic is Statistic.time_to:  # the log-rank test of both sides, and how many runs never got there
            treatment, control = map(np.concatenate, sides)
            censored = {"treatment": int((treatment >= metric.at).sum()), "control": int((control >= metric.at).sum())}
            ranks = {"p": log_rank(treatment, control, metric.at), "censored": censored}
    few = [arm.name for arm in contrast_arms(experiment.arms, hypothesis.contrast) if len(values[arm.name]) < 2]
    verdict = judge(contrast, higher=hypothesis.higher, by=hypothesis.by)
    if few:
        verdict = Verdict("inconclusive", f"fewer than 2 seeds finished of {', '.join(few)}")
    return {
        "experiment": experiment.slug,
        "date": experiment.date,
        "question": experiment.question,
        "verdict": verdict.name,
        "reason": verdict.reason,
        "contrast": contrast._asdict(),
        "smallest_effect": smallest_effect(values, experiment),
        "log_rank": ranks,
        "probability_of_improvement": better._asdict() if better else None,
        "hypothesis": {
            "change": hypothesis.change,
            "expect": hypothesis.expect,
            "direction": "higher" if hypothesis.higher else "lower",
            "by": hypothesis.by,
            "contrast": vars(hypothesis.contrast),
        },
        "metric": {
            "name": metric.name,
            "statistic": metric.statistic.name,
            "budget": metric.budget.name,
            "start": metric.start,
            "at": metric.at,
            "threshold": metric.threshold,
        },
        "rule": RULE,
        "confidence": confidence,
        "estimator": ESTIMATOR,
        "resamples": RESAMPLES,
        "arms": [_arm(arm) for arm in arms],
        "absent": list(absent),
        "warnings": _warnings(experiment, runs, absent, changed),
        "machine": machine(),
        "versions": runs[0].meta.get("versions"),
    }


def without_places(text: str) -> str:
    """A text without the directories of the absolute paths in it: a report says nothing of the machine's folders."""
    return re.sub(r"(?<![\w.])/(?:[^\s/:'\"]+/)+", "", " ".join(text.split()))


def mixed_code(runs: Sequence[RunRecord]) -> list[str]:
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


def _arm(arm: ArmResult) -> dict[str, Any]:
    values = arm.values if len(arm.values) else np.array([np.nan])
    return {
        "name": arm.arm.name,
        "overrides": arm.arm.overrides,
        "script": arm.arm.script,
        "levels": dict(arm.arm.levels),
        "interquartile_mean": arm.middle._asdict(),
        "mean": values.mean(),
        "min": values.min(),
        "max": values.max(),
        "runs": [
            {
                "seed": run.seed,
                "run": run.name,
                "value": value,
                **{budget.name: end(run, budget) for budget in Budget},
                "outcome": run.summary.get("outcome"),
                "findings": run.findings,
                "commit": run.commit,
                "dirty": run.dirty,
            }
            for run, value in zip(arm.runs, arm.values, strict=True)
        ],
    }


def _finished(state: ExperimentRun) -> RunRecord:
    if state.path is None:
        raise UserError("never started")
    if state.state != "finished":
        how = "was interrupted" if state.state == "interrupted" else state.state
        raise UserError(f"run {state.path.name} {how}" + (f": {state.error}" if state.error else ""))
    return read_run(state.path)


def _warnings(
    experiment: Experiment, runs: Sequence[RunRecord], absent: Sequence[Mapping[str, Any]], changed: Sequence[str]
) -> list[str]:
    warnings = []
    if experiment.pilot:
        warnings.append("This is a pilot: its verdict decides nothing.")
    if absent:
        total = len(experiment.arms) * len(experiment.seeds)
        warnings.append(f"{len(absent)} of {total} runs do not count; see the list below.")
    if changed:
        warnings.append(f"experiment.yaml has changed since the first run: {', '.join(changed)}.")
    if experiment.gate is Gate.dynamics:
        for run in runs[1:]:
            try:
                require_same(runs[0].meta.get("family") or {}, run.meta.get("family") or {}, runs[0].name)
            except UserError as error:
                warnings.append(f"The gate is dynamics, yet the arms are not one model family: {error} ({run.name}).")
                break
    if experiment.metric.budget is Budget.seconds:
        warnings.append("The budget is wall time: whatever else the machine did moved the results.")
    return warnings + mixed_code(runs)
