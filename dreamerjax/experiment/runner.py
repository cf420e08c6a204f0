"""Run an experiment: every (arm, seed) that is not finished, in processes on this machine or on a cluster."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dreamerjax.core.console import say
from dreamerjax.core.errors import UserError
from dreamerjax.core.files import file_faults
from dreamerjax.core.stopping import Stop, stop_on_signals
from dreamerjax.experiment import spec
from dreamerjax.experiment.cluster import Cluster, require, run_on_cluster
from dreamerjax.experiment.cores import shares
from dreamerjax.experiment.design import Experiment, Status
from dreamerjax.experiment.jobs import Job, Process, Work, hold
from dreamerjax.experiment.population import populations
from dreamerjax.experiment.states import runs, unchanged

POLL = 0.1  # seconds between two looks at the processes


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
        jobs: processes at once, each on its own share of the cores; not for a cluster.
        arms: only these.
        seeds: only these.
        cluster: where to run instead of in processes of this one.
        population: train runs that one compiled update can serve in one process.

    Raises:
        UserError: no such arm, seed or cluster; another process runs the experiment; a run has another configuration.
    """
    _check_selection(experiment, jobs, arms, seeds)
    if cluster is not None:
        require(cluster)
    directory = root / experiment.slug
    with file_faults(directory):
        (directory / "logs").mkdir(parents=True, exist_ok=True)
    with hold(directory / ".lock", f"another process is running the experiment of {directory}"):
        states = unchanged(experiment, runs(experiment, root))
        _keep_file(experiment, directory)
        selected = [
            Job(experiment, arm, seed, root)
            for seed in experiment.seeds
            if seeds is None or seed in seeds
            for arm in experiment.arms
            if arms is None or arm.name in arms
        ]
        unfinished = [job for job in selected if states[job.arm.name, job.seed].state != "finished"]
        say(f"{experiment.slug}: {len(selected)} runs, {len(selected) - len(unfinished)} of them finished before")
        todo = populations(unfinished, states) if population else unfinished
        with stop_on_signals() as stop:
            errors = run_on_cluster(todo, cluster, stop) if cluster else run_here(todo, jobs, stop)
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


def run_here(todo: Sequence[Work], jobs: int, stop: Stop) -> dict[str, str | None]:
    """Run so many jobs at once, each in a process with its own share of the cores, and say how each begins and ends.

    Returns each job's error by its name, None where its run is finished; without those that a signal kept from starting.
    """
    waiting, free = list(todo), shares(jobs)
    running: list[tuple[Process, list[int], float]] = []
    errors: dict[str, str | None] = {}
    passed_on = False
    while running or (waiting and stop.signal is None):
        if stop.signal is not None and not passed_on:
            passed_on = True
            _say(f"{signal.Signals(stop.signal).name}: waiting for the checkpoints of {len(running)} runs")
            for process, _, _ in running:
                process.popen.send_signal(signal.SIGTERM)
        while waiting and free and stop.signal is None:
            job = waiting.pop(0)
            try:
                process = job.start(free[0])
            except UserError as error:
                errors[job.name] = str(error)
                _say(f"error  {job.name}: {error}")
                continue
            running.append((process, free.pop(0), time.monotonic()))
            _say(f"{'resume' if process.resumed else 'start'}  {job.name}")
        for ended in [entry for entry in running if entry[0].popen.poll() is not None]:
            running.remove(ended)
            process, cores, started = ended
            free.append(cores)
            outcome = errors[process.job.name] = process.close()
            done = f"{len(errors)} of {len(todo)}, {time.monotonic() - started:.0f} s"
            _say(f"end    {process.job.name}: {outcome or 'finished'} ({done})")
        time.sleep(POLL)
    return errors


def _say(text: str) -> None:
    say(f"{datetime.now():%H:%M:%S} {text}")


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
