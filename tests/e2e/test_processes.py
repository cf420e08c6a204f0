"""A trainer among other processes: on the same run, above its environments, under Ctrl-C."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e import trials
from tests.e2e.trials import PATIENCE, wait_until


@contextmanager
def trainer(root: Path) -> Iterator[tuple[subprocess.Popen[str], Path, list[int]]]:
    """A random policy in two subprocess environments without end: the process, its run and its children's ids."""
    endless = ("train.steps=1000000000", "train.random_steps=1000000000", "env.vectorization=subprocess")
    arguments = (*trials.TINY, trials.TRIAL, *endless, f"run.root={root}")
    with trials.running("train", *arguments, cwd=root.parent) as process:
        wait_until(lambda: any(root.glob("*/checkpoints/latest/save_000002")) or process.poll() is not None)
        yield process, trials.only_run(root), children(process.pid)


def children(pid: int) -> list[int]:
    """The ids of a process's children, from whichever of its threads."""
    lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for text in lists for child in text.split()]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended but was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_the_second_trainer_is_refused_and_nothing_outlives_a_kill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with trainer(tmp_path / "runs") as (process, run, workers):
        assert len(workers) >= 2
        assert trials.resume_here(run) == 1
        assert capsys.readouterr().err == f"error: run {run} is being trained by another process (pid {process.pid})\n"
        assert process.poll() is None
        process.kill()
        wait_until(lambda: not any(is_alive(pid) for pid in workers))
    assert not (run / "summary.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_reaches_the_whole_group_and_the_run_ends_well(tmp_path: Path, number: signal.Signals) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    with trainer(tmp_path / "runs") as (process, run, workers):
        process.send_signal(number)  # as `timeout` does: the process, and then its group
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, err) == (128 + number, "")
        assert "interrupted after" in out
        wait_until(lambda: not any(is_alive(pid) for pid in workers))
    summary = trials.summary(run)
    assert (summary["outcome"], summary["error"]) == ("interrupted", None)
    assert trials.latest(run).step == summary["env_steps"]


@pytest.mark.usefixtures("own_programs")
def test_runs_in_one_process_leave_no_programs_behind(tmp_path: Path) -> None:
    """A sweep makes many. A process can map only so many programs, and past that loading one more is a segmentation fault."""

    def mappings() -> int:
        gc.collect()
        return len(Path("/proc/self/maps").read_text().splitlines())

    counts = []
    for number in range(2):
        assert trials.run_here(tmp_path / str(number), trials.TRIAL) == 0
        counts.append(mappings())
    assert counts[1] < counts[0] + 50
