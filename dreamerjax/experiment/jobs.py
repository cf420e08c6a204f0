"""One training process of an experiment: the runs that it trains, its command line, its log, what became of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

from dreamerjax.config.flat import flatten
from dreamerjax.config.keys import written
from dreamerjax.config.overrides import quoted
from dreamerjax.config.population import NAME, SEED, TRACED, shared
from dreamerjax.core.child_process import kill
from dreamerjax.core.errors import UserError
from dreamerjax.experiment.checks import composed
from dreamerjax.experiment.cores import launched
from dreamerjax.experiment.design import Arm, Experiment
from dreamerjax.experiment.states import ExperimentRun, run_name, runs, unchanged


def hold(file: Path, taken: str) -> AbstractContextManager[Any]:
    """A lock, until it is released or this process ends; UserError with what `taken` says if another process has it."""
    try:
        return FileLock(file, thread_local=False).acquire(blocking=False)
    except Timeout:
        raise UserError(taken, exit_code=1) from None


class Work(ABC):
    """What a training process begins, or goes on with."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Of the work and its log."""

    @property
    @abstractmethod
    def log(self) -> Path:
        """What the process prints."""

    @abstractmethod
    def state(self) -> ExperimentRun:
        """Where it stands now; raises UserError if a run has another configuration than it should."""

    @abstractmethod
    def command(self) -> list[str]:
        """The command line that goes on with what can be resumed, or begins the rest where there is nothing to resume."""

    @contextmanager
    def process(self, cores: Sequence[int]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
        """The process that begins it, or goes on with it, on these cores, and where its words begin in the log; awaited.

        Raises UserError: another process does it already; the log cannot be written; a run has another configuration.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        package = str(Path(__file__).resolve().parent.parent.parent)  # children run this code, whatever is installed
        path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
        with hold(self.log.with_suffix(".lock"), f"{self.name} is being run by another process"), self.log.open("a") as log:
            began = self.log.stat().st_size
            popen = subprocess.Popen(
                [*launched(cores), *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": path},
                process_group=0,  # a terminal's Ctrl-C is for the parent alone, which passes it on
            )
            try:
                yield popen, began
            finally:
                popen.wait()

    def error(self, code: int, began: int) -> str | None:
        """What its process has ended with, given the exit code and where its words begin; None if the run is finished."""
        state = self.state()
        if state.state == "finished" and code == 0:
            return None
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return "interrupted" if code > 128 else last_words(self.log, began) or state.error or f"exit code {code}"


@dataclass(frozen=True)
class Job(Work):
    """What one training process does: one (arm, seed) of an experiment, or several as a population; runs lie below `root`."""

    experiment: Experiment
    runs: tuple[tuple[Arm, int], ...]
    root: Path

    @property
    def name(self) -> str:
        (arm, seed), *more = self.runs
        return run_name(arm.name, seed) + (f"_and_{len(more)}_more" if more else "")

    @property
    def log(self) -> Path:
        return self.root / self.experiment.slug / "logs" / f"{self.name}.log"

    def states(self) -> list[ExperimentRun]:
        """Where its runs stand now; raises UserError if one has another configuration than it should."""
        found, keys = runs(self.experiment, self.root), [(arm.name, seed) for arm, seed in self.runs]
        checked = unchanged(self.experiment, {key: found[key] for key in keys})
        return [checked[key] for key in keys]

    def state(self) -> ExperimentRun:
        """Finished if all are; else as the first one that is not."""
        states = self.states()
        return next((state for state in states if state.state != "finished"), states[0])

    def command(self) -> list[str]:
        experiment, every = self.experiment, list(zip(self.runs, self.states(), strict=True))
        left = [(run, state) for run, state in every if state.state != "finished"] or every
        (arm, seed), *more = todo = [run for run, _ in left]
        program = [str(experiment.directory / arm.script)] if arm.script else ["-m", "dreamerjax.train"]
        if resumed := [str(state.path) for _, state in left if state.resumable]:
            return [sys.executable, *program, f"resume={','.join(resumed)}"]
        own = {
            "train.seed": str(seed),
            "run.root": quoted(str(self.root / experiment.slug)),
            "run.name": run_name(arm.name, seed),
            "run.hypothesis": quoted(f"{experiment.hypothesis.change} -> {experiment.hypothesis.expect}"),
            "run.primary_metric": quoted(experiment.metric.name),
        }
        if more:
            own["population.vary"] = _vary(experiment, todo)
        settings = (*experiment.common, *arm.overrides, *(f"{key}={value}" for key, value in own.items()))
        return [sys.executable, *program, *settings]


def populations(
    experiment: Experiment, todo: Sequence[tuple[Arm, int]], states: Mapping[tuple[str, int], ExperimentRun]
) -> list[tuple[tuple[Arm, int], ...]]:
    """The same runs, as few processes as can train them: what begins and what goes on are apart, a script's run is alone."""
    groups: dict[Any, list[tuple[Arm, int]]] = defaultdict(list)
    for arm, seed in todo:
        resumable, settings = states[arm.name, seed].resumable, shared(composed(experiment, arm))
        groups[(arm.name, seed) if arm.script else repr((resumable, settings))].append((arm, seed))
    return [tuple(group) for group in groups.values()]


def _vary(experiment: Experiment, jobs: Sequence[tuple[Arm, int]]) -> str:
    """`population.vary` of runs that begin together."""
    settings = [flatten(composed(experiment, arm)) for arm, _ in jobs]
    values = {key: [written(setting[key]) for setting in settings] for key in TRACED}
    values = {key: words for key, words in values.items() if len(set(words)) > 1}
    names = [quoted(run_name(arm.name, seed)) for arm, seed in jobs]
    values |= {SEED: [str(seed) for _, seed in jobs], NAME: names}
    lists = (f"{key}:[{','.join(words)}]" for key, words in values.items())
    return f"{{{','.join(lists)}}}"


def kill_all() -> None:
    """Kill every training that this process or a worker below it has started: each leads a process group of its own."""
    for child in psutil.Process().children(recursive=True):
        with suppress(OSError):  # it has ended
            if os.getpgid(child.pid) == child.pid:
                kill(child.pid)


def last_words(log: Path, began: int = 0) -> str:
    """What a process said last, as a rule `error: ...`, in what follows so many bytes of its log."""
    with log.open("rb") as file:
        file.seek(began)
        lines = file.read().decode(errors="replace").strip().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1].strip().removeprefix("error: ")
