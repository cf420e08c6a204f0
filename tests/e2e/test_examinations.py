"""Dreams compared with held-out episodes while a run trains."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamerjax.visualization.dream_film import FPS
from dreamerjax.visualization.video import count_frames
from tests import tensorboard
from tests.e2e import trials

DREAMS = (trials.TRIAL, "monitor.dreams_every=50", "monitor.dream_videos=true")  # at the evaluations of steps 60 and 120


@pytest.fixture(scope="module")
def examined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("examined")
    assert trials.run_here(root, *DREAMS) == 0
    return trials.only_run(root)


def test_metrics_and_figures_are_made_when_due(examined: Path) -> None:
    found = [record for record in trials.metrics(examined) if "gap/return_imagined" in record]
    assert [record["env_step"] for record in found] == [60, 120]
    for record in found:
        assert record["gap/return_bias"] == pytest.approx(record["gap/return_imagined"] - record["gap/return_real"])
        assert {
            "gap/return_rank",
            "gap/kl",
            "gap/reward_bias/01",
            "gap/continue_bias/01",
            "gap/open_loop_error",
        } <= record.keys()
    pictures = {path.name for path in (examined / "media").glob("*_0*.png")}
    assert pictures == {f"{name}_000000{step:03d}.png" for name in ("dream_reality", "open_loop") for step in (60, 120)}
    shown = [(step, value.tag) for step, value in tensorboard.values(examined) if value.HasField("image")]
    assert sorted(shown) == [(step, f"gap/{name}") for step in (60, 120) for name in ("dream_reality", "open_loop")]


def test_every_examination_has_its_video(examined: Path) -> None:
    videos = sorted((examined / "media").glob("dream_0*_sampled.*"))
    assert [path.stem for path in videos] == ["dream_000000060_sampled", "dream_000000120_sampled"]
    assert all(1 < count_frames(path, FPS) <= 13 for path in videos)
    shown = [(step, value.tag) for step, value in tensorboard.values(examined / "media")]
    assert shown == [(60, "video/dream"), (120, "video/dream")]


def test_looking_changes_nothing(examined: Path, reference: Path) -> None:
    plain = [record for record in trials.metrics(examined) if not any(key.startswith("gap/") for key in record)]
    assert plain == trials.metrics(reference)


def test_resumed_it_is_examined_when_it_would_have_been(
    examined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIAL", "terminate")
    monkeypatch.setenv("TRIAL_AT", "45")
    assert trials.run_here(tmp_path, *DREAMS) == 143
    run = trials.only_run(tmp_path)
    assert trials.resume_here(run) == 0
    trials.assert_same_run(run, examined)


def test_no_multiple_no_examination(reference: Path) -> None:
    assert not any("gap/kl" in record for record in trials.metrics(reference))
    assert not list((reference / "media").glob("dream_reality*"))
