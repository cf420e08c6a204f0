import logging
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamerjax.config.schema import EnvConfig, Vectorization
from dreamerjax.core.child_process import SIGNALS
from dreamerjax.core.errors import UserError
from dreamerjax.core.stopping import Stop, Stopped, stop_on_signals
from dreamerjax.envs import EnvironmentFault, Envs, Stepper, make_vector_env
from dreamerjax.envs.boundary import construction
from dreamerjax.envs.surroundings import foreign, forget
from dreamerjax.envs.vector import SubprocessVectorEnv

SUBPROCESS = Vectorization.subprocess
Make = Callable[..., Envs]


@pytest.fixture
def make() -> Iterator[Make]:
    """Vector environments of a sample, closed at the end."""
    made: list[Envs] = []

    def build(name: str, num_envs: int, vectorization: Vectorization = Vectorization.sync, **kwargs: Any) -> Envs:
        config = EnvConfig(id=f"sample_envs:{name}", kwargs=kwargs, vectorization=vectorization)
        made.append(make_vector_env(config, num_envs))
        return made[-1]

    yield build
    for envs in made:
        envs.close()


def stepper_of(envs: Envs) -> Stepper:
    return Stepper(envs)


def start(envs: Envs) -> Stepper:
    stepper = stepper_of(envs)
    stepper.reset(np.ones(envs.num_envs, np.bool_), list(range(envs.num_envs)), 0)
    return stepper


def workers(envs: Envs) -> list[int]:
    assert isinstance(envs, SubprocessVectorEnv)
    return [process.pid for process in envs.processes if process.pid is not None]


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_subprocesses_step_as_this_process_does(make: Make) -> None:
    steppers = [stepper_of(make("Mixed-v0", 3, vectorization)) for vectorization in Vectorization]
    masks = [np.ones(3, np.bool_)] + [np.array([True, False, True])] * 2
    rng = np.random.default_rng(0)
    for round_, mask in enumerate(masks):
        first = [stepper.reset(mask, [round_, round_ + 7, round_ + 9], 0) for stepper in steppers]
        for name, values in first[0].items():
            np.testing.assert_array_equal(values, first[1][name], strict=True)
        action = rng.integers(0, [3, 2], (3, 2), dtype=np.int32)
        results = [stepper.step(action, 0) for stepper in steppers]
        if results[0][2].any():
            break
        for name, values in results[0][0].items():
            np.testing.assert_array_equal(values, results[1][0][name], strict=True)
        np.testing.assert_array_equal(results[0][1], results[1][1], strict=True)


def test_streams_have_their_own_seeds_and_results_are_copies(make: Make) -> None:
    stepper = stepper_of(make("Mixed-v0", 2))
    everyone = np.ones(2, np.bool_)
    first = stepper.reset(everyone, [1, 2], 0)
    kept = {name: values.copy() for name, values in first.items()}
    swapped = stepper.reset(everyone, [2, 1], 0)
    for name, values in swapped.items():
        np.testing.assert_array_equal(values[::-1], kept[name])
        np.testing.assert_array_equal(first[name], kept[name])


