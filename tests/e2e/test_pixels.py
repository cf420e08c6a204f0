"""Training from pictures, as the command line does it: in subprocesses, killed and resumed, beside numbers."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamerjax import Agent
from tests.e2e import trials
from tests.e2e.test_processes import children, is_alive

pytest.importorskip("pygame", reason="CartPole is drawn by pygame-ce, of the extra 'video'")
SMALL = ("env=cartpole_pixels", "env.image_size=[16,16]", "model.cnn_depth=1", "train.eval_every=0", "train.steps=80")


def test_killed_and_resumed_is_the_same_run(tmp_path: Path) -> None:
    """`kill -9` of a trainer whose environments draw in processes of their own: they end, and the run can go on."""
    options = [*trials.TINY, *SMALL, "env.vectorization=subprocess", "replay.capacity=500"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert trials.run_here(whole, *options) == 0
    with trials.running("train", *options, f"run.root={parts}", cwd=tmp_path) as process:
        trials.wait_until(lambda: any(parts.glob("*/checkpoints/latest/save_000001")) or process.poll() is not None)
        workers = children(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert len(workers) >= 2
        trials.wait_until(lambda: not any(is_alive(pid) for pid in workers))
    run = trials.only_run(parts)
    if (run / "summary.json").exists():
        pytest.skip("the run was over before it could be killed")
    assert trials.resume_here(run) == 0
    trials.assert_same_run(run, trials.only_run(whole))
    restored = trials.latest(run)
    assert restored.replay is not None
    pictures = restored.replay["field.image"]
    assert (pictures.dtype, pictures.shape[-3:]) == (np.uint8, (16, 16, 3))
    assert len(np.unique(pictures)) > 10


@pytest.mark.parametrize(
    "overrides",
    [
        ["env=cartpole_both", "env.frame_stack=2", "env.grayscale=true", "train.updates_per_call=2"],
        ["env=cartpole_pixels", "mode=bootstrap"],
    ],
    ids=["stacked grey pictures and numbers", "world model alone"],
)
def test_short_runs(tmp_path: Path, overrides: list[str]) -> None:
    few = ("env.image_size=[16,32]", "model.cnn_depth=1", "train.steps=56", "env.time_limit=20", "train.log_every=2")
    assert trials.run_here(tmp_path, *few, *overrides) == 0
    run = trials.only_run(tmp_path)
    assert trials.summary(run)["outcome"] == "finished"
    logged: list[dict[str, Any]] = [line for line in trials.metrics(run) if "model/decoder/image" in line]
    assert logged
    assert all(np.isfinite(line["model/decoder/image"]) for line in logged)
    assert "wm/surprise/pixel_log_ratio" in logged[-1]
    agent = Agent.load(run)
    env = agent.make_env()
    for seed in (0, 1):  # frames of one episode are not those of the next
        observation, _ = env.reset(seed=seed)
        action, state = agent.act(observation)
        fresh, _ = Agent.load(run).act(observation)
        assert action == fresh
        agent.act(env.step(action)[0], state)


def test_an_environment_that_cannot_draw_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trials.run_here(tmp_path, "env.id=sample_envs:Faulty-v0", "env.pixels=only") == 2
    err = capsys.readouterr().err
    assert err.startswith("error: env.id=sample_envs:Faulty-v0: ")
    assert err.count("\n") == 1
    assert subprocess.run(["ls", tmp_path], capture_output=True, check=True).stdout == b""
