"""Run an experiment: every (arm, seed) that is not finished, here or on a cluster."""

from __future__ import annotations

import re
import shutil
import signal
import time
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dreamerjax.core.console import say
from dreamerjax.core.errors import UserError
from dreamerjax.core.files import file_faults
from dreamerjax.core.stopping import Stop, stop_on_signals
from dreamerjax.experiment import spec
from dreamerjax.experiment.design import Experiment, Status
from dreamerjax.experiment.executors import NOT_STARTED, Cluster, Executor, Future, announce, executor_for, require
from dreamerjax.experiment.jobs import Job, Work, hold, kill_all, populations
from dreamerjax.experiment.states import runs, unchanged

POLL = 0.1  # seconds between two looks at the jobs


def run(
    experiment: Experiment,
    root: Path,
    *,
    jobs: int = 1,
    arms: Collection[str] | None = None,
    seeds: Collection[int] | None = None,
    cluster: Cluster | None = None,
    population: bool = False,
) -> int:
    """Run what is not finished, each (arm, seed) at most once; returns the exit code.

    Finished runs are skipped, interrupted and failed ones continued from their checkpoint. SIGINT and SIGTERM are passed
    on as SIGTERM; this returns when the processes have written their checkpoints.

    Args:
        experiment: what to run.
        root: the experiment's runs lie in `<root>/<slug>/`.
        jobs: processes at once, each on its own share of the cores; on a cluster, the workers that Dask starts here.
        arms: only these.
        seeds: only these.
        cluster: where to run instead of in processes of this one.
        population: train runs that one compiled update can serve in one process.

    Raises UserError: no such arm or seed; the cluster is not there or does not answer; another process runs the experiment; a
    run has another configuration.
    """
    _check_selection(experiment, jobs, arms, seeds)
    require(cluster)
    directory = root / experiment.slug
    with file_faults(directory):
        (directory / "logs").mkdir(parents=True, exist_ok=True)
    with hold(directory / ".lock", f"another process is running the experiment of {directory}"):
        states = unchanged(experiment, runs(experiment, root))
        _keep_file(experiment, directory)
        wherever = replace(experiment, directory=experiment.directory.absolute())  # workers may have another folder
        selected = [
            (arm, seed)
            for seed in experiment.seeds
            if seeds is None or seed in seeds
            for arm in experiment.arms
            if arms is None or arm.name in arms
        ]
        unfinished = [(arm, seed) for arm, seed in selected if states[arm.name, seed].state != "finished"]
        say(f"{experiment.slug}: {len(selected)} runs, {len(selected) - len(unfinished)} of them finished before")
        groups = populations(experiment, unfinished, states) if population else [(run,) for run in unfinished]
        todo = [Job(wherever, group, root.absolute()) for group in groups]
        with stop_on_signals() as stop:
            errors = run_all(todo, executor_for(cluster, jobs, directory / "cluster"), stop)
        print_summary(experiment, root)
    failed = [job.name for job in todo if job.name not in errors or errors[job.name] is not None]
    return stop.exit_code or int(bool(failed))


def print_summary(experiment: Experiment, root: Path) -> None:
    """How many runs of each arm stand where, as a table."""
    states, columns = runs(experiment, root), ("finished", "interrupted", "failed", "missing")
    table = Table(title=experiment.slug)
    table.add_column("arm")
    for column in columns:
        table.add_column(column, justify="right")
    for arm in experiment.arms:
        own = [states[arm.name, seed].state for seed in experiment.seeds]
        table.add_row(arm.name, *(str(own.count(column)) for column in columns))  # type: ignore[arg-type]
    Console().print(table)


def run_all(todo: Sequence[Work], chosen: AbstractContextManager[Executor], stop: Stop) -> dict[str, str | None]:
    """Have the jobs executed, and say how each ends.

    A signal ends them with their checkpoints; a second one, or any other exception, kills what this process has started.

    Returns each job's error by its name, None where its run is finished; without those that a signal kept from starting.
    """
    errors: dict[str, str | None] = {}
    if not todo:
        return errors
    with chosen as where:
        try:
            waiting = list(zip(todo, where.submit(todo), strict=True))
            asked = False
            while waiting:
                if stop.signal is not None and not asked:
                    asked = True
                    announce(f"{signal.Signals(stop.signal).name}: waiting for checkpoints")
                    where.stop()
                ended = {job.name for job, future in waiting if future.done()}
                for job, future in [entry for entry in waiting if entry[0].name in ended]:
                    error = _error(future, job)
                    if error != NOT_STARTED:
                        errors[job.name] = error
                        announce(f"end    {job.name}: {error or 'finished'} ({len(errors)} of {len(todo)})")
                waiting = [entry for entry in waiting if entry[0].name not in ended]
                time.sleep(POLL)
        except BaseException:
            try:
                where.stop()
            finally:
                kill_all()
            raise
    return errors


def _error(future: Future, job: Work) -> str | None:
    """What the job returned, or what ended it, in a line."""
    try:
        return future.result()
    except UserError as error:
        return str(error)
    except Exception as error:  # submitit wraps whatever the job raised; executors raise their own where there is no result
        if job.state().state == "interrupted":
            return "interrupted: it was cancelled, its time was over, or its worker died; run the experiment again to go on"
        lines = [line.strip() for line in f"{type(error).__name__}: {error}".splitlines()]
        raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Interrupt): ", line)]
        return (raised or lines)[-1]


def _check_selection(experiment: Experiment, jobs: int, arms: Collection[str] | None, seeds: Collection[int] | None) -> None:
    if jobs < 1:
        raise UserError(f"--jobs must be at least 1, not {jobs}")
    names = [arm.name for arm in experiment.arms]
    for name in arms or ():
        if name not in names:
            raise UserError(f"--arms: {experiment.slug} has no arm {name}; arms: {', '.join(names)}")
    for seed in seeds or ():
        if seed not in experiment.seeds:
            raise UserError(f"--seeds: {experiment.slug} has no seed {seed}; seeds: {', '.join(map(str, experiment.seeds))}")


def _keep_file(experiment: Experiment, directory: Path) -> None:
    """At first keep a copy of the experiment file; later say what has changed since."""
    file, kept = experiment.directory / spec.FILE, directory / spec.FILE
    if not kept.exists():
        shutil.copyfile(file, kept)
        if experiment.status is Status.planned:
            spec.set_status(file, Status.running)
    elif changed := spec.changes(file, kept):
        say(f"note: changed in {file} since the first run: {', '.join(changed)} (before: {kept})")
