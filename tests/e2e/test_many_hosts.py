"""Two processes on one machine make one training: the same updates, the same decisions, the same end."""

from __future__ import annotations

import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest

from dreamerjax.config.cli import main
from dreamerjax.core.types import ActionSpec, EnvSpec, ObservationSpec
from dreamerjax.report.__main__ import ReportConfig
from dreamerjax.report.__main__ import run as report
from dreamerjax.storage.checkpoints import CheckpointStore
from dreamerjax.training.hosts import ALONE
from tests.e2e import many_hosts_learner, trials
from tests.e2e.many_hosts_learner import learn
from tests.e2e.test_evaluation import evaluate_here
from tests.helpers import make_networks, random_batch, stacked

pytestmark = pytest.mark.timeout(900)  # two processes may share a core with others
UPDATES = 50
PATIENCE = 280.0  # seconds for a whole run: two processes may share a core
SPACES = EnvSpec({"state": ObservationSpec((4,))}, ActionSpec(sizes=(2,)))  # the trial environment's: nothing else to compile
SETTINGS = (*trials.TINY, trials.TRIAL, "parallel.devices=1")


def places() -> list[list[str]]:
    """The keys that tell two processes who they are, at a free port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        coordinator = f"parallel.coordinator=127.0.0.1:{server.getsockname()[1]}"
    return [[coordinator, "parallel.processes=2", f"parallel.process={rank}"] for rank in range(2)]


@contextmanager
def both(*overrides: str, at: Sequence[dict[str, str]] = ({}, {})) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes of one training, with variables of their own."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(trials.running("train", *overrides, *place, cwd=None, **variables))
            for place, variables in zip(places(), at, strict=True)
        ]


def ends(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each."""
    found = []
    for process in processes:
        out, err = process.communicate(timeout=PATIENCE)
        found.append((process.returncode, out, err))
    return found


