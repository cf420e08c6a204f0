"""Become a training process: `python -m dreamerjax.experiment.launch OWNER CORES COMMAND...`.

Dies with process OWNER, runs on CORES (such as `0,1`) alone, so that JAX sizes itself to them, ignores SIGUSR1 and SIGUSR2,
with which SLURM warns every process of a job that its time is nearly over (OWNER passes that on as SIGTERM), and executes
COMMAND. All of it happens in a fresh process, since code between fork and exec is not safe in a parent that has threads.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from dreamerjax.core.child_process import die_with_parent


def main(argv: Sequence[str]) -> None:
    """Set up and execute; returns never."""
    owner, cores, *command = argv
    die_with_parent(int(owner))
    for warning in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(warning, signal.SIG_IGN)
    os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
