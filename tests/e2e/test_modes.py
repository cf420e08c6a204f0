"""Bootstrap and dreamer runs from the command line, and that resuming one never begins it again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests.e2e import trials

DREAM = ("mode=dreamer", trials.TRIAL, "run.name=dream")


@pytest.fixture(scope="module")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world model from 12 updates on the random policy's episodes."""
    root = tmp_path_factory.mktemp("bootstrap")
    assert trials.run_here(root, trials.TRIAL, "mode=bootstrap", "train.updates=12") == 0
    return trials.only_run(root)


def params(run: Path) -> dict[str, Any]:
    tree: dict[str, Any] = trials.latest(run).arrays["train"]
    return tree


def same(one: Any, other: Any) -> bool:
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


def optimizer_updates(state: dict[str, Any], part: str) -> int:
    """How many updates a saved part's optimiser counts: the last link of its chain does."""
    return int(state["optimizer"][part]["2"]["count"])


def dream(root: Path, source: Path, *overrides: str) -> Path:
    assert trials.run_here(root, *DREAM, f"from={source}", *overrides) == 0
    return trials.only_run(root)


def test_bootstrap_makes_so_many_updates_of_the_model_alone(bootstrap: Path, tmp_path: Path) -> None:
    summary = trials.summary(bootstrap)
    assert (summary["outcome"], summary["updates"], summary["last_return"]) == ("finished", 12, None)
    state = params(bootstrap)
    assert optimizer_updates(state, "world_model") == 12
    assert optimizer_updates(state, "actor") == optimizer_updates(state, "critic") == 0
    records = trials.metrics(bootstrap)
    assert not any("loss/actor" in record or "eval/greedy/return_mean" in record for record in records)
    assert {record["pacing/behavior"] for record in records if "pacing/behavior" in record} == {0.0}


def test_a_frozen_model_is_the_other_runs_to_the_last_bit(bootstrap: Path, tmp_path: Path) -> None:
    run = dream(tmp_path, bootstrap, "freeze_world_model=true")
    before, after = params(bootstrap), params(run)
    for tree in ("params", "optimizer"):
        assert same(before[tree]["world_model"], after[tree]["world_model"])
    assert not same(before["params"]["actor"], after["params"]["actor"])
    meta = json.loads((run / "meta.json").read_text())
    assert meta["source"] == {"run": str(bootstrap), "env_step": trials.latest(bootstrap).step, "updates": 12}
    assert int(after["updates"]) == trials.summary(run)["updates"] == 19  # its own, not those of the other run


def test_dreamer_goes_on_with_model_actor_and_critic(reference: Path, tmp_path: Path) -> None:
    """Without an update in between, all that another run trained is there, with its optimiser; the step count is not."""
    run = dream(tmp_path, reference, *trials.RANDOM_ONLY)
    before, after = params(reference), params(run)
    for tree in ("params", "optimizer", "slow_critic", "return_scale"):
        assert same(before[tree], after[tree]), tree
    assert (int(before["updates"]), int(after["updates"])) == (19, 0)


def test_reset_actor_critic_draws_them_anew(reference: Path, tmp_path: Path) -> None:
    run = dream(tmp_path, reference, "reset_actor_critic=true", *trials.RANDOM_ONLY)
    before, after = params(reference), params(run)
    assert same(before["params"]["world_model"], after["params"]["world_model"])
    assert same(before["optimizer"]["world_model"], after["optimizer"]["world_model"])
    for part in ("actor", "critic"):
        assert not same(before["params"][part], after["params"][part])
        assert optimizer_updates(after, part) == 0
    assert same(after["slow_critic"], after["params"]["critic"])
    assert float(after["return_scale"]["correction"]) == 0


