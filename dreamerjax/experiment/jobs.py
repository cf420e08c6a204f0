"""One training process of an experiment: its command line, its log, what became of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from dreamerjax.config.overrides import quoted
from dreamerjax.core.errors import UserError
from dreamerjax.experiment.cores import launched
from dreamerjax.experiment.design import Arm, Experiment
from dreamerjax.experiment.states import RunState, run_name, runs, unchanged


@dataclass(frozen=True)
class Job:
    """One (arm, seed) of an experiment, below `root`."""

    experiment: Experiment
    arm: Arm
    seed: int
    root: Path

    @property
    def name(self) -> str:
        """Of the run and its log."""
        return run_name(self.arm.name, self.seed)

    @property
    def directory(self) -> Path:
        """Of the experiment's runs."""
        return self.root / self.experiment.slug

    @property
    def log(self) -> Path:
        """What the process prints."""
        return self.directory / "logs" / f"{self.name}.log"

    def state(self) -> RunState:
        """Where the run stands now; raises UserError if it has another configuration than its arm."""
        key = (self.arm.name, self.seed)
        return unchanged(self.experiment, {key: runs(self.experiment, self.root)[key]})[key]

    def command(self, state: RunState) -> list[str]:
        """The command line that begins the run, or goes on with it."""
        script = self.arm.script
        program = [sys.executable, *([str(self.experiment.directory / script)] if script else ["-m", "dreamerjax.train"])]
        if state.path is not None and state.resumable:
            return [*program, f"resume={state.path}"]
        hypothesis = self.experiment.hypothesis
        own = {
            "train.seed": str(self.seed),
            "run.root": quoted(str(self.directory)),
            "run.name": self.name,
            "run.hypothesis": quoted(f"{hypothesis.change} -> {hypothesis.expect}"),
            "run.primary_metric": quoted(self.experiment.metric.name),
        }
        return [*program, *self.experiment.common, *self.arm.overrides, *(f"{key}={value}" for key, value in own.items())]

    def start(self, cores: Sequence[int]) -> Process:
        """Start or continue the run on these cores.

        Raises:
            UserError: another process does it already; the log cannot be written; the run has another configuration.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.log.with_suffix(".lock"), thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise UserError(f"{self.name} is being run by another process", exit_code=1) from None
        state = self.state()
        package = str(Path(__file__).resolve().parent.parent.parent)  # children run this code, whatever is installed
        path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
        log = self.log.open("a", encoding="utf-8")
        began = self.log.stat().st_size
        process = subprocess.Popen(
            [*launched(cores), *self.command(state)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": path},
            process_group=0,  # a terminal's Ctrl-C is for the parent alone, which passes it on
        )
        return Process(self, process, lock, log, began, resumed=state.resumable)


@dataclass
class Process:
    """A job that runs."""

    job: Job
    process: subprocess.Popen[bytes]
    lock: FileLock
    log: IO[str]
    began: int  # where its words begin in the log, bytes
    resumed: bool

    def signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        self.process.send_signal(number)

    def ended(self) -> bool:
        """Whether it has; returns at once."""
        return self.process.poll() is not None

    def close(self) -> str | None:
        """Give everything back once it has ended: the error, None if the run is finished."""
        code = self.process.wait()
        self.log.close()
        self.lock.release()
        state = self.job.state()
        if state.state == "finished" and code == 0:
            return None
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        if code > 128:
            return "interrupted"
        return self._last_line() or state.error or f"exit code {code}"

    def _last_line(self) -> str:
        """What it said last, as a rule `error: ...`."""
        with self.job.log.open("rb") as file:
            file.seek(self.began)
            lines = file.read().decode(errors="replace").strip().splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        return (errors or lines or [""])[-1].strip().removeprefix("error: ")
