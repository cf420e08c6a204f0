"""The cores that this process may use, shared out to processes of its own.

`python -m dreamerjax.experiment.cores OWNER CORES COMMAND...` becomes such a process: it dies with process OWNER, runs on CORES
(such as `0,1`) alone, so that JAX sizes itself to them, ignores SIGUSR1 and SIGUSR2, with which SLURM warns every process of a
job that its time is nearly over (OWNER passes that on as SIGTERM), gets the signals that OWNER may block, and executes COMMAND.
All of it happens in a fresh process, since code between fork and exec is not safe in a parent that has threads.
"""

from __future__ import annotations

import os
import queue
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dreamerjax.core import machine
from dreamerjax.core.child_process import die_with_parent, unblock_signals

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def shares(jobs: int) -> list[list[int]]:
    """The cores, divided among so many jobs; with more jobs than cores, several share one."""
    cores = machine.cores()
    if jobs > len(cores):
        return [[cores[job % len(cores)]] for job in range(jobs)]
    return [cores[job * len(cores) // jobs : (job + 1) * len(cores) // jobs] for job in range(jobs)]


def launched(cores: Sequence[int]) -> list[str]:
    """What a command line begins with to run on these cores alone and to die with this process."""
    return [sys.executable, "-m", "dreamerjax.experiment.cores", str(os.getpid()), ",".join(map(str, cores))]


def with_shares(work: Callable[[Item, list[int]], Outcome], jobs: int) -> Callable[[Item], Outcome]:
    """`work` as a function of the item alone, to be called by so many threads: each call has its own share of the cores."""
    free = queue.SimpleQueue[list[int]]()
    for share in shares(jobs):
        free.put(share)

    def one(item: Item) -> Outcome:
        cores = free.get()
        try:
            return work(item, cores)
        finally:
            free.put(cores)

    return one


def side_by_side(work: Callable[[Item, list[int]], None], items: Iterable[Item], jobs: int) -> None:
    """`work(item, cores)` for every item, `jobs` at a time, each on its own share of the cores.

    Raises what the first item that failed raised, when all have been worked on.
    """
    one = with_shares(work, jobs)
    with ThreadPoolExecutor(jobs) as pool:
        ended = [pool.submit(one, item) for item in items]
    for future in ended:
        future.result()


def main(argv: Sequence[str]) -> None:
    """Become a launched process; returns never."""
    owner, cores, *command = argv
    die_with_parent(int(owner))
    unblock_signals()
    for warning in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(warning, signal.SIG_IGN)
    if hasattr(os, "sched_setaffinity"):  # elsewhere than on Linux, the processes share all cores
        os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
