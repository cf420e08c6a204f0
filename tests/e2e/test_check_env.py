"""The check of an environment as a process of its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.e2e import trials


def test_environments_in_subprocesses_leave_nothing_behind(tmp_path: Path) -> None:
    arguments = ("env.id=sample_envs:Mixed-v0", "env.vectorization=subprocess", "env.num_envs=2")
    done = trials.run_command("check_env", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "parts.1.flags int32 (2,), 2 + 2 classes, one-hot in 4 numbers" in done.stdout
    assert "with 2 side by side (subprocess)" in done.stdout
    assert not list(tmp_path.iterdir())


def test_ctrl_c(tmp_path: Path) -> None:
    with trials.running("check_env", "env.id=sample_envs:Probe-v0", cwd=tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=trials.PATIENCE)
        assert (process.returncode, err) == (130, "")
