"""A short run on an environment of each optional extra, with the real packages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.e2e import trials
from tests.envs.extra_envs import need

FEW = ("train.steps=96", "env.time_limit=20", "train.eval_every=48")  # 13 updates
PICTURES = ("env.image_size=[16,16]", "model.cnn_depth=1", "train.steps=96", "env.time_limit=40", "train.eval_every=96")


def test_control_in_processes_and_goes_on_exactly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run whose environments have processes of their own, and the same one in two parts without."""
    need("dmc/cartpole_balance")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert trials.run_here(whole, "env=dmc_cartpole_balance", *FEW, "env.vectorization=subprocess") == 0
    summary = trials.summary(trials.only_run(whole))
    assert (summary["outcome"], summary["env_steps"]) == ("finished", 96)
    assert 0.0 < summary["last_return"] <= 20.0
    assert trials.run_here(parts, "env=dmc_cartpole_balance", *FEW, "train.steps=48") == 0
    assert trials.resume_here(trials.only_run(parts), "train.steps=96") == 0
    assert "not exact" not in capsys.readouterr().out
    trials.assert_same_run(trials.only_run(whole), trials.only_run(parts))


@pytest.mark.parametrize("overlay", ["minigrid_empty", "atari_pong", "crafter"])
def test_a_short_run_from_pictures(overlay: str, tmp_path: Path) -> None:
    need(f"{overlay.partition('_')[0]}/")
    assert trials.run_here(tmp_path, *PICTURES, "train.eval_episodes=1", f"env={overlay}") == 0
    summary = trials.summary(trials.only_run(tmp_path))
    assert summary["outcome"] == "finished"
    assert np.isfinite(summary["last_return"])
