"""Where the runs of an experiment are executed: in threads of this process, as jobs of submitit, or by workers of Dask.

All three take a `Task` as `concurrent.futures.Executor` takes a function, and give back futures.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, Literal

from dreamerjax.core.child_process import signals_blocked
from dreamerjax.core.console import say
from dreamerjax.core.errors import UserError
from dreamerjax.core.machine import cores
from dreamerjax.experiment.cores import shares, with_shares
from dreamerjax.experiment.jobs import Work

POLL = 0.2  # seconds between two looks at a process
DASK_POLL = 1.0  # the same where a look is a question to the scheduler
CONNECT = 15  # seconds in which a scheduler must answer, and have a worker
NOT_STARTED = "not started"


Future = Any  # of concurrent.futures, or what submitit has like it: `done()` and `result()`


@dataclass
class Task:
    """What an executor does with a job: begin or continue its training process, and wait for its end. It is pickled."""

    job: Work
    process: subprocess.Popen[bytes] | None = None

    def __call__(self, wish: Any = None, on: Sequence[int] | None = None, poll: float = POLL) -> str | None:
        """The run's error, None if it is finished, NOT_STARTED if it was to end before it began.

        Args:
            wish: upon it the process gets SIGTERM; it is awaited until it has written its checkpoint.
            on: the cores for the process; by default those of this one.
            poll: seconds between two looks at the process.

        Raises UserError as `Work.process` does.
        """
        wish = wish or threading.Event()
        if wish.wait(0):
            return NOT_STARTED
        if (state := self.job.state()).state == "finished":
            return None
        with self.job.process(cores() if on is None else on) as (self.process, began):
            announce(f"{'resume' if state.resumable else 'start'}  {self.job.name}")
            try:
                while self.process.poll() is None and not wish.wait(poll):
                    pass
            finally:  # also where the wish cannot be heard any more
                self.process.send_signal(signal.SIGTERM)
        return self.job.error(self.process.returncode, began)

    def checkpoint(self) -> Any:
        """Called by submitit shortly before the job's time is over or it has to give way: save, and submit the rest anew."""
        from submitit.helpers import DelayedSubmission

        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            with suppress(ChildProcessError):  # it had ended
                os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Task(self.job))


@dataclass(frozen=True)
class Executor:
    """Takes jobs, and can be asked to end them all with a checkpoint."""

    submit: Callable[[Sequence[Work]], list[Future]]
    stop: Callable[[], None]


@dataclass(frozen=True)
class Cluster:
    """Where to run instead of in processes of this one, and what to ask for."""

    kind: Literal["slurm", "local", "dask"]
    minutes: int = 60  # submitit: after which a job is ended; it is then continued in a new one, up to three times
    cpus: int = 2  # submitit: of each job
    partition: str | None = None  # slurm: the cluster's default
    address: str | None = None  # dask: of a scheduler that runs; by default workers of this machine, as many as jobs


def announce(text: str) -> None:
    """Say it with the time."""
    say(f"{datetime.now():%H:%M:%S} {text}")


def require(cluster: Cluster | None) -> None:
    """Raise UserError unless jobs can be submitted from here."""
    if cluster is None:
        return
    for word, asked in (("--time", cluster.minutes), ("--cpus", cluster.cpus)):
        if asked < 1:
            raise UserError(f"{word} must be at least 1, not {asked}")
    package, extra = ("distributed", "dask") if cluster.kind == "dask" else ("submitit", "slurm")
    if importlib.util.find_spec(package) is None:
        raise UserError(f"--cluster {cluster.kind} needs {package}: pip install 'dreamerjax[{extra}]'")
    if cluster.kind == "slurm" and shutil.which("sbatch") is None:
        raise UserError("--cluster slurm: there is no sbatch here; run this on a login node of the cluster")