def test_resume_neither_resets_nor_restarts(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault of findings_of_the_log.md#01-19b: a resumed dreamer run began at step 0 with a fresh actor-critic.

    Killed once and resumed without the other run, it is the run that nothing happened to.
    """
    arguments = (*DREAM, "reset_actor_critic=true")
    source = Path(shutil.copytree(reference, tmp_path / "source"))
    whole = dream(tmp_path / "whole", source, "reset_actor_critic=true")
    root = tmp_path / "killed"
    trials.die_here(monkeypatch, 50, root, *arguments, f"from={source}")
    shutil.rmtree(source)
    run = trials.only_run(root)
    step, actor = trials.latest(run).step, params(run)["params"]["actor"]
    assert step >= 40
    assert trials.resume_here(run) == 0
    trials.assert_same_run(run, whole)
    assert not same(actor, params(reference)["params"]["actor"])
    steps = [record["env_step"] for record in trials.metrics(run)]
    assert steps == sorted(steps)
    assert trials.resume_here(run, "train.steps=160") == 0
    assert trials.summary(run)["env_steps"] == 160
    assert optimizer_updates(params(run), "actor") > optimizer_updates(params(whole), "actor")


def test_bootstrap_collects_with_the_policy_of_another_run(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its latents are another model's and not stored; after a kill it goes on without the other run."""
    arguments = (trials.TRIAL, "mode=bootstrap", "train.random_steps=0", "train.updates=16", "train.checkpoint_every=20")
    source = Path(shutil.copytree(reference, tmp_path / "source"))
    assert trials.run_here(tmp_path / "whole", *arguments, f"from={source}") == 0
    whole = trials.only_run(tmp_path / "whole")
    given, restored = params(reference)["average"], trials.latest(whole)
    assert same(restored.arrays["given_policy"]["actor"], given["actor"])
    assert not same(restored.arrays["train"]["params"]["world_model"], given["world_model"])
    root = tmp_path / "killed"
    trials.die_here(monkeypatch, 25, root, *arguments, f"from={source}")
    shutil.rmtree(source)
    run = trials.only_run(root)
    assert trials.resume_here(run) == 0
    trials.assert_same_run(run, whole)


def test_paced_runs_resume_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every gate that has a state, with an average short enough to move it within a tiny run."""
    gates = (
        "pacing.model_warmup=2",
        "pacing.wm_ac_ratio=2",
        "pacing.surprise_scale_ac_lr=true",
        "pacing.focus_threshold=0.01",
        "pacing.focus_max=2",
        "pacing.camp_ratio=1.01",
        "pacing.camp_logs=1",
        "pacing.camp_updates=3",
        "pacing.kl_spike=pause",
        "pacing.kl_spike_factor=1.01",
        "pacing.kl_pause=2",
        "pacing.surprise_window=2",
        "monitor.surprise_beta=0.5",
        "behavior.entropy_schedule=cosine",
        "behavior.entropy_updates=5",
        "behavior.entropy_end=0",
        "optim.model_lr=0",  # else the loss only falls, and nothing surprises
        "train.log_every=1",
    )
    assert trials.run_here(tmp_path / "whole", trials.TRIAL, *gates) == 0
    whole = trials.only_run(tmp_path / "whole")
    logged = [record for record in trials.metrics(whole) if "pacing/model" in record]
    assert {record["pacing/model"] for record in logged} == {1.0}
    assert 0 < sum(record["pacing/behavior"] for record in logged) < len(logged)
    for gate in ("focus", "camp", "kl_pause"):
        assert any(record[f"pacing/{gate}"] > 0 for record in logged), gate
    assert any(record["pacing/lr_scale"] < 1 for record in logged)
    monkeypatch.setenv("TRIAL", "terminate")
    monkeypatch.setenv("TRIAL_AT", "48")
    assert trials.run_here(tmp_path / "stopped", trials.TRIAL, *gates) == 143
    run = trials.only_run(tmp_path / "stopped")
    assert trials.resume_here(run) == 0
    trials.assert_same_run(run, whole)


def test_a_kl_spike_can_end_a_run_and_resuming_overrules_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spike = ("pacing.kl_spike=stop", "pacing.kl_spike_factor=1.001", "pacing.surprise_window=1", "monitor.surprise_beta=0.5")
    assert trials.run_here(tmp_path, trials.TRIAL, *spike, "optim.model_lr=0") == 0
    run, out = trials.only_run(tmp_path), capsys.readouterr().out
    summary = trials.summary(run)
    assert summary["outcome"] == "stopped"
    assert 0 < summary["updates"] < 19
    assert f"stopped by a KL spike at update {summary['updates']}" in out
    assert f"stopped after {summary['env_steps']} environment steps" in out
    assert trials.resume_here(run, "pacing.kl_spike=ignore") == 0
    assert (trials.summary(run)["outcome"], trials.summary(run)["updates"]) == ("finished", 19)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("mode=dreamer",), "mode=dreamer needs a run whose world model it uses: from=runs/<id>"),
        (("mode=dreamer", "from=nowhere"), "no run at nowhere"),
        (("from=somewhere",), "from=somewhere needs mode=dreamer (its world model) or mode=bootstrap (its policy)"),
        (("freeze_world_model=true",), "freeze_world_model=true needs mode=dreamer, not mode=full"),
        (("mode=dreamer", "from={run}", "model.deter=32"), "of another model family: model.deter is 16 there and 32 here"),
        (("pacing.camp_ratio=0.9",), "pacing.camp_ratio must be above 1"),
        (("pacing.wm_ac_ratio=2", "train.updates_per_call=2"), "pacing.wm_ac_ratio decides update by update"),
        (("train.updates=3", "train.updates_per_call=2"), "train.updates must be divisible by train.updates_per_call (2): 4"),
        (("pacing.adaptive_ratio=true", "pacing.wm_ac_ratio=9"), "must be at most pacing.wm_ac_ratio_max (8)"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    words = [argument.format(run=reference) for argument in arguments]
    assert trials.run_here(tmp_path, trials.TRIAL, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["mode=full", "from=other", "reset_actor_critic=false"])
def test_how_a_run_begins_cannot_be_changed_when_it_goes_on(
    reference: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    assert trials.resume_here(reference, key) == 2
    assert f"{key.partition('=')[0]}= cannot be combined with resume=" in capsys.readouterr().err
