"""The runner with real training processes: what is skipped, continued, tried again, refused, and what a signal leaves."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dreamerjax.core.run_directory import RunDirectory
from dreamerjax.experiment import __main__ as command_line
from dreamerjax.experiment import spec
from dreamerjax.experiment.states import run_name, runs
from tests.e2e import trials
from tests.e2e.test_processes import is_alive
from tests.e2e.trials import PATIENCE, wait_until
from tests.experiment import files

SCRIPT = """
import os, signal, sys
from pathlib import Path
from dreamerjax import train
from dreamerjax.config.cli import main
from dreamerjax.core.errors import UserError

plain, flag = train.collect, Path(__file__).with_suffix(".flag")

def collect(session):
    if session.env_steps >= 60:
        FAULT
    plain(session)

train.collect = collect
sys.exit(main(train.run))
"""
DIE_ONCE = "if not flag.exists(): flag.touch(); session.latest.wait(); os.kill(os.getpid(), signal.SIGKILL)"
FAIL = "raise UserError('a fault on purpose', 1)"
ENDLESS = [*files.RANDOM, "train.steps=1000000000", "train.random_steps=1000000000", "train.checkpoint_every=200"]


def call(root: Path, *arguments: str) -> int:
    """The command line below `root`, in this process."""
    return command_line.main([*arguments, "--experiments", str(root / "experiments"), "--root", str(root / "runs")])


def directories(root: Path) -> list[str]:
    """The names of the trial's run directories, without the time."""
    return sorted(path.parent.name[18:] for path in (root / "runs" / "trial").glob("*/meta.json"))


