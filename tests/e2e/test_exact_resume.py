"""A run that was killed, stopped or damaged and then continued is the run that nothing happened to."""

from __future__ import annotations

import json
import logging
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from dreamerjax.storage.checkpoints import CheckpointStore, Restored
from dreamerjax.training.evaluation import Evaluator
from tests.e2e import trials

VARIANT = (
    "env.id=trial_envs:Quiet-v0",
    "behavior.return_norm_rate=0.5",
    "model.standardize=true",
    "env.num_envs=1",
    "replay.context=false",
    "train.updates_per_call=2",
    "train.eval_every=0",
)


def test_killed_and_resumed_is_the_same_run(reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`kill -9` at environment step 99 of 120, with checkpoints at 40 and, perhaps not complete, at 80."""
    root = tmp_path / "runs"
    arguments = [*trials.TINY, trials.TRIAL, f"run.root={root}"]
    killed = trials.run_command("train", *arguments, cwd=tmp_path, TRIAL="kill", TRIAL_AT="50")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run = trials.only_run(root)
    assert not (run / "summary.json").exists()
    assert trials.metrics(run) != trials.metrics(reference)
    assert trials.resume_here(run) == 0
    assert f"resumed {run} at environment step " in (out := capsys.readouterr().out)
    assert ": exactly\n" in out
    trials.assert_same_run(run, reference)
    assert trials.summary(run)["outcome"] == "finished"


@pytest.mark.parametrize(
    ("event", "exit_code", "at"), [("terminate", 143, 35), ("interrupt", 130, 20)], ids=["SIGTERM", "SIGINT"]
)
def test_stopped_and_resumed_is_the_same_run(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: str, exit_code: int, at: int
) -> None:
    """A signal while training, and one while the random policy still acts."""
    monkeypatch.setenv("TRIAL", event)
    monkeypatch.setenv("TRIAL_AT", str(at))
    assert trials.run_here(tmp_path, trials.TRIAL) == exit_code
    run = trials.only_run(tmp_path)
    stopped = trials.summary(run)
    assert (stopped["outcome"], stopped["error"]) == ("interrupted", None)
    assert 2 * at <= stopped["env_steps"] < 2 * at + 4
    assert trials.latest(run).step == stopped["env_steps"]
    assert trials.resume_here(run) == 0
    trials.assert_same_run(run, reference)


def test_stopped_in_an_evaluation_and_resumed_is_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The evaluation is given up at once, and played when the run goes on."""
    monkeypatch.setitem(cast(Any, Evaluator.__init__).__kwdefaults__, "most_envs", 1)
    long = (trials.TRIAL, "train.eval_episodes=8", "train.steps=80", "train.eval_every=60")
    assert trials.run_here(tmp_path / "whole", *long) == 0
    monkeypatch.setenv("TRIAL", "terminate")
    monkeypatch.setenv("TRIAL_AT", "45")  # training gets there at environment step 90, which there is not
    assert trials.run_here(tmp_path / "parts", *long) == 143
    run = trials.only_run(tmp_path / "parts")
    stopped = trials.summary(run)
    assert (stopped["outcome"], stopped["env_steps"], stopped["last_step"]) == ("interrupted", 60, None)
    assert trials.latest(run).step == 60
    assert trials.resume_here(run) == 0
    trials.assert_same_run(run, trials.only_run(tmp_path / "whole"))


def test_other_settings_resume_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standardised, one environment that must be explored, no stored latents, two updates a call; the process dies without a
    word to the run."""
    assert trials.run_here(tmp_path / "whole", *VARIANT) == 0
    assert trials.metrics(trials.only_run(tmp_path / "whole"))[-1]["explore/share"] > 0.2
    trials.die_here(monkeypatch, 95, tmp_path / "parts", *VARIANT)
    run = trials.only_run(tmp_path / "parts")
    assert trials.summary(run)["outcome"] == "failed"
    assert trials.latest(run).step == 80
    assert trials.resume_here(run) == 0
    trials.assert_same_run(run, trials.only_run(tmp_path / "whole"))


def test_resumed_with_more_steps(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = trials.metrics(copy)
    assert trials.resume_here(copy, "train.steps=140") == 0
    assert f"resumed {copy} at environment step 120, update 19: exactly" in capsys.readouterr().out
    summary = trials.summary(copy)
    assert (summary["outcome"], summary["env_steps"], summary["updates"]) == ("finished", 140, 24)
    assert trials.metrics(copy)[: len(before)] == before
    where = {"env_step": 120, "update": 19}
    assert trials.metrics(copy)[len(before)] == {"resume/changed_settings": 1.0, **where}
    changes = json.loads((copy / "meta.json").read_text())["changes"]
    assert changes == [{**where, "key": "train.steps", "from": "120", "to": "140"}]
    assert trials.latest(copy).step == 140
    assert "steps: 140" in (copy / "config.yaml").read_text()


def test_an_environment_that_is_not_deterministic_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRIAL_NOISE", "1")
    assert trials.run_here(tmp_path, trials.TRIAL, *trials.RANDOM_ONLY) == 0
    run = trials.only_run(tmp_path)
    assert trials.resume_here(run, "train.steps=90", "train.random_steps=90") == 0
    out = capsys.readouterr().out
    assert f"resumed {run} at environment step 80, update 0: continued, not exact: stream 0: observation 'state' differs" in out
    assert trials.summary(run)["env_steps"] == 90


def newest(run: Path) -> Path:
    """The newest checkpoint's directory."""
    return max((run / "checkpoints" / "latest").iterdir())


def damage(checkpoint: Path) -> None:
    """Halve every file of a checkpoint's arrays."""
    for path in (checkpoint / "state").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    copy: Path, reference: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = newest(copy)
    damage(damaged)
    with caplog.at_level(logging.WARNING):
        assert trials.resume_here(copy) == 0
    assert f"checkpoint {damaged} is damaged" in caplog.text
    trials.assert_same_run(copy, reference)


def test_without_an_undamaged_checkpoint_nothing_changes(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for checkpoint in (copy / "checkpoints" / "latest").iterdir():
        damage(checkpoint)
    before = trials.content(copy)
    assert trials.resume_here(copy) == 1
    assert_one_line(capsys.readouterr().err, "no undamaged checkpoint")
    assert trials.content(copy) == before


def test_a_checkpoint_of_another_version_is_one_line(
    copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    restore = CheckpointStore.restore

    def older(*args: Any) -> Restored:
        restored = restore(*args)
        del restored.arrays["exploration"]
        return restored

    monkeypatch.setattr(CheckpointStore, "restore", older)
    before = trials.content(copy)
    assert trials.resume_here(copy) == 2
    assert_one_line(capsys.readouterr().err, f"{copy} was saved by another version of dreamerjax")
    assert trials.content(copy) == before


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("config.yaml", lambda text: text.replace("  seed: 0", "  seed: 1", 1)),
        ("metrics.jsonl", lambda text: text.replace("1", "2", 1)),
        ("metrics.jsonl", lambda text: text[: len(text) // 2]),
        ("metrics.jsonl", lambda text: text.replace(":", "\x01", 1)),
    ],
)
def test_a_changed_file_is_said(
    copy: Path, capsys: pytest.CaptureFixture[str], file: str, change: Callable[[str], str]
) -> None:
    path = copy / file
    changed = change(path.read_text())
    assert changed != path.read_text()
    path.write_text(changed)
    assert trials.resume_here(copy, "train.steps=140") == 0
    assert f"warning: {file} is not as it was when the checkpoint was made" in capsys.readouterr().out
    assert trials.resume_here(copy) == 0
    assert "warning: " not in capsys.readouterr().out


def test_a_finished_run_without_any_checkpoint(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(copy / "checkpoints" / "latest")
    before = trials.content(copy)
    assert trials.resume_here(copy) == 2
    assert_one_line(capsys.readouterr().err, f"no checkpoint in {copy}/checkpoints/latest")
    assert trials.content(copy) == before


def test_killed_before_the_first_checkpoint_it_begins_anew(
    copy: Path, reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copy / "checkpoints" / "latest")
    (copy / "summary.json").unlink()
    assert trials.resume_here(copy, "model.deter=32") == 2
    assert_one_line(capsys.readouterr().err, "model.deter is 16 there and 32 here")
    assert trials.resume_here(copy) == 0
    assert f"resumed {copy} at environment step 0, update 0: exactly" in capsys.readouterr().out
    trials.assert_same_run(copy, reference)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.deter=32", "is of another model family: model.deter is 16 there and 32 here"),
        ("env.id=trial_envs:Trial-v0 env.action_repeat=2", "env.action_repeat is 1 there and 2 here"),
        ("env.num_envs=3", "its streams are 2, this run's are 3"),
        ("env=pendulum", "env= cannot be combined with resume="),
        ("model.detre=32", "model.detre"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changes(
    copy: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    before = trials.content(copy)
    assert trials.resume_here(copy, *override.split()) == 2
    assert_one_line(capsys.readouterr().err, message)
    assert trials.content(copy) == before
    assert CheckpointStore(copy / "checkpoints" / "latest", 2).steps() == [80, 120]


@pytest.mark.parametrize("name", ["missing", "foreign"])
def test_no_run_there(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "config.yaml").write_text("model: 1\n")
    assert trials.resume_here(tmp_path / name) == 2
    assert_one_line(capsys.readouterr().err, str(tmp_path / name))


def assert_one_line(err: str, part: str) -> None:
    """`err` is one line of an error message with `part` in it."""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert part in err
