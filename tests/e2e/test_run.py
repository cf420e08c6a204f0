"""A run from the command line: what it does, what it leaves behind, and that the seed decides all of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dreamerjax.config.composition import config_from_yaml
from dreamerjax.core.formatting import number
from dreamerjax.storage.logger import read_metrics
from tests.e2e import trials

Cartpole = tuple[Path, subprocess.CompletedProcess[str]]


def test_a_sweep_names_its_runs_and_ends_with_a_table(tmp_path: Path) -> None:
    done = trials.run_command("train", *trials.TINY, "-m", "train.seed=0,1", *trials.RANDOM_ONLY, cwd=tmp_path, COLUMNS="200")
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert [name[18:] for name in names] == ["CartPole-v1_seed-0", "CartPole-v1_seed-1"]
    table = done.stdout[done.stdout.rindex("TensorBoard") :]
    assert "last return" in table
    assert [name for name in names if name in table and f"finished │ {name}" in table] == names


def test_run_directory_is_complete(cartpole: Cartpole) -> None:
    run, _ = cartpole
    assert run.name.endswith("_first")
    ignored = (".lock", "events.out.tfevents", "evaluation_")  # the last from tests that look at this run too
    assert {path.name for path in run.iterdir() if not path.name.startswith(ignored)} == {
        "config.yaml",
        "meta.json",
        "metrics.jsonl",
        "checkpoints",
        "media",
        "summary.json",
    }
    assert len(list(run.glob("events.out.tfevents*"))) == 1
    assert (run / "media" / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    config = config_from_yaml(run / "config.yaml")
    assert (config.model.deter, config.env.id, config.run.name) == (16, "CartPole-v1", "first")
    meta = json.loads((run / "meta.json").read_text())
    assert (meta["hypothesis"], meta["seed"]) == ("it runs", 0)
    assert len(meta["devices"]) == 2
    assert "dreamerjax.train" in meta["command"]


def test_summary_and_checkpoints(cartpole: Cartpole) -> None:
    run, _ = cartpole
    summary = trials.summary(run)
    restored = trials.latest(run)
    assert (summary["outcome"], summary["error"]) == ("finished", None)
    assert (summary["env_steps"], summary["updates"]) == (120, 19)
    assert restored.step == summary["last_step"] == 120
    assert restored.arrays["train"]["updates"] == summary["updates"]
    assert restored.replay is not None
    assert np.isfinite(restored.replay["field.reward"]).all()
    assert summary["best_return"] >= summary["last_return"] > 0
    assert (run / "checkpoints" / "best").is_dir()


def test_metrics_are_logged_on_schedule(cartpole: Cartpole) -> None:
    run, _ = cartpole
    records = read_metrics(run / "metrics.jsonl")
    losses = [record for record in records if "loss/decoder" in record]
    assert [record["update"] for record in losses] == [5, 10, 15]
    assert all(np.isfinite(value) for record in losses for value in record.values())
    evaluations = [record for record in records if "eval/greedy/return_mean" in record]
    assert [record["env_step"] for record in evaluations] == [60, 120]
    assert all("eval/sampled/return_min" in record for record in evaluations)


def test_baseline_is_the_random_policys_return(cartpole: Cartpole) -> None:
    run, done = cartpole
    records = read_metrics(run / "metrics.jsonl")
    random = [record["episode/return"] for record in records if "episode/return" in record and record["env_step"] <= 40]
    (baseline,) = [record for record in records if "baseline/return_mean" in record]
    assert baseline["baseline/return_mean"] == np.mean(random) == trials.summary(run)["baseline_return"]
    assert f"random policy: mean return {number(float(np.mean(random)))} over {len(random)} episodes" in done.stdout


def test_output_says_where_to_look(cartpole: Cartpole) -> None:
    run, done = cartpole
    assert "finished after 120 environment steps, 19 updates" in done.stdout
    assert f"python -m dreamerjax.evaluate run={run}" in done.stdout
    assert f"python -m dreamerjax.train resume={run} train.steps=240\n" in done.stdout
    assert f"python -m dreamerjax.report run={run}" in done.stdout
    assert f"{run}/media/learning_curve.png" in done.stdout
    assert done.stderr == ""


def test_same_seed_same_metrics(cartpole: Cartpole, poles: Path) -> None:
    trials.assert_same_run(cartpole[0], poles)


def test_another_seed_other_metrics(reference: Path, another: Path) -> None:
    own, others = (
        [record["loss/decoder"] for record in trials.metrics(run) if "loss/decoder" in record] for run in (another, reference)
    )
    assert len(own) == len(others)
    assert set(own).isdisjoint(others)


def test_stops_when_an_evaluation_solves_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Random episodes reach a return of 1 long before the first evaluation does, and stop nothing."""
    assert trials.run_here(tmp_path, trials.TRIAL, "train.stop_at_return=1", "train.eval_every=50") == 0
    summary = trials.summary(trials.only_run(tmp_path))
    assert (summary["outcome"], summary["env_steps"], summary["solved_step"]) == ("solved", 50, 50)
    assert summary["baseline_return"] > 1
    assert summary["solved_seconds"] > 0
    assert "solved after 50 environment steps" in capsys.readouterr().out
    run = trials.only_run(tmp_path)
    assert trials.resume_here(run, "train.stop_at_return=1000", "train.steps=60") == 0
    summary = trials.summary(run)
    assert (summary["outcome"], summary["env_steps"], summary["solved_step"]) == ("finished", 60, None)
