"""Cores are shared out whole, and what is launched stays on its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from dreamerjax.experiment import cores

CORES = sorted(os.sched_getaffinity(0))


def test_cores_are_shared_out_whole() -> None:
    assert cores.shares(1) == [CORES]
    assert cores.shares(len(CORES)) == [[core] for core in CORES]
    assert [core for share in cores.shares(max(1, len(CORES) - 1)) for core in share] == CORES
    assert [len(share) for share in cores.shares(len(CORES) + 1)] == [1] * (len(CORES) + 1)


def test_a_launched_process_has_its_cores_alone() -> None:
    look = [sys.executable, "-c", "import os; print(os.sched_getaffinity(0))"]
    command = [*cores.launched(CORES[-1:]), *look]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"{{{CORES[-1]}}}\n"


def test_items_run_side_by_side_each_on_a_share_that_no_other_has() -> None:
    both, busy, done = threading.Barrier(2, timeout=30), set[tuple[int, ...]](), list[int]()
    lock, jobs = threading.Lock(), len(CORES)

    def work(item: int, own: list[int]) -> None:
        with lock:
            assert tuple(own) not in busy
            busy.add(tuple(own))
        if jobs > 1 and item < 2:
            both.wait()  # the first two are there at the same time
        with lock:
            busy.remove(tuple(own))
            done.append(item)

    cores.side_by_side(work, range(5), jobs)
    assert sorted(done) == list(range(5))


def test_a_failure_is_raised_when_the_others_are_done() -> None:
    done = []

    def work(item: int, own: list[int]) -> None:
        if item == 0:
            raise ValueError(f"item {item} on {len(own)} cores")
        done.append(item)

    with pytest.raises(ValueError, match=f"item 0 on {len(CORES)} cores"):
        cores.side_by_side(work, range(3), 1)
    assert done == [1, 2]
