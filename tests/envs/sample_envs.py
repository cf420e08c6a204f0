"""Small environments for the tests, made as `sample_envs:NAME` where this directory is on the path."""

from __future__ import annotations

import io
import itertools
import logging
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple

_calls = itertools.count()


class Mixed(gym.Env[Any, Any]):
    """Nested observations of every kind and two action components, one counted from 5; random walk, ends at random."""

    observation_space = Dict(
        {
            "walk": Box(-np.inf, np.inf, (2, 2), np.float32),
            "parts": Tuple((Discrete(3, start=1), Dict({"flags": MultiBinary(2), "reward": MultiDiscrete([2, 4])}))),
        }
    )
    action_space = MultiDiscrete([3, 2], start=[0, 5])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._walk = np.zeros((2, 2), np.float32)
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self._walk += self.np_random.normal(size=(2, 2)).astype(np.float32) + action[0]
        terminated = bool(self.np_random.random() < 0.1)
        return self._observe(), float(action[1]), terminated, not terminated and bool(self._walk[0, 0] > 20.0), {}

    def _observe(self) -> Any:
        random = self.np_random
        flags, parts = random.integers(0, 2, 2, dtype=np.int8), random.integers(0, [2, 4])
        number = int(random.integers(1, 4))
        return {"walk": self._walk.copy(), "parts": (number, {"flags": flags, "reward": parts})}


class Faulty(gym.Env[Any, Any]):
    """Counts its steps in its observation, and at step `at` does `what`."""

    observation_space = Dict({"count": Box(-np.inf, np.inf, (1,), np.float32), "kind": Discrete(3)})
    action_space = Discrete(2)

    def __init__(self, what: str = "nothing", at: int = 5, length: int = 100) -> None:
        self._what, self._at, self._length, self._steps = what, at, length, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if self._what == "raise_in_reset" and self._steps >= self._at:
            raise RuntimeError("the door\nis stuck at 100%s")
        self._steps = 0
        return {"count": np.zeros(1, np.float32), "kind": 0}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        count, reward, kind = float(self._steps), 1.0, self._steps % 3
        if self._steps == self._at:
            if self._what == "raise":
                raise RuntimeError("the gears\nare stuck at 100%s")
            if self._what == "exit":
                os._exit(7)
            count = np.nan if self._what == "nan_observation" else count
            reward = {"inf_reward": np.inf, "huge_reward": 1e300}.get(self._what, reward)
            kind = 3 if self._what == "wrong_class" else kind
        return {"count": np.array([count], np.float32), "kind": kind}, reward, False, self._steps >= self._length, {}


class Restless(gym.Env[Any, Any]):
    """Not deterministic: `what` ("observation", "reward" or "end") depends on how often any of these was stepped."""

    observation_space = Box(-np.inf, np.inf, (1,), np.float64)
    action_space = Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 1.0], np.float32))

    def __init__(self, what: str = "observation") -> None:
        self._what = what

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        call = next(_calls)
        observation = np.full(1, float(call if self._what == "observation" else 0))
        ended = self._what == "end" and call >= 12
        return observation, float(call if self._what == "reward" else 0), False, ended, {}


class Probe(gym.Env[Any, Any]):
    """Observes its process: whether JAX is imported, and what runs the tests."""

    observation_space = Box(0.0, 1.0, (2,), np.float32)
    action_space = Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._observe(), 0.0, False, False, {}

    def _observe(self) -> np.ndarray:
        return np.array(["jax" in sys.modules, "pytest" in sys.modules], np.float32)


class Leaving(gym.Env[Any, Any]):
    """Calls sys.exit where it is told to; in the constructor, only of a process that was started by another."""

    observation_space = Box(0.0, 1.0, (2,), np.float32)
    action_space = Discrete(2)

    def __init__(self, where: str) -> None:
        self._where = where
        if where == "init" and multiprocessing.parent_process() is not None:
            sys.exit()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        sys.exit()


class Stuck(gym.Env[Any, Any]):
    """Does not return from where it is told, and starts a process of its own, whose id it observes."""

    observation_space = Box(0.0, np.inf, (1,), np.float64)
    action_space = Discrete(2)

    def __init__(self, where: str) -> None:
        self._where = where
        self._wait("init", only_in_a_worker=True)
        self._child = subprocess.Popen(["sleep", "300"]) if multiprocessing.parent_process() is not None else None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._wait("step")
        return self._observe(), 0.0, False, False, {}

    def close(self) -> None:
        self._wait("close", only_in_a_worker=True)
        if self._child is not None:
            self._child.terminate()
            self._child.wait()

    def _observe(self) -> np.ndarray:
        return np.array([self._child.pid if self._child else 0.0])

    def _wait(self, where: str, *, only_in_a_worker: bool = False) -> None:
        while where == self._where and not (only_in_a_worker and multiprocessing.parent_process() is None):
            time.sleep(0.05)


class Messy(gym.Env[Any, Any]):
    """Changes whatever it can of its process in `where`, and tells in its observation whether it finds that again."""

    observation_space = Box(0.0, 1.0, (1,), np.float32)
    action_space = Discrete(2)

    def __init__(self, where: str, folder: str) -> None:
        self._where, self._folder = where, folder
        self._change("init")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._change("reset")
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._change("step")
        return self._observe(), 0.0, False, False, {}

    def close(self) -> None:
        self._change("close")

    def _change(self, where: str) -> None:
        if where != self._where:
            return
        import jax  # not in the workers of other environments

        os.chdir(self._folder)
        np.seterr(all="raise")
        warnings.simplefilter("error")
        logging.disable(logging.CRITICAL)
        logging.getLogger().handlers.append(logging.NullHandler())
        sys.stdout = io.StringIO()
        jax.config.update("jax_enable_x64", True)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        random.seed(1)
        np.random.seed(1)

    def _observe(self) -> np.ndarray:
        kept = os.path.samefile(os.getcwd(), self._folder) and np.geterr()["over"] == "raise"
        return np.array([kept and sys.modules["jax"].config.jax_enable_x64], np.float32)


gym.register("Stuck-v0", "sample_envs:Stuck")
gym.register("Messy-v0", "sample_envs:Messy")
gym.register("Mixed-v0", "sample_envs:Mixed")
gym.register("Faulty-v0", "sample_envs:Faulty")
gym.register("Restless-v0", "sample_envs:Restless")
gym.register("Probe-v0", "sample_envs:Probe")
gym.register("Leaving-v0", "sample_envs:Leaving")