def states(root: Path) -> dict[str, str]:
    """The state of each run, by its name."""
    experiment = spec.load("trial", root / "experiments")
    return {run_name(*key): state.state for key, state in runs(experiment, root / "runs").items()}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished experiment, not to be written to: see `copy`."""
    root = tmp_path_factory.mktemp("done")
    files.write(root / "experiments", {"seeds": [5], "pilot": True, "hypothesis.expect": "it's {more} $x, 'so', a=b"})
    assert call(root, "run", "trial", "--jobs", "2") == 0
    return root


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    """The finished experiment, to be changed."""
    return Path(shutil.copytree(done, tmp_path / "copy"))


def test_runs_say_what_they_are_for_and_lie_in_their_place(done: Path) -> None:
    assert directories(done) == ["a_seed5", "b_seed5"]
    states = runs(spec.load("trial", done / "experiments"), done / "runs")
    assert list(states) == [("a", 5), ("b", 5)]
    for (arm, seed), state in states.items():
        assert state.path is not None
        assert state.state == "finished"
        meta = RunDirectory.open(state.path).meta
        assert meta["name"] == run_name(arm, seed)
        assert (meta["seed"], meta["primary_metric"]) == (5, "episode/return")
        assert meta["hypothesis"] == "b for a -> it's {more} $x, 'so', a=b"
        assert "finished after 80 environment steps" in (done / "runs" / "trial" / "logs" / f"{arm}_seed5.log").read_text()
    assert spec.load("trial", done / "experiments").status.name == "running"
    kept = done / "runs" / "trial" / "experiment.yaml"
    assert spec.changes(done / "experiments" / "trial" / "experiment.yaml", kept) == []


def test_the_list_counts_finished_runs(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.write(copy / "experiments", {"seeds": []}, slug="broken")
    assert call(copy, "list") == 0
    out = capsys.readouterr().out
    assert re.search(r"trial .* running .* 2/2 .* Does it run\?", out)
    assert re.search(r"broken .* invalid", out)


def test_what_is_finished_is_skipped(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = trials.content(copy)
    assert call(copy, "run", "trial") == 0
    out = capsys.readouterr().out
    assert "2 runs, 2 of them finished before" in out
    assert "start" not in out
    assert trials.content(copy) == before


def test_another_configuration_is_refused_but_not_for_what_does_not_count(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    same = [*files.RANDOM, "jit=false", "run.checkpoints_to_keep=1"]
    files.write(copy / "experiments", {"seeds": [5], "pilot": True, "common": same, "metric.at": 79})
    assert call(copy, "run", "trial") == 0
    file, kept = (copy / name / "trial" / "experiment.yaml" for name in ("experiments", "runs"))
    expected = f"note: changed in {file} since the first run: hypothesis, metric, common (before: {kept})\n"
    assert expected in capsys.readouterr().out
    files.write(copy / "experiments", {"seeds": [5], "pilot": True, "arms/b": ["loss.free_nats=2.0"]})
    assert call(copy, "run", "trial") == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: .*_b_seed5: loss\.free_nats is 1\.0 in this run and 2\.0 in .*experiment\.yaml; .*\n", error)


def test_a_run_that_ended_before_the_budget_is_not_finished(copy: Path) -> None:
    files.write(copy / "experiments", {"seeds": [5], "pilot": True, "metric.budget": "updates", "metric.at": 10})
    experiment = spec.load("trial", copy / "experiments")
    state = runs(experiment, copy / "runs")["a", 5]
    assert (state.state, state.error) == ("failed", "it ended at updates = 0, before the budget of 10")


def test_faults_are_reported_while_others_go_on_and_what_was_killed_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes: dict[str, Any] = {
        "arms/killed": {"script": "killed.py"},
        "arms/failing": {"script": "failing.py"},
        "arms/a": [],
        "arms/b": None,
    }
    sides = {"hypothesis.treatment": "killed", "hypothesis.control": "a", "seeds": [0], "pilot": True}
    file = files.write(tmp_path / "experiments", {**changes, **sides})
    (file.parent / "killed.py").write_text(SCRIPT.replace("FAULT", DIE_ONCE))
    (file.parent / "failing.py").write_text(SCRIPT.replace("FAULT", FAIL))
    dead = RunDirectory.create(tmp_path / "runs" / "trial", "a_seed0", "{}\n", {})  # killed before its first checkpoint
    dead.close()
    assert call(tmp_path, "run", "trial", "--jobs", "2") == 1
    out = capsys.readouterr().out
    assert "killed_seed0: killed by SIGKILL" in out
    assert "failing_seed0: a fault on purpose" in out
    assert "a_seed0: finished" in out
    assert states(tmp_path) == {"a_seed0": "finished", "killed_seed0": "interrupted", "failing_seed0": "failed"}

    assert call(tmp_path, "run", "trial", "--jobs", "2") == 1
    out = capsys.readouterr().out
    assert "a_seed0" not in out
    assert "resume  killed_seed0" in out
    assert "killed_seed0: finished" in out
    assert "failing_seed0: a fault on purpose" in out
    assert states(tmp_path) == {"a_seed0": "finished", "killed_seed0": "finished", "failing_seed0": "failed"}
    assert directories(tmp_path) == ["a_seed0", "a_seed0", "failing_seed0", "killed_seed0"]
    log = (tmp_path / "runs" / "trial" / "logs" / "killed_seed0.log").read_text()
    assert re.search(r"resumed .* at environment step (40|60), update 0: exactly", log)
    log = (tmp_path / "runs" / "trial" / "logs" / "failing_seed0.log").read_text()
    assert log.count("error: a fault on purpose") == 2


@contextmanager
def running(root: Path, *names: str, more: tuple[str, ...] = ()) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """The runner in a process of its own, when the endless runs of these arms have checkpoints; and their process ids."""
    where = ["--experiments", str(root / "experiments"), "--root", str(root / "runs")]
    arguments = ("run", "trial", "--jobs", "2", "--arms", *names, *where, *more)
    for log in root.glob("runs/trial/logs/*.log"):
        log.unlink()
    with trials.running("experiment", *arguments, cwd=root) as process:
        wait_until(lambda: process.poll() is not None or all(_trains(root, name) for name in names))
        assert process.poll() is None
        pids = [int(path.read_text()) for name in names for path in root.glob(f"runs/trial/*_{name}_seed0/.lock.pid")]
        assert len(pids) == len(names)
        assert all(is_alive(pid) for pid in pids)
        yield process, pids


def _trains(root: Path, arm: str) -> bool:
    """Whether a run goes: its display has said so, and there is a checkpoint."""
    log = root / "runs" / "trial" / "logs" / f"{arm}_seed0.log"
    return log.exists() and "steps/s" in log.read_text() and any(root.glob(f"runs/trial/*_{arm}_*/checkpoints/latest/save_*"))


def test_signals_leave_checkpoints_and_nothing_outlives_the_runner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.write(tmp_path / "experiments", {"common": ENDLESS, "seeds": [0], "pilot": True})
    with running(tmp_path, "a", "b") as (process, pids):
        assert call(tmp_path, "run", "trial") == 1
        where = tmp_path / "runs" / "trial"
        assert capsys.readouterr().err == f"error: another process is running the experiment of {where}\n"
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, err) == (130, "")
        assert out.count("interrupted (") == 2
        assert not any(is_alive(pid) for pid in pids)
    assert states(tmp_path) == {"a_seed0": "interrupted", "b_seed0": "interrupted"}
    assert all(trials.summary(path.parent)["outcome"] == "interrupted" for path in where.glob("*/meta.json"))
    with running(tmp_path, "a") as (process, pids):
        process.kill()
        wait_until(lambda: not any(is_alive(pid) for pid in pids))
    assert directories(tmp_path) == ["a_seed0", "b_seed0"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--jobs", "0"], "--jobs must be at least 1, not 0"),
        (["--arms", "c"], "--arms: trial has no arm c; arms: a, b"),
        (["--seeds", "9"], "--seeds: trial has no seed 9; seeds: 0, 1, 2"),
    ],
)
def test_a_selection_of_nothing_is_refused(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files.write(tmp_path / "experiments")
    assert call(tmp_path, "run", "trial", *arguments) == 2
    assert capsys.readouterr().err == f"error: {words}\n"
    assert not (tmp_path / "runs").exists()
