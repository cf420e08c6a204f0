"""Tiny runs as a user makes them, in this process or in one of their own, and what is compared between two of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from dreamerjax import train
from dreamerjax.config.cli import main
from dreamerjax.storage.checkpoints import CheckpointStore, Restored
from dreamerjax.storage.logger import CHANGED, WALL_CLOCK, read_metrics

HERE = Path(__file__).parent
BOUND = """
import os, sys
from dreamerjax.core.child_process import die_with_parent
die_with_parent(int(sys.argv[1]))
os.execv(sys.argv[2], sys.argv[2:])
"""
PATIENCE = 120.0  # seconds that a busy machine may take
ENV_PATH = [str(HERE), str(HERE.parent / "envs")]  # of the modules trial_envs and sample_envs
MODEL = (
    "size=tiny model.deter=16 model.hidden=8 model.groups=2 model.classes=4 model.units=8 model.blocks=2 model.bins.count=21"
)
LOOP = (
    "train.batch_size=4 train.batch_length=8 train.train_ratio=8 behavior.horizon=3 behavior.starts=0 train.log_every=5 "
    "train.eval_episodes=2 env.num_envs=2 replay.capacity=2000 parallel.devices=2 optim.warmup=0 optim.model_lr=1e-3"
)
PACE = "train.steps=120 train.random_steps=40 train.eval_every=60 train.checkpoint_every=40"
TRIAL = "env.id=trial_envs:Trial-v0"
TINY = tuple(f"{MODEL} {LOOP} {PACE}".split())  # 19 updates on CartPole-v1: one every four steps after the 40 random ones
RANDOM_ONLY = ("train.steps=80", "train.random_steps=80", "train.checkpoint_every=20")  # no update, so nothing to compile


def run_here(root: Path, *overrides: str) -> int:
    """Train below `root` in this process; returns the exit code."""
    return main(train.run, [*TINY, f"run.root={root}", *overrides])


def resume_here(run: Path, *overrides: str) -> int:
    """Continue a run in this process; returns the exit code."""
    return main(train.run, [f"resume={run}", *overrides])


def die_here(monkeypatch: pytest.MonkeyPatch, at: int, root: Path, *overrides: str) -> None:
    """Train below `root` in this process until step `at` of an environment's life, where the run ends without a word to it."""
    with monkeypatch.context() as patch:
        patch.setenv("TRIAL", "raise")
        patch.setenv("TRIAL_AT", str(at))
        patch.setattr(train, "rescue", lambda run, error: None)
        assert run_here(root, *overrides) == 1


def environment(**variables: str) -> dict[str, str]:
    """Of a process that finds the environments of the tests; tests/conftest.py says where compiled programs are."""
    path = os.pathsep.join([*ENV_PATH, str(HERE.parent.parent)])
    return {**os.environ, "PYTHONPATH": path, **variables}


def bound(*command: str) -> list[str]:
    """The command line of a process that is killed when this one ends."""
    return [sys.executable, "-c", BOUND, str(os.getpid()), *command]


def command(module: str, *arguments: str) -> list[str]:
    """The command line of an entry point."""
    return bound(sys.executable, "-m", f"dreamerjax.{module}", *arguments)


def run_command(module: str, *arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run an entry point to its end in a process of its own."""
    return subprocess.run(
        command(module, *arguments), cwd=cwd, env=environment(**variables), capture_output=True, text=True, timeout=280
    )


@contextmanager
def running(module: str, *arguments: str, cwd: Path | None = None, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """An entry point in a process group of its own, killed at the latest when the block is left."""
    with subprocess.Popen(
        command(module, *arguments),
        env=environment(**variables),
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(condition: Callable[[], Any], seconds: float = PATIENCE) -> None:
    """Poll until the condition holds; fail if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def only_run(root: Path) -> Path:
    """The one run below `root`."""
    (run,) = root.iterdir()
    return run


def summary(run: Path) -> dict[str, Any]:
    """The content of summary.json."""
    content: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return content


def without_wall_clock(record: Mapping[str, Any]) -> dict[str, Any]:
    """A line of metrics without what differs between two equal runs: `time` and all keys under `time/`."""
    return {key: value for key, value in record.items() if key != WALL_CLOCK and not key.startswith(f"{WALL_CLOCK}/")}


def metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what the clock says."""
    return [without_wall_clock(record) for record in read_metrics(run / "metrics.jsonl")]


def latest(run: Path) -> Restored:
    """The newest checkpoint, replay included."""
    return CheckpointStore(run / "checkpoints" / "latest", 2).restore()


def content(directory: Path) -> dict[str, bytes]:
    """Every file below a directory, except what a lock leaves."""
    files = (path for path in directory.rglob("*") if path.is_file() and not path.name.startswith(".lock"))
    return {str(path.relative_to(directory)): path.read_bytes() for path in files}


def assert_same_run(one: Path, other: Path) -> None:
    """Two runs logged the same and ended in the same state, bit for bit: learner, replay, policy, environments, counters.

    One of them may have been resumed with more steps: the line that says so is left out.
    """
    logged, also = ([record for record in metrics(run) if CHANGED not in record] for run in (one, other))
    assert logged == also
    left, right = latest(one), latest(other)
    assert left.step == right.step
    assert _without_clock(left.info) == _without_clock(right.info)
    for name, trees in (("state", (left.arrays, right.arrays)), ("replay", (left.replay, right.replay))):
        jax.tree_util.tree_map_with_path(
            lambda path, a, b, name=name: np.testing.assert_array_equal(a, b, name + jax.tree_util.keystr(path)), *trees
        )


def _without_clock(info: Mapping[str, Any]) -> dict[str, Any]:
    counters = {key: value for key, value in info["counters"].items() if "seconds" not in key}
    return {**info, "counters": counters, "session": None, "files": None}  # the checksums of files tell the time
