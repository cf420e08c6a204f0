"""The check of an environment as a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.e2e import trials


def test_environments_in_subprocesses_leave_nothing_behind(tmp_path: Path) -> None:
    arguments = ("env.id=sample_envs:Mixed-v0", "env.vectorization=subprocess", "env.num_envs=2")
    done = trials.run_command("check_env", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "parts.1.flags int32 (2,), 2 + 2 classes, one-hot in 4 numbers" in done.stdout
    assert "with 2 side by side (subprocess)" in done.stdout
    assert not list(tmp_path.iterdir())


SLOW = """
import time
import gymnasium as gym
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

class Slow(CartPoleEnv):
    def step(self, action):
        time.sleep(0.05)
        return super().step(action)

gym.register("Slow-v0", Slow)
"""


def test_ctrl_c(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # else inherited by the process: ignored in the background
    try:
        interrupt(tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)


def interrupt(tmp_path: Path) -> None:
    with trials.running("check_env", "env.id=slow:Slow-v0", cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=trials.PATIENCE)
        assert (process.returncode, err) == (130, "")


def test_the_example_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in a folder of its own, as docs/environments.md has it: checked and stepped."""
    example = Path(__file__).parents[2] / "examples" / "parking.py"
    assert example.read_text() in (example.parents[1] / "docs" / "environments.md").read_text()
    shutil.copy(example, tmp_path)
    checked = trials.run_command("check_env", "env.id=parking:Parking-v0", "env.kwargs.power=0.05", cwd=tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout.endswith("\nno problems, no remarks\n")
    monkeypatch.syspath_prepend(tmp_path)
    arguments = (*trials.RANDOM_ONLY, "env.id=parking:Parking-v0", "env.time_limit=10")
    assert trials.run_here(tmp_path / "runs", *arguments) == 0
