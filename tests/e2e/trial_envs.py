"""An environment with CartPole's shapes and short episodes, and variables of the process that make things go wrong in it.

TRIAL says what (a key of EVENTS), TRIAL_AT at which step of an environment's life, over its episodes; it happens once in a
process. TRIAL_NOISE makes the environment depend on more than its seed and actions. None of this is configuration: a run
continues without it.
"""

from __future__ import annotations

import itertools
import os
import resource
import signal
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.spaces import Box, Discrete

_calls = itertools.count()


def _raise() -> None:
    raise RuntimeError("the gears\nare stuck")


def _interrupt_twice() -> None:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.6)  # nearer to each other, two signals are one
    os.kill(os.getpid(), signal.SIGINT)


def _fill_disk() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


EVENTS: dict[str, Callable[[], None]] = {
    "raise": _raise,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "terminate": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "interrupt": lambda: os.kill(os.getpid(), signal.SIGINT),
    "interrupt_twice": _interrupt_twice,
    "full_disk": _fill_disk,
}


class Trial(gym.Env[Any, Any]):
    """A random walk that the actions push; ends at random or after 12 steps. Reward 1, or 0.5 for action 0."""

    observation_space: gym.Space[Any] = Box(-np.inf, np.inf, (4,), np.float32)
    action_space = Discrete(2)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self._life = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        self._position = self.np_random.normal(size=4).astype(np.float32)
        return self._position.copy(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._life, self._steps = self._life + 1, self._steps + 1
        self._position += (0.1 * self.np_random.normal(size=4) + 0.05 * (int(action) - 0.5)).astype(np.float32)
        observation, reward = self._position.copy(), 1.0 if action else 0.5
        if "TRIAL_NOISE" in os.environ:
            observation += next(_calls)
        if self._life == int(os.environ.get("TRIAL_AT", 0)) and (event := os.environ.pop("TRIAL", None)):
            EVENTS.get(event, lambda: None)()
            observation[2] = np.nan if event == "nan_observation" else observation[2]
            reward = np.inf if event == "inf_reward" else reward
        return observation, reward, bool(self.np_random.random() < 0.05), self._steps >= 12, {}

    def render(self) -> Any:
        """For a test that adds rgb_array to the metadata."""
        return np.full((40, 60, 3), 20 * self._steps, np.uint8)


class Quiet(Trial):
    """Nothing is rewarded, and no episode ends early, so that there is nothing to learn but exploration."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, _, _, truncated, info = super().step(action)
        return observation, 0.0, False, truncated, info


class Words(Trial):
    """Observes a text."""

    observation_space: gym.Space[Any] = gym.spaces.Text(8)


class Walk(gym.Env[Any, Any]):
    """A random walk of 12 steps at most that the actions push. It is registered nowhere, but given as a class."""

    observation_space = Box(-np.inf, np.inf, (4,), np.float32)
    action_space = Discrete(2)

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.position = 0, self.np_random.normal(size=4)
        return self.position.astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.position += 0.1 * self.np_random.normal(size=4) + 0.05 * (int(action) - 0.5)
        ends = bool(self.np_random.random() < 0.05)
        return self.position.astype(np.float32), self.factor * float(action), ends, self.steps >= 12, {}


gym.register("Trial-v0", "trial_envs:Trial")
gym.register("Quiet-v0", "trial_envs:Quiet")
gym.register("Words-v0", "trial_envs:Words")