def executor_for(cluster: Cluster | None, jobs: int, folder: Path) -> AbstractContextManager[Executor]:
    """The one asked for: `jobs` runs at once in this process or on Dask workers of this machine; `folder` is submitit's."""
    if cluster is None:
        return in_threads(jobs)
    return on_dask(cluster.address, jobs) if cluster.kind == "dask" else through_submitit(cluster, folder)


@contextmanager
def in_threads(jobs: int) -> Iterator[Executor]:
    """So many threads; each runs one training process at a time, on its own share of the cores."""
    wish = threading.Event()

    def work(job: Work, on: list[int]) -> str | None:
        return Task(job)(wish, on)

    one = with_shares(work, jobs)
    with ThreadPoolExecutor(jobs) as pool:
        yield Executor(lambda todo: [pool.submit(one, job) for job in todo], wish.set)


@contextmanager
def through_submitit(cluster: Cluster, folder: Path) -> Iterator[Executor]:
    """Jobs of SLURM, or of submitit's executor for this machine. SLURM sends SIGTERM to jobs that are cancelled."""
    import submitit

    jobs: list[Any] = []
    submitter = submitit.AutoExecutor(folder=folder, cluster=cluster.kind)
    submitter.update_parameters(timeout_min=cluster.minutes, cpus_per_task=cluster.cpus)
    if cluster.partition is not None:
        submitter.update_parameters(slurm_partition=cluster.partition)

    def submit(todo: Sequence[Work]) -> list[Future]:
        with submitter.batch():  # one array of jobs
            jobs.extend(submitter.submit(Task(job)) for job in todo)
        say(f"submitted {len(jobs)} jobs: {', '.join(job.job_id for job in jobs)}; what they print is in {folder}")
        return jobs

    def stop() -> None:
        for job in jobs:
            job.cancel(check=False)

    yield Executor(submit, stop)


@contextmanager
def on_dask(address: str | None, jobs: int) -> Iterator[Executor]:
    """Workers of a scheduler, one run at a time on each of their threads; without an address, so many workers of this machine.

    A run whose worker died is continued by another one. Where this process has died, its runs are ended.

    Raises UserError if no scheduler with a worker answers at the address in time; exit code 1.
    """
    from distributed import Client, Event, LocalCluster

    with ExitStack() as stack:
        local = address is None
        if local:  # a terminal's Ctrl-C is for this process alone, not for the workers
            if sys.platform != "win32":
                resource_tracker.ensure_running()  # it unblocks signals when it is started
            with signals_blocked():
                cluster = LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR)
            address = stack.enter_context(cluster).scheduler_address
        try:
            client = stack.enter_context(Client(address, timeout=CONNECT))
            client.wait_for_workers(1, timeout=CONNECT)
        except (OSError, ValueError) as error:
            fault = " ".join(str(error).split())
            raise UserError(f"--address {address}: no Dask scheduler with a worker answers there ({fault})", 1) from error
        wish, pool = Event(client=client), client.get_executor(pure=False)
        work = partial(_on_worker, wish=wish, workers=jobs if local else None)
        yield Executor(lambda todo: [pool.submit(work, Task(job)) for job in todo], wish.set)
        wish.clear()  # the scheduler keeps it until then


@dataclass
class _WorkersWish:
    """What the runner wishes, as a worker of Dask hears it: the runs are to end too when it has died, or given them up."""

    event: Any
    worker: Any
    key: Any

    def wait(self, timeout: float) -> bool:
        task = self.worker.state.tasks.get(self.key)
        if task is None or task.state in ("cancelled", "released", "forgotten"):
            return True
        return bool(self.event.wait(timeout) if timeout else self.event.is_set())


def _on_worker(task: Task, *, wish: Any, workers: int | None) -> str | None:
    """Run a task on a worker; those of one machine, so many, are numbered and share its cores."""
    from distributed import get_worker

    worker = get_worker()
    on = None if workers is None else shares(workers)[worker.name]
    return task(_WorkersWish(wish, worker, worker.get_current_task()), on, DASK_POLL)
