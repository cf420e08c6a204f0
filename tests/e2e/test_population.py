"""Several runs in one process: each is as it would be alone, and what ends one of them ends no other."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from dreamerjax import train
from dreamerjax.config.cli import main
from dreamerjax.core.run_directory import RunDirectory
from dreamerjax.training import summary
from tests.e2e import trials

SEEDS = "population.seeds=0,1,2,3"
RATES = "population.vary.optim.model_lr"


def train_together(root: Path, *overrides: str) -> int:
    """A population below `root`, in this process; returns the exit code."""
    return main(train.run, [*trials.TINY, trials.TRIAL, f"run.root={root}", *overrides], together=train.run_together)


def members(root: Path) -> list[Path]:
    """The runs below `root`, by their names."""
    return sorted(root.iterdir(), key=lambda path: path.name[18:])


def outcomes(root: Path) -> list[str]:
    return [trials.summary(run)["outcome"] for run in members(root)]


def assert_alike(one: Path, other: Path) -> None:
    """Two runs logged the same and learned the same, up to rounding."""
    logged, also = trials.metrics(one), trials.metrics(other)
    assert [record.keys() for record in logged] == [record.keys() for record in also]
    for left, right in zip(logged, also, strict=True):
        np.testing.assert_allclose(list(left.values()), list(right.values()), rtol=1e-3, atol=1e-4)
    states = [trials.latest(run) for run in (one, other)]
    assert states[0].step == states[1].step
    for trees in ((states[0].arrays, states[1].arrays), (states[0].replay, states[1].replay)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), *trees)


def test_a_member_is_the_run_that_it_would_be_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """After 200 updates: what it logged, learned, stored and says of itself."""
    longer = ("train.steps=844", "train.eval_every=400", "train.checkpoint_every=400")
    assert train_together(tmp_path / "together", *longer, "population.seeds=0,1", f"{RATES}=[1e-3,2e-3]") == 0
    out = capsys.readouterr().out
    runs = members(tmp_path / "together")
    assert [run.name[18:] for run in runs] == [
        f"Trial-v0_model_lr-{lr}_seed-{seed}" for lr in ("0.001", "0.002") for seed in (0, 1)
    ]
    name, member = runs[3].name[18:], runs[3]
    assert f"{name} | finished after 844 environment steps, 200 updates" in out
    own = ("train.seed=1", "optim.model_lr=2e-3", f"run.name={name}")
    assert trials.run_here(tmp_path / "alone", trials.TRIAL, *longer, *own) == 0
    alone = trials.only_run(tmp_path / "alone")
    assert_alike(member, alone)
    assert trials.metrics(member) != trials.metrics(runs[2])
    config = (alone / "config.yaml").read_text().replace(str(tmp_path / "alone"), str(tmp_path / "together"))
    assert (member / "config.yaml").read_text() == config
    assert RunDirectory.open(member).meta["seed"] == 1
    summaries: list[dict[str, Any]] = [trials.summary(run) for run in (member, alone)]
    for key in ("outcome", "env_steps", "updates", "verdict", "advice", "best_step", "replay_steps"):
        assert summaries[0][key] == summaries[1][key]


def test_a_member_that_diverges_leaves_the_others_as_they_are(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_together(tmp_path, f"{RATES}=[1e-3,1e30,2e-3,4e-3]") == 1
    assert outcomes(tmp_path) == ["finished", "finished", "finished", "failed"]
    assert_alike(members(tmp_path)[0], reference)
    err = capsys.readouterr().err
    assert err.startswith("error: Trial-v0_model_lr-1e-30: update ")  # a name has no plus sign
    assert "is not finite" in err
    assert err.count("\n") == 1


def test_a_member_whose_environment_raises_ends_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRIAL", "raise")
    monkeypatch.setenv("TRIAL_AT", "30")
    assert train_together(tmp_path, SEEDS, *trials.RANDOM_ONLY) == 1
    assert outcomes(tmp_path) == ["failed", "finished", "finished", "finished"]
    told = capsys.readouterr()
    assert told.err.startswith(
        "error: Trial-v0_seed-0: after environment step 58: environment trial_envs:Trial-v0 (stream 0) raised"
    )
    lines = [line for line in told.out.splitlines() if "after" in line and "environment steps" in line]
    assert [line.partition(" | ")[0] for line in lines] == [f"Trial-v0_seed-{seed}" for seed in range(4)]
    figures = summary.brief(next(path.parent for path in tmp_path.glob("*seed-0/summary.json")))
    assert f"│ {figures['time']} " in told.out


def test_a_signal_ends_all_with_checkpoints_and_they_go_on_together(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRIAL", "terminate")
    monkeypatch.setenv("TRIAL_AT", "40")
    assert train_together(tmp_path, SEEDS) == 128 + signal.SIGTERM
    assert outcomes(tmp_path) == ["interrupted"] * 4
    runs = members(tmp_path)
    assert all(trials.latest(run).step == trials.summary(run)["env_steps"] for run in runs)
    names = ",".join(run.name for run in runs)
    assert main(train.run, [f"resume={names}", f"run.root={tmp_path}"], together=train.run_together) == 0
    assert outcomes(tmp_path) == ["finished"] * 4
    assert_alike(runs[0], reference)


def test_a_second_signal_ends_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIAL", "interrupt_twice")
    monkeypatch.setenv("TRIAL_AT", "30")
    assert train_together(tmp_path, SEEDS, *trials.RANDOM_ONLY) == 128 + signal.SIGINT
    assert outcomes(tmp_path) == ["interrupted"]  # the others had not begun


def test_a_member_goes_on_alone(tmp_path: Path) -> None:
    assert train_together(tmp_path, SEEDS, *trials.RANDOM_ONLY) == 0
    run = members(tmp_path)[2]
    assert trials.resume_here(run, "train.steps=100", "train.random_steps=100") == 0
    assert (trials.summary(run)["env_steps"], RunDirectory.open(run).meta["seed"]) == (100, 2)