@pytest.mark.parametrize("vectorization", list(Vectorization))
def test_an_environment_that_raises(make: Make, vectorization: Vectorization) -> None:
    envs = make("Faulty-v0", 2, vectorization, what="raise", at=2)
    stepper = start(envs)
    action = np.zeros((2, 1), np.int32)
    stepper.step(action, 0)
    with pytest.raises(EnvironmentFault) as caught:
        stepper.step(action, 2)
    expected = (
        r"after environment step 2: environment sample_envs:Faulty-v0 \(stream [01]\) raised RuntimeError in step \(sample_"
    )
    assert re.match(expected, str(caught.value))
    assert str(caught.value).endswith("): the gears are stuck at 100%s")
    details = [str(caught.value.__cause__), *getattr(caught.value, "__notes__", [])]
    assert any("the gears\nare stuck" in detail for detail in details)
    if vectorization is SUBPROCESS:
        assert envs.closed


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nan_observation", r"\(stream 0\) in step: observation 'count' must be finite, is \[nan\]"),
        ("inf_reward", "\\(stream 0\\) in step: reward must be finite, is inf"),
        ("huge_reward", "\\(stream 0\\) in step: reward must be finite, is 1e\\+300"),
        ("wrong_class", r"after environment step 10: .* observation 'kind' must be in Discrete\(3\), is \[3\]"),
    ],
)
def test_invalid_numbers_are_refused(make: Make, what: str, message: str) -> None:
    stepper = start(make("Faulty-v0", 2, what=what, at=2))
    stepper.step(np.zeros((2, 1), np.int32), 8)
    with pytest.raises(UserError, match=message) as caught:
        stepper.step(np.zeros((2, 1), np.int32), 10)
    assert caught.value.exit_code == 1


def test_workers_import_neither_jax_nor_the_main_program_and_ignore_ctrl_c(make: Make) -> None:
    envs = make("Probe-v0", 2, SUBPROCESS)
    stepper = start(envs)
    pids = workers(envs)
    for pid in pids:
        os.kill(pid, signal.SIGINT)
    observations, *_ = stepper.step(np.zeros((2, 1), np.int32), 0)
    np.testing.assert_array_equal(observations["state"], [[0.0, 0.0], [0.0, 0.0]])
    envs.close()
    assert not any(is_alive(pid) for pid in pids)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_to_the_group_are_not_for_workers_which_still_end(number: signal.Signals) -> None:
    """Nor for those that are just being started; a program that an environment starts hears them."""
    stop = Stop()
    with stop_on_signals(stop):
        threading.Timer(0.3, kill_children, [number, 5]).start()
        where = "close" if number == signal.SIGHUP else "nowhere"
        config = EnvConfig(id="sample_envs:Stuck-v0", kwargs={"where": where}, vectorization=SUBPROCESS)
        envs = make_vector_env(config, 2, None, stop)
        kill_children(number)
        stepper = start(envs)
        observations, *_ = stepper.step(np.zeros((2, 1), np.int32), 0)
    pids = workers(envs)
    children = [int(pid) for pid in observations["state"][:, 0]]
    assert all(is_alive(pid) for pid in [*pids, *children])
    stop.requested = True  # a close that hangs is waited for no longer than a step
    envs.close()
    assert not any(is_alive(pid) for pid in pids)
    deadline = time.monotonic() + 10.0
    while any(is_alive(pid) for pid in children) and time.monotonic() < deadline:  # the system ends them with their parents
        time.sleep(0.05)
    assert not any(is_alive(pid) for pid in children)


def kill_children(number: signal.Signals, times: int = 1) -> None:
    for _ in range(times):
        for process in multiprocessing.active_children():
            if process.pid is not None:
                os.kill(process.pid, number)
        time.sleep(0.1)


def test_a_worker_that_hangs_is_given_up_when_the_run_is_to_end() -> None:
    stop = Stop()
    config = EnvConfig(id="sample_envs:Stuck-v0", kwargs={"where": "step"}, vectorization=SUBPROCESS)
    envs = make_vector_env(config, 2, None, stop)
    stepper = start(envs)
    pids = workers(envs)
    threading.Timer(0.2, lambda: setattr(stop, "requested", True)).start()
    with pytest.raises(Stopped, match="sample_envs:Stuck-v0, stream 0, 1, did not return when the run was to end"):
        stepper.step(np.zeros((2, 1), np.int32), 0)
    assert envs.closed
    assert not any(is_alive(pid) for pid in pids)


def test_an_interrupted_step_leaves_no_process(make: Make) -> None:
    envs = make("Stuck-v0", 1, SUBPROCESS, where="step")
    stepper = start(envs)
    pids = workers(envs)
    timer = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGTERM])
    with stop_on_signals(Stop(at_once=True)):
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            stepper.step(np.zeros((1, 1), np.int32), 0)
    envs.close()
    assert not any(is_alive(pid) for pid in pids)


