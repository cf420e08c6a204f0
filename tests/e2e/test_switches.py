"""Switches for looking inside: the profiler's trace, and running without compilation."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest

from tests.e2e import trials


def test_profile_writes_a_trace(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a range that the end of the run cuts short. It begins after this process's first update, which compiles."""
    profiled = ("profile=true", "profile_start=20", "profile_updates=100")
    assert trials.resume_here(copy, *profiled, "train.eval_every=0", "train.steps=130") == 0
    assert f"trace written below {copy}/profile" in capsys.readouterr().out
    assert list((copy / "profile").rglob("*.xplane.pb"))


def test_without_jit(tmp_path: Path) -> None:
    small = ("train.batch_size=2", "train.batch_length=3", "behavior.horizon=2", "train.random_steps=16", "train.steps=20")
    short = ("train.train_ratio=3", "train.log_every=1", "train.eval_every=0", "env.time_limit=3")
    with jax.debug_key_reuse(False):  # which would check every single operation here
        assert trials.run_here(tmp_path, trials.TRIAL, *small, *short, "jit=false") == 0
    run = trials.only_run(tmp_path)
    summary = trials.summary(run)
    assert (summary["outcome"], summary["updates"]) == ("finished", 1)
    assert any("loss/decoder" in record for record in trials.metrics(run))
