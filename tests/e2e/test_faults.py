"""What goes wrong while a run is going on: one line, the right exit code, and nothing good is lost."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from dreamerjax import train
from dreamerjax.agent.learner import Learner
from dreamerjax.training.run_state import RunState
from tests.e2e import trials

STREAM = "after environment step 58: environment trial_envs:Trial-v0 (stream 0)"
FAULT = (trials.TRIAL, *trials.RANDOM_ONLY)


def fail(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], event: str, *overrides: str
) -> tuple[Path, str]:
    """Run until the event at environment step 59 of 80 ends it: the run, and the line that it ended with."""
    monkeypatch.setenv("TRIAL", event)
    monkeypatch.setenv("TRIAL_AT", "30")
    assert trials.run_here(root, *FAULT, *overrides) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    run = trials.only_run(root)
    assert trials.summary(run)["outcome"] == "failed"
    return run, err.removeprefix("error: ").removesuffix("\n")


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (
            "nan_observation",
            f"{STREAM} in step: observation 'state' must be finite, is [",
        ),
        (
            "inf_reward",
            f"{STREAM} in step: reward must be finite, is inf",
        ),
    ],
)
def test_an_invalid_number_stops_the_run_and_never_reaches_the_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], event: str, message: str
) -> None:
    run, line = fail(tmp_path, monkeypatch, capsys, event)
    assert line.startswith(message)
    assert line in trials.summary(run)["error"]
    restored = trials.latest(run)
    assert restored.step == 58
    assert restored.replay is not None
    assert np.isfinite(restored.replay["field.state"]).all()
    assert np.isfinite(restored.replay["field.reward"]).all()


@pytest.mark.parametrize("vectorization", ["sync", "subprocess"])
def test_an_environment_that_raises_stops_a_run_that_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], vectorization: str
) -> None:
    run, line = fail(tmp_path, monkeypatch, capsys, "raise", f"env.vectorization={vectorization}")
    line_of_0 = line.replace("(stream 1)", "(stream 0)")  # in processes of their own both raise, and either is the first
    assert line_of_0.startswith(f"{STREAM} raised RuntimeError in step (")
    assert line.endswith("): the gears are stuck")
    assert trials.summary(run)["error"] == f"EnvironmentFault: {line}"
    assert trials.latest(run).step == 58
    monkeypatch.delenv("TRIAL", raising=False)
    assert trials.resume_here(run, "env.vectorization=sync") == 0
    assert (
        f"resumed {run} at environment step 58, update 0: continued, not exact: the run was saved after a fault"
        in capsys.readouterr().out
    )
    assert trials.summary(run)["env_steps"] == trials.latest(run).step == 80
    assert trials.run_here(tmp_path / "whole", *FAULT) == 0
    before = [record for record in trials.metrics(trials.only_run(tmp_path / "whole")) if record["env_step"] <= 58]
    assert trials.metrics(run)[: len(before)] == before


def test_ctrl_c_twice_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIAL", "interrupt_twice")
    monkeypatch.setenv("TRIAL_AT", "30")
    assert trials.run_here(tmp_path, *FAULT) == 130
    run = trials.only_run(tmp_path)
    assert trials.summary(run)["outcome"] == "interrupted"
    assert trials.latest(run).step == 40


def test_a_signal_while_the_update_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes a minute where a machine is slow; the checkpoint does not wait for it."""
    over = threading.Event()

    def compile_slowly(learner: Learner, *args: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        over.wait(trials.PATIENCE)

    monkeypatch.setattr(Learner, "compile", compile_slowly)
    try:
        assert trials.run_here(tmp_path, trials.TRIAL) == 143
        assert not over.is_set()
    finally:
        over.set()
    run = trials.only_run(tmp_path)
    summary = trials.summary(run)
    assert (summary["outcome"], summary["updates"], trials.latest(run).step) == ("interrupted", 0, summary["env_steps"])


@pytest.fixture
def _disk() -> Iterator[None]:
    """Becomes as large again as it was before a test filled it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("_disk")
def test_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    run, line = fail(tmp_path, monkeypatch, capfd, "full_disk")
    assert line == f"cannot write a checkpoint in {run}/checkpoints/latest: File too large"
    assert caplog.text == ""
    assert trials.summary(run)["error"] == f"UserError: {line}"
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert trials.latest(run).step in (20, 40)  # the second was perhaps being written when the disk filled up
    assert trials.resume_here(run) == 0
    assert trials.summary(run)["env_steps"] == 80


@pytest.mark.usefixtures("_disk")
def test_a_last_checkpoint_that_cannot_be_written_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Checkpoints are written in the background: what fails last must still change the outcome."""
    run, line = fail(tmp_path, monkeypatch, capsys, "full_disk", "train.checkpoint_every=1000")
    assert line == f"cannot write a checkpoint in {run}/checkpoints/latest: File too large"


def test_a_diverging_loss_is_named_and_the_checkpoint_kept(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = trials.content(copy / "checkpoints")
    assert trials.resume_here(copy, "optim.model_lr=1e30", "train.steps=140", "train.eval_every=0") == 1
    err = capsys.readouterr().err
    assert err.startswith("error: update 21: loss ")
    assert "decoder" in err
    assert err.endswith("is not finite; the checkpoint of environment step 120 is kept\n")
    assert trials.content(copy / "checkpoints") == before
    summary = trials.summary(copy)
    assert (summary["outcome"], summary["error"]) == ("failed", f"DivergedError: {err.removeprefix('error: ').strip()}")
    assert trials.resume_here(copy, "optim.model_lr=1e-3") == 0


def test_an_update_beyond_the_memory_is_refused_before_it_is_begun(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "memory_bytes", lambda: 1_000)
    assert trials.resume_here(copy, "train.steps=140") == 2
    err = capsys.readouterr().err
    assert err.startswith("error: an update needs 0.0 GB of memory and this machine has 0.0: lower train.batch_size")
    assert err.count("\n") == 1
    monkeypatch.undo()
    assert trials.resume_here(copy) == 0


def test_a_gradient_that_is_not_finite_counts_as_divergence() -> None:
    """The loss of an update is that of the parameters before it: these would be saved as good."""
    run_state = SimpleNamespace(counters=SimpleNamespace(updates=7), latest=SimpleNamespace(latest_step=lambda: None))
    metrics: dict[str, Any] = {"loss/actor": np.ones(2), "gradient_norm/actor": np.array([1.0, np.nan]), "dream/x": np.ones(2)}
    with pytest.raises(train.DivergedError, match="update 7: gradient of actor is not finite; no checkpoint was made yet"):
        train.require_finite(cast(RunState, run_state), metrics)
    metrics["loss/actor"] = np.array([np.inf, 1.0])
    with pytest.raises(train.DivergedError, match="update 7: loss actor is not finite"):
        train.require_finite(cast(RunState, run_state), metrics)


def test_an_unsupported_observation_space(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert trials.run_here(tmp_path / "runs", "env.id=trial_envs:Words-v0") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "trial_envs:Words-v0" in err
    assert not (tmp_path / "runs").exists()


def test_an_unwritable_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert trials.run_here(tmp_path / "file") == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"cannot write {tmp_path / 'file'}" in err
