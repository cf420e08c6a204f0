"""The runs of an experiment as jobs of a SLURM cluster, or of submitit's executor for this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dreamerjax.core.console import say
from dreamerjax.core.errors import UserError
from dreamerjax.core.machine import cores
from dreamerjax.experiment.jobs import Job, Process
from dreamerjax.experiment.population import PopulationJob

if TYPE_CHECKING:
    from dreamerjax.core.stopping import Stop

POLL = 0.2  # seconds between two looks at the jobs


@dataclass(frozen=True)
class Cluster:
    """Where to run, and what to ask for."""

    kind: Literal["slurm", "local"]
    minutes: int = 60  # after which a job is ended; it is then continued in a new one, up to three times
    cpus: int = 2  # of each job
    partition: str | None = None  # the cluster's default


@dataclass
class Task:
    """What a job of the cluster does: run or continue one training process. It is pickled."""

    job: Job | PopulationJob
    process: Process | None = None

    def __call__(self) -> str | None:
        """The run's error, None if it is finished. Raises UserError as `Job.start` does."""
        if self.job.state().state == "finished":
            return None
        self.process = self.job.start(cores())
        while self.process.popen.poll() is None:
            time.sleep(POLL)
        return self.process.close()

    def checkpoint(self) -> Any:
        """Called shortly before the job's time is over or it has to give way: save, and submit the rest anew."""
        from submitit.helpers import DelayedSubmission

        if self.process is not None:
            self.process.popen.send_signal(signal.SIGTERM)
            with suppress(ChildProcessError):  # it had ended
                os.waitid(os.P_PID, self.process.popen.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Task(self.job))


def run_on_cluster(todo: Sequence[Job | PopulationJob], cluster: Cluster, stop: Stop) -> dict[str, str | None]:
    """Submit the jobs and wait for them; each job's error by its name, None where its run is finished.

    A signal to this process cancels the jobs: SLURM sends them SIGTERM, upon which they write their checkpoints.
    """
    if not todo:
        return {}
    executor = _executor(todo[0].directory / "cluster", cluster)
    with executor.batch():  # one array of jobs
        submitted = {job.name: executor.submit(Task(job)) for job in todo}
    say(f"submitted {len(todo)} jobs: {', '.join(handle.job_id for handle in submitted.values())}")
    errors: dict[str, str | None] = {}
    cancelled = False
    while len(errors) < len(todo):
        if stop.signal is not None and not cancelled:
            cancelled = True
            for handle in submitted.values():
                handle.cancel(check=False)
        for job in todo:
            name = job.name
            if name not in errors and submitted[name].done():
                errors[name] = _error(submitted[name], job)
                say(f"end    {name}: {errors[name] or 'finished'} ({len(errors)} of {len(todo)})")
        time.sleep(POLL)
    return errors


def require(cluster: Cluster) -> None:
    """Raise UserError unless jobs can be submitted from here."""
    if importlib.util.find_spec("submitit") is None:
        raise UserError("--cluster needs submitit: pip install 'dreamerjax[slurm]'")
    if cluster.kind == "slurm" and shutil.which("sbatch") is None:
        raise UserError("--cluster slurm: there is no sbatch here; run this on a login node of the cluster")


def _executor(folder: Path, cluster: Cluster) -> Any:
    import submitit

    executor = submitit.AutoExecutor(folder=folder, cluster=cluster.kind)
    executor.update_parameters(timeout_min=cluster.minutes, cpus_per_task=cluster.cpus)
    if cluster.partition is not None:
        executor.update_parameters(slurm_partition=cluster.partition)
    return executor


def _error(submitted: Any, job: Job | PopulationJob) -> str | None:
    """What the job returned, or what ended it: the error it raised, else where its logs lie."""
    try:
        result: str | None = submitted.result()
    except Exception as error:  # submitit wraps whatever the job raised, and raises its own where there is no result
        if job.state().state == "interrupted":
            return "interrupted: its time was over, or it was cancelled; run the experiment again to go on"
        lines = [line.strip() for line in str(error).splitlines()]
        raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt): ", line)]
        return raised[-1] if raised else f"{lines[0]} (logs in {submitted.paths.folder})"
    return result
