"""Environments that misbehave at random, in any way: one line each, and what was collected before can be saved."""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete

from dreamerjax.config.schema import EnvConfig
from dreamerjax.core.errors import UserError
from dreamerjax.core.stopping import Stop, stop_on_signals
from dreamerjax.data.collector import Collector, record_fields
from dreamerjax.data.replay import Replay
from dreamerjax.envs import EnvironmentFault, Envs, Given, env_spec, make_env, make_vector_env
from dreamerjax.envs.random_rollouts import random_policy

ENVIRONMENTS = 200
TICKS = 60


class Unspeakable(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


RAISED: list[Callable[[], BaseException]] = [
    lambda: RuntimeError("the gears\nare stuck at 100%s {}"),
    lambda: ValueError(),
    lambda: SystemExit(0),
    lambda: SystemExit("bye"),
    KeyboardInterrupt,
    GeneratorExit,
    StopIteration,
    MemoryError,
    AssertionError,
    RecursionError,
    Unspeakable,
    lambda: BrokenPipeError(32, "Broken pipe"),
    lambda: TimeoutError("no answer"),
    lambda: BaseException("bare"),
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text"),
]
NUMBERS: list[Any] = [np.nan, np.inf, -np.inf, 1e300, None, "1", [1.0, 2.0], {}, 1j, np.zeros(3), object(), np.float16(2), True]
FLAGS: list[Any] = [None, "yes", 2, np.array([True, False]), np.array([1]), 0.5, [], np.bool_(True)]
VECTORS: list[Any] = [
    None,
    np.full(3, np.nan, np.float32),
    np.array([0.0, np.inf, 0.0]),
    np.zeros(2, np.float32),
    np.zeros((3, 1)),
    np.zeros(3, np.complex64),
    np.zeros(3, object),
    np.array(["a", "b", "c"]),
    [0.0, 1.0, 2.0],
    "observation",
    np.ma.masked_array(np.zeros(3), [True, False, False]),
    np.zeros(0),
    np.full(3, 10**18),
]
KINDS: list[Any] = [3, -1, 1.5, None, "2", np.nan, np.int8(1), np.array([1]), np.array(2), True, 10**30]


class Wild(gym.Env[Any, Any]):
    """A walk of 10 steps that does something wrong, or merely odd, about once in 60 calls."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._spaces = Dict({"vector": Box(-np.inf, np.inf, (3,), np.float32), "kind": Discrete(3)}), Discrete(2)
        self._vector = np.zeros(3, np.float32)  # one and the same array
        self._calm = 60
        self._maybe_raise(0.05)

    @property
    def observation_space(self) -> Any:  # type: ignore[override]
        self._maybe_raise(0.002)
        return self._spaces[0] if self._random.random() > 0.002 else Dict({"vector": Box(0.0, 1.0, (4,))})

    @property
    def action_space(self) -> Any:  # type: ignore[override]
        return self._spaces[1] if self._random.random() > 0.002 else Discrete(5)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self._maybe_raise(0.02)
        self._change()
        self._steps = 0
        return self._sometimes((self._observe(), {}), [None, (), self._observe(), (self._observe(),)])

    def step(self, action: Any) -> Any:
        self._maybe_raise(0.01)
        self._change()
        self._steps += 1
        self._vector += 1
        ended = self._sometimes(self._random.random() < 0.05, FLAGS), self._sometimes(self._steps >= 10, FLAGS)
        result = (self._observe(), self._sometimes(1.0, NUMBERS), *ended, self._sometimes({}, [None, "info", {1: object()}]))
        return self._sometimes(result, [None, result[:4], (*result, 0), list(result)])

    def render(self) -> Any:
        self._maybe_raise(0.3)
        return self._sometimes(np.zeros((4, 4, 3), np.uint8), [None, "picture", []])

    def close(self) -> None:
        self._maybe_raise(0.3)

    def _observe(self) -> Any:
        whole = {"vector": self._sometimes(self._vector, VECTORS), "kind": self._sometimes(self._random.randrange(3), KINDS)}
        return self._sometimes(whole, [None, {}, {"vector": self._vector}, (self._vector, 1), self._vector])

    def _sometimes(self, right: Any, wrong: list[Any]) -> Any:
        return right if self._random.random() > 1 / 300 else self._random.choice(wrong)

    def _maybe_raise(self, probability: float) -> None:
        if self._random.random() < probability:
            raise self._random.choice(RAISED)()

    def _change(self) -> None:
        if self._random.random() < 0.02:
            self._random.choice(
                [
                    lambda: os.chdir(tempfile.gettempdir()),
                    lambda: np.seterr(all="raise"),
                    lambda: warnings.simplefilter("error"),
                    lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
                    lambda: setattr(sys, "stdout", None),
                    lambda: np.random.seed(0),
                ]
            )()


@pytest.mark.filterwarnings("ignore::UserWarning")  # gymnasium's, on what it finds odd
def test_whatever_an_environment_does_is_one_line_and_nothing_collected_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stop, "within", lambda stop, seconds: stop.requested)  # no signal comes that could cause a fault
    here, faults, steps = Path.cwd(), list[str](), 0
    for seed in range(ENVIRONMENTS):
        with stop_on_signals() as stop:
            made, fault = play(seed)
            assert signal.getsignal(signal.SIGTERM) is stop
        assert Path.cwd() == here
        steps, faults = steps + made, [*faults, fault]
    assert all("Wild" in fault and "\n" not in fault for fault in faults if fault)
    assert len(set(faults)) > ENVIRONMENTS / 4
    assert steps > 20 * ENVIRONMENTS  # not all of them fail at once


def play(seed: int) -> tuple[int, str]:
    """Collect with two streams: the steps that were made, and the fault that ended it, if any."""
    config, source = EnvConfig(id="python/Wild"), Given(lambda render_mode=None: Wild(seed))
    try:
        with suppress(EnvironmentFault), closing(make_env(config, source=source)) as env:
            env.reset(seed=0)
            env.render()
        with closing(make_vector_env(config, 2, source)) as envs:
            return collect(envs, seed)
    except UserError as error:
        return 0, str(error)


def collect(envs: Envs, seed: int) -> tuple[int, str]:
    spec = env_spec(envs.single_observation_space, envs.single_action_space)
    replay = Replay(record_fields(spec, {}), 2, 1_000, 4, seed=0)
    collector = Collector(envs, spec, replay, seed)
    policy = random_policy(spec.action, np.random.default_rng(seed))
    fault = ""
    try:
        for _ in range(TICKS):
            collector.collect(policy, 1)
    except UserError as error:
        fault = str(error)
    arrays, _ = collector.state_dict()
    held, _ = replay.state_dict()
    assert all(np.isfinite(values).all() for values in [*arrays.values(), *held.values()])
    assert len(replay) >= collector.env_steps
    return collector.env_steps, fault
