"""Jobs through submitit: its executor for this machine for real; of SLURM only what is said where there is none."""

from __future__ import annotations

import signal
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from dreamerjax.core.errors import UserError
from dreamerjax.experiment import __main__ as command_line
from dreamerjax.experiment import cluster, cores, runner, spec
from dreamerjax.experiment.jobs import Job
from dreamerjax.experiment.states import runs
from tests.e2e.trials import wait_until
from tests.experiment import files

PILOT = {"seeds": [0], "pilot": True}


@pytest.fixture
def _submitit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Imported so that it leaves logging alone: it would close absl's handler, and with it pytest's standard error."""
    monkeypatch.setenv("SUBMITIT_LOG_LEVEL", "NOCONFIG")
    pytest.importorskip("submitit")


@pytest.mark.usefixtures("_submitit")
def test_the_local_executor_runs_the_jobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.write(tmp_path / "experiments", PILOT)
    where = ["--experiments", str(tmp_path / "experiments"), "--root", str(tmp_path / "runs")]
    assert command_line.main(["run", "trial", "--arms", "b", "--cluster", "local", "--cpus", "1", "--time", "5", *where]) == 0
    assert "b_seed0: finished (1 of 1)" in capsys.readouterr().out
    states = runs(spec.load("trial", tmp_path / "experiments"), tmp_path / "runs")
    assert [state.state for state in states.values()] == ["missing", "finished"]


@pytest.mark.usefixtures("_submitit")
def test_a_job_whose_time_is_over_saves_and_is_submitted_again(tmp_path: Path) -> None:
    endless = [*files.RANDOM, "train.steps=1000000000", "train.random_steps=1000000000"]
    files.write(tmp_path / "experiments", {**PILOT, "common": endless})
    experiment = spec.load("trial", tmp_path / "experiments")
    job = Job(experiment, experiment.arms[0], 0, tmp_path / "runs")
    task = cluster.Task(job)
    task.process = job.start(cores.shares(1)[0])
    wait_until(lambda: "steps/s" in job.log.read_text())
    task.process.popen.send_signal(signal.SIGUSR2)  # SLURM warns every process of the job, the training too
    again = task.checkpoint()
    assert task.process.close() == "interrupted"
    assert job.state().state == "interrupted"
    assert again.function.job == job
    assert again.function.process is None


def test_what_is_missing_is_said_before_anything_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write(tmp_path / "experiments", PILOT)
    experiment = spec.load("trial", tmp_path / "experiments")
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"pip install 'dreamerjax\[slurm\]'"):
        runner.run(experiment, tmp_path / "runs", cluster=cluster.Cluster("local"))
    present = ModuleType("submitit")
    present.__spec__ = ModuleSpec("submitit", None)
    monkeypatch.setitem(sys.modules, "submitit", present)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="there is no sbatch here; run this on a login node"):
        runner.run(experiment, tmp_path / "runs", cluster=cluster.Cluster("slurm"))
    assert not (tmp_path / "runs").exists()
    assert experiment == spec.load("trial", tmp_path / "experiments")
