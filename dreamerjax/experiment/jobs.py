"""One training process: its command line, its log, what became of it; and what it is of a run of an experiment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil
from filelock import FileLock, Timeout

from dreamerjax.config.overrides import quoted
from dreamerjax.core.child_process import kill
from dreamerjax.core.errors import UserError
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
    """A run that a training process begins, or goes on with."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Of the run and its log."""

    @property
    @abstractmethod
    def log(self) -> Path:
        """What the process prints."""

    @abstractmethod
    def state(self) -> ExperimentRun:
        """Where the run stands now; raises UserError if it has another configuration than it should."""

    @abstractmethod
    def command(self, state: ExperimentRun) -> list[str]:
        """The command line that begins the run, or goes on with it."""

    def start(self, cores: Sequence[int]) -> Process:
        """Start or continue the run on these cores.

        Raises:
            UserError: another process does it already; the log cannot be written; the run has another configuration.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        lock = hold(self.log.with_suffix(".lock"), f"{self.name} is being run by another process")
        state = self.state()
        package = str(Path(__file__).resolve().parent.parent.parent)  # children run this code, whatever is installed
        path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
        log = self.log.open("a", encoding="utf-8")
        began = self.log.stat().st_size
        popen = subprocess.Popen(
            [*launched(cores), *self.command(state)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path},
            process_group=0,  # a terminal's Ctrl-C is for the parent alone, which passes it on
        )
        return Process(self, popen, lock, log, began, resumed=state.resumable)


@dataclass(frozen=True)
class Job(Work):
    """One (arm, seed) of an experiment, below `root`."""

    experiment: Experiment
    arm: Arm
    seed: int
    root: Path

    @property
    def name(self) -> str:
        return run_name(self.arm.name, self.seed)

    @property
    def directory(self) -> Path:
        """Of the experiment's runs."""
        return self.root / self.experiment.slug

    @property
    def log(self) -> Path:
        return self.directory / "logs" / f"{self.name}.log"

    @property
    def program(self) -> list[str]:
        """What trains: the command, or the arm's script."""
        script = self.arm.script
        return [sys.executable, *([str(self.experiment.directory / script)] if script else ["-m", "dreamerjax.train"])]

    def state(self) -> ExperimentRun:
        key = (self.arm.name, self.seed)
        return unchanged(self.experiment, {key: runs(self.experiment, self.root)[key]})[key]

    def command(self, state: ExperimentRun) -> list[str]:
        if state.path is not None and state.resumable:
            return [*self.program, f"resume={state.path}"]
        hypothesis = self.experiment.hypothesis
        own = {
            "train.seed": str(self.seed),
            "run.root": quoted(str(self.directory)),
            "run.name": self.name,
            "run.hypothesis": quoted(f"{hypothesis.change} -> {hypothesis.expect}"),
            "run.primary_metric": quoted(self.experiment.metric.name),
        }
        return [*self.program, *self.experiment.common, *self.arm.overrides, *(f"{key}={value}" for key, value in own.items())]


@dataclass
class Process:
    """A job that runs."""

    job: Work
    popen: subprocess.Popen[bytes]
    lock: AbstractContextManager[Any]
    log: IO[str]
    began: int  # where its words begin in the log, bytes
    resumed: bool

    def close(self) -> str | None:
        """Give everything back once it has ended: the error, None if the run is finished."""
        with self.lock, self.log:
            code = self.popen.wait()
        state = self.job.state()
        if state.state == "finished" and code == 0:
            return None
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        if code > 128:
            return "interrupted"
        return last_words(self.job.log, self.began) or state.error or f"exit code {code}"


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
