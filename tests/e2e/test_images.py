"""An agent that sees nothing but images: its dreams examined and filmed while it trains, and afterwards."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pytest

from dreamerjax.config.composition import load_config
from dreamerjax.core.stopping import Stop
from dreamerjax.training import reporting
from dreamerjax.training.run_state import RunState
from dreamerjax.visualization.dream_film import FPS
from dreamerjax.visualization.video import count_frames, has_mp4
from tests.diagnostics.test_belief import played
from tests.e2e import trials
from tests.e2e.test_evaluation import evaluate_here
from tests.report.test_report import written

SEEN = ("env.pixels=only", "env.image_size=[16,32]", "model.cnn_depth=1", "env.grayscale=true", "env.frame_stack=2")

pytest.importorskip("pygame")


def test_examined_and_filmed_in_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And the second time nothing is compiled."""
    config = load_config([*trials.TINY, *SEEN, f"run.root={tmp_path}", "monitor.dream_videos=true"])
    run_state = RunState(config, None, Stop())
    try:
        examine(run_state, (9, 30))
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            examine(run_state, (12, 5))
        assert "ompil" not in caplog.text
    finally:
        run_state.close()
    media = run_state.directory.media
    assert {path.stem for path in media.glob("*.png")} == {"dream_reality_000000000", "open_loop_images_000000000"}
    (video,) = media.glob("dream_000000000_sampled.*")
    assert count_frames(video, FPS) == 13
    found = [record for record in trials.metrics(run_state.directory.path) if "gap/open_loop_image_error" in record]
    assert len(found) == 2


def examine(run_state: RunState, lengths: Sequence[int]) -> None:
    episodes = [played(run_state.world.networks, length) for length in lengths]
    found = run_state.evaluator.calibrate(run_state.learner.averaged(), episodes, 0)
    reporting.log_calibration(run_state, found, episodes)


def test_videos_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trials.run_here(tmp_path, *SEEN, *trials.RANDOM_ONLY) == 0
    run = trials.only_run(tmp_path)
    assert evaluate_here(f"run={run}", "episodes=1", "policy=sampled", "gap=true", "video=true", "dream=true") == 0
    out, suffix = capsys.readouterr().out, "mp4" if has_mp4() else "gif"
    episode, dream = (run / "media" / f"{kind}_000000080_latest_sampled.{suffix}" for kind in ("episode", "dream"))
    assert f"videos:\n  {episode}\n  {dream}\n" in out
    assert "open loop of images: error" in out
    report = json.loads((run / "evaluation_latest_sampled.json").read_text())
    length = round(report["length_mean"])
    assert np.isfinite(report["gap"]["open_loop_image_error"])
    assert count_frames(dream, FPS) == length + 1
    assert count_frames(episode, 25.0) == length // 2 + 1 + length % 2
    page = written(run)
    assert "open_loop_images_000000080.png" in page.text
    assert ("video/mp4" if has_mp4() else "image/gif") in page.sources