FORGETFUL = """
from dreamerjax.config.schema import EnvConfig, Vectorization
from dreamerjax.envs import make_vector_env
envs = make_vector_env(EnvConfig(id="sample_envs:Faulty-v0", vectorization=Vectorization.subprocess), 2)
"""


def test_a_program_that_closes_nothing_ends() -> None:
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parent)])
    done = subprocess.run([sys.executable, "-c", FORGETFUL], env={**os.environ, "PYTHONPATH": path}, timeout=120)
    assert done.returncode == 0


@pytest.mark.parametrize("where", ["init", "reset", "step", "close"])
def test_what_an_environment_changes_of_the_process_is_its_own(make: Make, tmp_path: Path, where: str) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    before = surroundings()
    with stop_on_signals() as stop:
        handlers = [signal.getsignal(number) for number in SIGNALS]
        envs = make("Messy-v0", 2, where=where, folder=str(tmp_path))
        stepper = start(envs)
        for _ in range(2):
            observations, *_ = stepper.step(np.zeros((2, 1), np.int32), 0)
            assert surroundings() == before
        assert [signal.getsignal(number) for number in SIGNALS] == handlers == [stop] * 3
        envs.close()
        assert surroundings() == before
        assert [signal.getsignal(number) for number in SIGNALS] == handlers
    assert observations["state"].all() == (where != "close")


def test_the_next_environment_is_made_where_the_program_is(make: Make, tmp_path: Path) -> None:
    """What one that has ended changed holds for none that is made later."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stepper = start(make("Messy-v0", 2, where="step", folder=str(tmp_path)))
        stepper.step(np.zeros((2, 1), np.int32), 0)
    with warnings.catch_warnings(record=True) as caught, construction("any"):
        warnings.simplefilter("always")
        warnings.warn("heard", stacklevel=1)
        assert Path.cwd() != tmp_path
    assert [str(warning.message) for warning in caught] == ["heard"]
    forget()
    with foreign():
        assert Path.cwd() != tmp_path


def surroundings() -> tuple[Any, ...]:
    root = logging.getLogger()
    precision = sys.modules["jax"].config.jax_enable_x64
    return os.getcwd(), np.geterr(), warnings.filters[:], root.handlers[:], root.manager.disable, sys.stdout, precision


def test_a_worker_that_dies_is_a_fault_and_takes_the_others_along(make: Make) -> None:
    envs = make("Faulty-v0", 2, SUBPROCESS, what="exit", at=2)
    stepper = start(envs)
    pids = workers(envs)
    stepper.step(np.zeros((2, 1), np.int32), 0)
    with pytest.raises(EnvironmentFault, match=r"a subprocess of environment sample_envs:Faulty-v0 died: .*exit code 7"):
        stepper.step(np.zeros((2, 1), np.int32), 2)
    assert envs.closed
    assert not any(is_alive(pid) for pid in pids)


def test_close_after_a_worker_was_killed(make: Make) -> None:
    envs = make("Faulty-v0", 2, SUBPROCESS)
    start(envs)
    pids = workers(envs)
    os.kill(pids[1], signal.SIGKILL)
    envs.close()
    assert not any(is_alive(pid) for pid in pids)


PARENT = """
import time
from dreamerjax.config.schema import EnvConfig, Vectorization
from dreamerjax.envs import make_vector_env
envs = make_vector_env(EnvConfig(id="sample_envs:Faulty-v0", vectorization=Vectorization.subprocess), 2)
print(*(process.pid for process in envs.processes), flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_workers_die_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(PARENT)
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parent)])
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path}
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(is_alive(pid) for pid in pids)
        parent.kill()
    deadline = time.monotonic() + 10.0
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(is_alive(pid) for pid in pids)
