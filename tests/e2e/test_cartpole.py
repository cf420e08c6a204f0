"""`make train` once, to the end: CartPole-v1 from the command line with the real model until it is solved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dreamerjax.core.files import read_json_object
from tests.e2e import trials
from tests.e2e.test_evaluation import evaluate_here

SOLVED = 475
OPTIMISED = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "false", "XLA_FLAGS": ""}  # the rest of the suite is compiled without


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_cartpole_is_solved_and_plays_as_well_afterwards(tmp_path: Path) -> None:
    """Within the 8,000 steps that every seed is given; then 20 episodes that neither training nor its evaluations played."""
    options = ["+experiment=cartpole", "train.steps=8000", f"run.root={tmp_path / 'runs'}"]
    with trials.running("train", *options, cwd=tmp_path, **OPTIMISED) as process:
        out, err = process.communicate(timeout=840)
    assert process.returncode == 0, out + err  # XLA may say that compiling is slow, on a busy machine
    run = trials.only_run(tmp_path / "runs")
    summary = trials.summary(run)
    assert (summary["outcome"], summary["error"]) == ("solved", None)
    assert summary["solved_step"] == summary["env_steps"] <= 8000
    assert summary["last_return"] >= SOLVED
    assert evaluate_here(f"run={run}", "episodes=20") == 0
    report = read_json_object(run / "evaluation_latest_greedy.json")
    assert (report["episodes"], report["env_step"]) == (20, summary["env_steps"])
    assert report["return_mean"] + 2 * report["return_std"] / np.sqrt(20) >= SOLVED  # training ends at the first 475