def shard(run: Path) -> CheckpointStore:
    """What the second process alone has."""
    return CheckpointStore(run / "checkpoints" / "process_1", 2)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nothing interrupted."""
    root = tmp_path_factory.mktemp("whole")
    with both(*SETTINGS, f"run.root={root}") as processes:
        (code, out, err), other = ends(processes)
    assert (code, err, other[0], other[2]) == (0, "", 0, "")
    assert "finished after 120 environment steps, 19 updates" in out
    assert "updates" not in other[1]
    return trials.only_run(root)


@pytest.mark.slow
def test_two_processes_learn_what_two_devices_of_one_do(tmp_path: Path) -> None:
    settings = [*trials.TINY, "optim.model_lr=1e-4", "optim.actor_lr=1e-4", "optim.critic_lr=1e-4"]
    networks = make_networks(SPACES)
    batches = [stacked(random_batch(networks, length=8, seed=number)) for number in range(UPDATES)]
    (tmp_path / "lesson").write_bytes(pickle.dumps(([*settings, "parallel.devices=1"], SPACES, batches)))
    program = trials.bound(sys.executable, many_hosts_learner.__file__, str(tmp_path))
    processes = [subprocess.Popen([*program, *place], env=trials.environment()) for place in places()]
    alone = learn([*settings, "parallel.devices=2"], SPACES, batches, ALONE)
    assert [process.wait(PATIENCE) for process in processes] == [0, 0]
    first, second = (dict(np.load(tmp_path / f"{rank}.npz")) for rank in range(2))
    assert alone.keys() == first.keys() == second.keys()
    for name, values in alone.items():
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        np.testing.assert_allclose(first[name], values, rtol=2e-3, atol=2e-4, err_msg=name)


@pytest.mark.slow
def test_two_processes_leave_one_run_that_is_read_as_any_other(whole: Path, tmp_path: Path) -> None:
    summary = trials.summary(whole)
    assert (summary["outcome"], summary["env_steps"], summary["updates"]) == ("finished", 120, 19)
    lines = trials.metrics(whole)
    assert [line["env_step"] for line in lines if "eval/greedy/return_mean" in line] == [60, 120]
    ended = [line for line in lines if "episode/return" in line]
    assert len(ended) > summary["episodes"]  # those of the other process too
    own, theirs = trials.latest(whole), shard(whole).restore()
    assert own.step == theirs.step == 120
    assert own.info["session"] == theirs.info["session"]
    assert own.replay is not None
    assert theirs.replay is not None
    assert not np.array_equal(own.replay["field.state"][:20], theirs.replay["field.state"][:20])
    assert sum(own.replay["written"]) > 60  # 30 steps of two streams, and episodes' ends
    assert evaluate_here(f"run={whole}", "episodes=2", f"output={tmp_path}/e.json") == 0
    assert main(report, [f"run={whole}"], schema=ReportConfig) == 0


@pytest.mark.slow
def test_killed_stopped_and_resumed_is_the_same_run(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`kill -9` of one process in the middle: the other ends soon, with one line, and both go on from what both have. Then a
    signal to one stops both at the same step, and they go on once more."""
    root = tmp_path / "runs"
    with both(*SETTINGS, f"run.root={root}", at=({}, {"TRIAL": "kill", "TRIAL_AT": "14"})) as processes:
        assert processes[1].wait(PATIENCE) == -signal.SIGKILL
        killed = time.monotonic()
        (code, _, err), _ = ends(processes)
        assert time.monotonic() - killed < 60
    assert (code, err) == (1, "error: process 1 of 2 was killed, or cannot be reached since 30 s\n")
    run = trials.only_run(root)
    assert trials.resume_here(run, "parallel.processes=1") == 2
    refused = capsys.readouterr().err
    assert refused.endswith("was trained by 2 processes and goes on with as many: parallel.processes=2, not 1\n")
    with both(f"resume={run}", at=({}, {"TRIAL": "terminate", "TRIAL_AT": "13"})) as processes:  # after what is played again
        (code, out, err), other = ends(processes)
    assert (code, err, other[0], other[2]) == (143, "", 143, "")
    assert ": exactly\n" in out
    assert "interrupted after" in out
    stopped = trials.summary(run)
    assert stopped["outcome"] == "interrupted"
    assert 40 < stopped["env_steps"] < 120
    assert trials.latest(run).step == shard(run).restore().step == stopped["env_steps"]
    with both(f"resume={run}") as processes:
        (code, out, err), other = ends(processes)
    assert (code, err, other[0], other[2]) == (0, "", 0, "")
    assert ": exactly\n" in out
    assert_same(run, whole)


def test_the_first_process_killed_ends_the_other(tmp_path: Path) -> None:
    arguments = (*SETTINGS, *trials.RANDOM_ONLY, "train.eval_every=0", f"run.root={tmp_path / 'runs'}")
    with both(*arguments, at=({"TRIAL": "kill", "TRIAL_AT": "10"}, {})) as processes:
        _, (code, _, err) = ends(processes)
    assert code in (1, -signal.SIGABRT)  # JAX may be faster than we are, and aborts
    assert err == "error: process 0 has ended, or cannot be reached\n"


def test_a_fault_in_one_ends_the_other_with_its_words(tmp_path: Path) -> None:
    arguments = (*SETTINGS, *trials.RANDOM_ONLY, "train.eval_every=0", f"run.root={tmp_path / 'runs'}")
    with both(*arguments, at=({}, {"TRIAL": "raise", "TRIAL_AT": "10"})) as processes:
        (code, _, err), other = ends(processes)
    assert (code, other[0]) == (1, 1)
    assert other[2].startswith("error: after environment step ")
    assert err == other[2].replace("error: ", "error: process 1 has ended: ", 1)


def assert_same(run: Path, other: Path) -> None:
    """The same run, what the second process alone has included."""
    left, right = shard(run).restore(), shard(other).restore()
    assert left.step == right.step
    for trees in ((left.arrays, right.arrays), (left.replay, right.replay)):
        jax.tree.map(np.testing.assert_array_equal, *trees)
    trials.assert_same_run(run, other)
