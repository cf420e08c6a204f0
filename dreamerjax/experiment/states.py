"""Where the runs of an experiment stand, as their directories say."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dreamerjax.config.composition import config_from_yaml
from dreamerjax.config.flat import flatten
from dreamerjax.core.errors import UserError
from dreamerjax.core.files import read_json_object
from dreamerjax.core.formatting import differences
from dreamerjax.core.run_directory import is_run, read_summary
from dreamerjax.experiment.checks import composed
from dreamerjax.experiment.design import TOLERANCE, Arm, Experiment, Metric
from dreamerjax.storage.checkpoints import saved_in

_IRRELEVANT = re.compile(r"run\..*|parallel\..*|resume|jit|profile.*|compilation_cache")  # to what a run computes


@dataclass(frozen=True)
class ExperimentRun:
    """One (arm, seed). `interrupted`: it can be resumed. `failed`: it ended with an error, or before the budget."""

    path: Path | None  # the run directory that counts; None where the run is missing
    state: Literal["missing", "finished", "interrupted", "failed"]
    error: str | None = None
    resumable: bool = False  # whether there is a checkpoint to go on from


MISSING = ExperimentRun(None, "missing")


def run_name(arm: str, seed: int) -> str:
    """The name of a run, which its directory and its log bear."""
    return f"{arm}_seed{seed}"


def runs(experiment: Experiment, root: str | Path = "runs") -> dict[tuple[str, int], ExperimentRun]:
    """The state of every run of an experiment; its run directories lie in `<root>/<slug>/`.

    Of several directories for the same arm and seed (killed before a first checkpoint, failed and tried again) the one
    that got furthest counts, and it alone.
    """
    found = by_name(Path(root) / experiment.slug)
    return {
        (arm.name, seed): furthest(found.get(run_name(arm.name, seed), ()), experiment.metric)
        for seed in experiment.seeds
        for arm in experiment.arms
    }


def by_name(directory: Path) -> dict[str, list[Path]]:
    """The run directories in a directory, oldest first, by the names of the runs."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(directory.glob("*/")):
        if is_run(path):
            found[str(read_json_object(path / "meta.json").get("name"))].append(path)
    return found


def furthest(paths: Iterable[Path], metric: Metric) -> ExperimentRun:
    """The state of the run directory that got furthest towards the metric's budget; `MISSING` if there is none."""

    def progress(state: ExperimentRun) -> tuple[bool, bool, str]:
        return state.state == "finished", state.resumable, state.path.name if state.path else ""

    return max((_state(path, metric) for path in paths), key=progress, default=MISSING)


def unchanged(experiment: Experiment, states: dict[tuple[str, int], ExperimentRun]) -> dict[tuple[str, int], ExperimentRun]:
    """The same states, once sure that each run has the configuration that the file gives its arm now.

    A failed run of another configuration is of no more use: it becomes `missing`.

    Raises UserError: a finished or interrupted run has another configuration.
    """
    arms = {arm.name: arm for arm in experiment.arms}
    checked = dict(states)
    for (name, seed), state in states.items():
        difference = None if state.path is None else _difference(experiment, arms[name], seed, state.path)
        if difference and state.state != "failed":
            raise UserError(
                f"{state.path}: {difference} in {experiment.directory}/experiment.yaml; runs of two configurations are never "
                "mixed: undo the change, name the arm anew, or move the run away"
            )
        if difference:
            checked[name, seed] = MISSING
    return checked


def _difference(experiment: Experiment, arm: Arm, seed: int, path: Path) -> str | None:
    """The first key in which a run's configuration is not its arm's, with both values."""
    now = {**flatten(composed(experiment, arm)), "train.seed": seed}
    there = flatten(config_from_yaml(path / "config.yaml"))
    different = ((key, *pair) for key, pair in differences(there, now).items() if not _IRRELEVANT.fullmatch(key))
    return next((f"{key} is {was} in this run and {is_now}" for key, was, is_now in different), None)


def _state(path: Path, metric: Metric) -> ExperimentRun:
    summary, resumable = read_summary(path), bool(saved_in(path / "checkpoints" / "latest"))
    if summary.get("outcome") in ("finished", "solved", "stopped"):
        reached = summary.get(metric.budget.name, 0)
        if reached >= metric.at * (1 - TOLERANCE):
            return ExperimentRun(path, "finished", resumable=resumable)
        error = f"it ended at {metric.budget.name} = {reached:g}, before the budget of {metric.at}"
        return ExperimentRun(path, "failed", error, resumable)
    if summary.get("outcome") == "failed":
        return ExperimentRun(path, "failed", summary.get("error"), resumable)
    return ExperimentRun(path, "interrupted", resumable=True) if resumable else MISSING
