"""Jobs through submitit and Dask: their executors for this machine for real; of SLURM only what is said where there is none."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
import time
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from dreamerjax.core.errors import Interrupt, UserError
from dreamerjax.core.stopping import SAME, stop_on_signals
from dreamerjax.experiment import __main__ as command_line
from dreamerjax.experiment import cores, executors, runner, spec
from dreamerjax.experiment.jobs import Job, Work
from dreamerjax.experiment.states import ExperimentRun, runs
from tests.e2e import trials
from tests.e2e.test_processes import is_alive
from tests.e2e.trials import PATIENCE, wait_until
from tests.experiment import files
from tests.experiment.test_runner import ENDLESS, SCRIPT, call, running, states

PILOT = {"seeds": [0], "pilot": True}
KILL = "os.kill(os.getppid(), signal.SIGKILL); signal.pause()"
KILL_WORKER_ONCE = f"if not flag.exists(): flag.touch(); session.latest.wait(); {KILL}"


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
    job = Job(experiment, ((experiment.arms[0], 0),), tmp_path / "runs")
    task = executors.Task(job)
    with job.process(cores.shares(1)[0]) as (task.process, began):
        wait_until(lambda: "steps/s" in job.log.read_text())
        task.process.send_signal(signal.SIGUSR2)  # SLURM warns every process of the job, the training too
        again = task.checkpoint()
    assert job.error(task.process.returncode, began) == "interrupted"
    assert job.state().state == "interrupted"
    assert again.function.job == job
    assert again.function.process is None


def test_a_killed_worker_of_dask_costs_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("distributed")
    arms = {"arms/a": {"script": "killer.py"}, "factorial": True}
    file = files.write(tmp_path / "experiments", {**PILOT, **arms})
    (file.parent / "killer.py").write_text(SCRIPT.replace("FAULT", KILL_WORKER_ONCE))
    assert call(tmp_path, "run", "trial", "--jobs", "2", "--cluster", "dask") == 0
    out = capsys.readouterr().out
    assert "a_seed0: finished" in out
    assert "b_seed0: finished" in out
    assert states(tmp_path) == {"a_seed0": "finished", "b_seed0": "finished"}
    log = (tmp_path / "runs" / "trial" / "logs" / "a_seed0.log").read_text()
    assert re.search(r"resumed .* at environment step (40|60), update 0: exactly", log)


def test_a_signal_ends_the_runs_on_dask_with_checkpoints(tmp_path: Path) -> None:
    """One for the whole group of processes, as Ctrl-C in a terminal is, to which the workers of this machine belong."""
    pytest.importorskip("distributed")
    files.write(tmp_path / "experiments", {**PILOT, "common": ENDLESS})
    with running(tmp_path, "a", "b", more=("--cluster", "dask")) as (process, pids):
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 4
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, err) == (130, "")
        assert out.count("interrupted (") == 2
        wait_until(lambda: not any(is_alive(pid) for pid in [*pids, *(worker.pid for worker in workers)]))
    assert states(tmp_path) == {"a_seed0": "interrupted", "b_seed0": "interrupted"}


def test_runs_on_workers_of_others_end_with_their_runner(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    files.write(tmp_path / "experiments", {**PILOT, "common": ENDLESS})
    with distributed.LocalCluster(1, threads_per_worker=1, dashboard_address=None) as cluster:
        where = ("--cluster", "dask", "--address", cluster.scheduler_address)
        with running(tmp_path, "a", more=where) as (process, pids):
            process.kill()
            wait_until(lambda: not any(is_alive(pid) for pid in pids))
    assert states(tmp_path) == {"a_seed0": "interrupted", "b_seed0": "missing"}
    run = next((tmp_path / "runs" / "trial").glob("*/meta.json")).parent
    assert trials.summary(run)["outcome"] == "interrupted"


class Stubborn(Work):
    """A process that does not end when it is asked to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def name(self) -> str:
        return "stubborn"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def state(self) -> ExperimentRun:
        return ExperimentRun(None, "missing")

    def command(self) -> list[str]:
        deaf = "signal.signal(signal.SIGTERM, lambda *_: print('no', flush=True))"
        wait = "print(os.getpid(), flush=True)\nwhile True: signal.pause()"
        return [sys.executable, "-c", f"import os, signal; {deaf}; {wait}"]


def test_a_second_signal_kills(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def interrupt_twice() -> None:
        wait_until(lambda: log.exists() and log.read_text().count("\n") == 1)
        os.kill(os.getpid(), signal.SIGINT)
        wait_until(lambda: "no" in log.read_text())
        time.sleep(SAME)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt_twice)
    thread.start()
    with stop_on_signals() as stop, pytest.raises(Interrupt):
        runner.run_all([Stubborn(tmp_path)], executors.in_threads(1), stop)
    thread.join()
    assert not is_alive(int(log.read_text().split()[0]))


def test_a_scheduler_that_does_not_answer_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(executors, "CONNECT", 1)
    files.write(tmp_path / "experiments", PILOT)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        assert call(tmp_path, "run", "trial", "--cluster", "dask", "--address", address) == 1
    assert re.fullmatch(rf"error: --address {address}: no Dask scheduler .*\n", capsys.readouterr().err)
    assert call(tmp_path, "run", "trial", "--cluster", "dask", "--address", "nowhere") == 1
    assert re.fullmatch(r"error: --address nowhere: no Dask scheduler .*\n", capsys.readouterr().err)
    assert call(tmp_path, "run", "trial", "--address", address) == 2
    assert capsys.readouterr().err == "error: --address is the one of a Dask scheduler: it needs --cluster dask\n"


def test_what_is_missing_is_said_before_anything_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write(tmp_path / "experiments", PILOT)
    experiment = spec.load("trial", tmp_path / "experiments")
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"pip install 'dreamerjax\[slurm\]'"):
        runner.run(experiment, tmp_path / "runs", cluster=executors.Cluster("local"))
    present = ModuleType("submitit")
    present.__spec__ = ModuleSpec("submitit", None)
    monkeypatch.setitem(sys.modules, "submitit", present)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="there is no sbatch here; run this on a login node"):
        runner.run(experiment, tmp_path / "runs", cluster=executors.Cluster("slurm"))
    with pytest.raises(UserError, match="--time must be at least 1, not -5"):
        runner.run(experiment, tmp_path / "runs", cluster=executors.Cluster("local", minutes=-5))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"pip install 'dreamerjax\[dask\]'"):
        runner.run(experiment, tmp_path / "runs", cluster=executors.Cluster("dask"))
    assert not (tmp_path / "runs").exists()
    assert experiment == spec.load("trial", tmp_path / "experiments")
