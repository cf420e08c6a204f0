"""Everything that is to be known of this agent on an accelerator, in under six minutes: `make gpu-check`.

    python -m experiments.accelerator.gpu_check                 # results.json and RESULTS.md in this folder
    python -m experiments.accelerator.gpu_check --only size200m # the jobs whose names this expression finds
    python -m experiments.accelerator.gpu_check --fast          # tries the script on any machine, with tiny sizes

Jobs (`jobs.py`) run in processes of their own (`worker.py`), in waves: those of a wave compile side by side, since that takes
cores and not the accelerator, and then measure one after the other, each alone. A job that fails or takes too long is
recorded as such and the rest goes on. The results are written after each job, so that whatever ends the script loses nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dreamerjax.core.files import write_json, write_text
from experiments.accelerator.jobs import WAVE, Job, all_jobs, fast_jobs
from experiments.accelerator.table import markdown

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TURN = 25.0  # seconds that a job may measure for, alone
EXPECTED_TURN = 5.0  # seconds that it does


class Running:
    """A job's process, and what it has said so far."""

    def __init__(self, job: Job) -> None:
        self.job, self.started = job, time.monotonic()
        self.ready = False
        self.ready_after: float | None = None
        self.figures: dict[str, Any] | None = None
        self._partial: dict[str, Any] | None = None
        self._lines: queue.Queue[tuple[float, str | None]] = queue.Queue()
        self._errors: deque[str] = deque(maxlen=15)
        command = [sys.executable, "-m", "experiments.accelerator.worker", job.function, json.dumps(job.arguments)]
        environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "2", **os.environ, **job.environment}
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put((time.monotonic(), line))
        self._lines.put((time.monotonic(), None))

    def _read_errors(self) -> None:
        self._errors.extend(line.strip()[:500] for line in self._process.stderr or () if line.strip())

    def listen(self, until: float, *, ended: bool) -> bool:
        """Wait until it is ready to measure or has `ended`; False if neither comes before time.monotonic() is `until`."""
        while True:
            if self.figures is not None or (self.ready and not ended):
                return True
            try:
                said, line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return False
            if line is None:
                self._process.wait()
                return True
            kind, _, text = line.partition(" ")
            if kind == "@ready":
                self.ready, self.ready_after = True, said - self.started
            elif kind == "@partial":
                self._partial = json.loads(text)
            elif kind == "@result":
                self.figures = json.loads(text)

    def begin(self) -> None:
        """Its turn has come."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write("\n")
            self._process.stdin.flush()

    def end(self, late: str | None) -> dict[str, Any]:
        """Make sure that nothing of it runs on; what is recorded. `late` says which limit it broke."""
        if self.figures is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
        for reader in self._readers:
            reader.join(5)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        record: dict[str, Any] = {"state": "done", "seconds": time.monotonic() - self.started, "ready_s": self.ready_after}
        if self.figures is None:
            lines = list(self._errors)
            last = lines[-1] if lines else f"exit code {self._process.returncode}"
            record |= {"state": "late" if late else "failed", "error": late or last, "stderr": lines}
        return record | {"figures": self.figures or self._partial or {}}


class Results:
    """The JSON and the table, as far as they have come."""

    def __init__(self, out: Path, jobs: Sequence[Job], limit: float) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._out, self._began = out, time.monotonic()
        self.data: dict[str, Any] = {
            "began": time.strftime("%Y-%m-%d %H:%M:%S"),
            "limit_s": limit,
            "jobs": {job.name: {"state": "not begun", "figures": {}} for job in jobs},
        }

    def put(self, name: str, record: dict[str, Any]) -> None:
        """Add a job's record, and write everything."""
        self.data["jobs"][name] = record
        self.data["seconds"] = time.monotonic() - self._began
        write_json(self._out / "results.json", self.data)
        write_text(self._out / "RESULTS.md", markdown(self.data))
        words = record.get("error") or brief(record["figures"])
        print(f"{self.data['seconds']:6.1f} s  {name}: {record['state']}  {words}", flush=True)


def brief(figures: dict[str, Any]) -> str:
    """The first few numbers."""
    numbers = [f"{name}={value:.4g}" for name, value in figures.items() if isinstance(value, int | float)]
    return " ".join(numbers[:5])


def run_wave(jobs: Sequence[Job], results: Results, deadline: float) -> None:
    """Start all, wait until each is ready to measure or has ended, then let them measure in turn."""
    running = [Running(job) for job in jobs]
    last_call = deadline - EXPECTED_TURN * len(jobs)
    waiting = []
    try:
        for one in running:
            until = min(one.started + one.job.budget, last_call)
            if not one.listen(until, ended=False):
                results.put(one.job.name, one.end(f"not ready after {time.monotonic() - one.started:.0f} s"))
            elif one.ready and one.figures is None:
                waiting.append(one)
            else:
                results.put(one.job.name, one.end(None))
        for one in waiting:
            one.begin()
            in_time = one.listen(min(time.monotonic() + TURN, deadline), ended=True)
            results.put(one.job.name, one.end(None if in_time else "did not measure in time"))
    finally:
        for one in running:
            one.end("ended with the script")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. The exit code is 1 if a job failed; jobs without time are no failure."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.accelerator.gpu_check", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results.json and RESULTS.md")
    parser.add_argument("--limit", type=float, default=330.0, help="seconds for everything")
    parser.add_argument("--wave", type=int, default=WAVE, help="jobs that compile side by side")
    parser.add_argument("--only", default="", help="a regular expression for the names of the jobs")
    parser.add_argument("--fast", action="store_true", help="tiny sizes, on whatever there is, to try the script itself")
    options = parser.parse_args(argv)
    deadline = time.monotonic() + options.limit
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    jobs = [job for job in (fast_jobs() if options.fast else all_jobs()) if re.search(options.only, job.name)]
    results = Results(options.out, jobs, options.limit)
    while jobs and time.monotonic() + 30 < deadline:
        wave, jobs = jobs[: options.wave], jobs[options.wave :]
        run_wave(wave, results, deadline)
    states = [record["state"] for record in results.data["jobs"].values()]
    print(f"{states.count('done')} of {len(states)} jobs done; see {options.out / 'RESULTS.md'}")
    return 1 if "failed" in states else 0


if __name__ == "__main__":
    sys.exit(main())
