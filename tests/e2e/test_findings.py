"""Real runs with a fault injected: the collapse watch names it, everywhere it should, and leaves a sound run alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dreamerjax.diagnostics.collapse import CollapseWatch
from tests import tensorboard
from tests.e2e import trials
from tests.experiment.fakes import watch_settings

LONG = ("train.log_every=1", "train.train_ratio=50", "train.eval_every=0")  # 121 updates in the 80 steps after the random ones
FAULTS = {
    "dynamics_on_free_bits": ("loss.free_nats=100",),
    "entropy_collapses": ("optim.actor_lr=0.1", "behavior.entropy=0"),
    "continue_crash": ("loss.scales.continue_=0", "train.train_ratio=120"),  # 300 updates
    "kl_collapse": ("loss.scales.representation=1000", "loss.scales.decoder=0", "optim.model_lr=0.01", "loss.free_nats=0"),
}


def texts(run: Path) -> list[str]:
    """What TensorBoard holds as text under `findings`."""
    found = [value.tensor.string_val for _, value in tensorboard.values(run) if value.tag.startswith("findings")]
    return [text.decode() for strings in found for text in strings]


@pytest.mark.parametrize("name", FAULTS)
def test_an_injected_fault_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert trials.run_here(tmp_path, trials.TRIAL, *LONG, *FAULTS[name]) == 0
    run, out = trials.only_run(tmp_path), capsys.readouterr().out
    found: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in trials.summary(run)["findings"]}
    assert name in found
    entry = found[name]
    assert 40 <= entry["first_step"] <= entry["last_step"] <= 120
    assert f"step {entry['first_step']}: warning: {name}: {entry['evidence']}" in out
    assert f"finding:   {name} at step {entry['first_step']}" in out
    assert any(f"{name}: {entry['evidence']}" in text for text in texts(run))


def test_one_sick_run_shows_most_of_what_there_is(tmp_path: Path) -> None:
    """Dreams end at once, the actor takes one action, the model has learned nothing: the metrics are those of a real run."""
    faults = ("loss.scales.continue_=0", "optim.actor_lr=0.1", "behavior.entropy=0", "optim.model_lr=0")
    looks = ("train.log_every=1", "train.train_ratio=64", "train.eval_every=30", "monitor.dreams_every=30")
    long = ("train.random_steps=120", "train.steps=270", "train.checkpoint_every=1000")
    gates = ("pacing.focus_threshold=100", "monitor.surprise_beta=0.5")
    assert trials.run_here(tmp_path, *long, *looks, *faults, *gates) == 0
    found = {entry["name"] for entry in trials.summary(trials.only_run(tmp_path))["findings"]}
    assert {"worse_than_random", "critic_underestimates", "dreams_end_early", "focus_never_on"} <= found
    assert "open_loop_worse_than_no_change" in found


def test_a_sound_run_has_no_findings(reference: Path) -> None:
    assert trials.summary(reference)["findings"] == []


def test_a_resumed_run_finds_what_the_whole_run_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fault = FAULTS["dynamics_on_free_bits"]
    assert trials.run_here(tmp_path / "whole", trials.TRIAL, *LONG, *fault) == 0
    monkeypatch.setenv("TRIAL", "terminate")
    monkeypatch.setenv("TRIAL_AT", "22")
    assert trials.run_here(tmp_path / "stopped", trials.TRIAL, *LONG, *fault) == 143
    run, whole = trials.only_run(tmp_path / "stopped"), trials.only_run(tmp_path / "whole")
    assert 0 < len(trials.metrics(run)) < len(trials.metrics(whole))
    assert trials.resume_here(run) == 0
    assert trials.summary(run)["findings"] == trials.summary(whole)["findings"] != []
    watch = CollapseWatch(watch_settings(100.0))
    for record in trials.metrics(whole):
        watch.observe(record)
    assert watch.summary() == trials.summary(whole)["findings"]
