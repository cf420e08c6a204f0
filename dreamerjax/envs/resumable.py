"""The outermost wrapper: faults become one line, and an interrupted episode can be played up to where it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from dreamerjax.core.errors import EnvironmentFault
from dreamerjax.core.types import Arrays


@dataclass(frozen=True)
class Snapshot:
    """An episode in progress, as whoever steps the environment has seen it."""

    seed: int  # of its reset
    actions: np.ndarray  # [steps since the reset, *action shape]
    observation: Arrays  # the newest
    return_: float  # rewards since the reset, summed in order


class Resumable(gym.Wrapper[Arrays, np.ndarray, Arrays, np.ndarray]):
    """Any exception of the environment becomes an EnvironmentFault; `restore` plays an episode again to its snapshot.

    `info` dictionaries end here: nothing reads them, and a vector environment fails on those that differ between
    streams. Assign `pending` first and call `restore` afterwards: vector environments can pass each stream its own
    attribute, but not its own argument.
    """

    def __init__(self, env: gym.Env[Arrays, np.ndarray], name: str) -> None:
        super().__init__(env)
        self._name = name
        self.pending: Snapshot | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Arrays, dict[str, Any]]:
        try:
            return self.env.reset(seed=seed, options=options)[0], {}
        except Exception as error:
            raise self._fault("reset", error) from error

    def step(self, action: np.ndarray) -> tuple[Arrays, float, bool, bool, dict[str, Any]]:
        try:
            observation, reward, terminated, truncated, _ = self.env.step(action)
            return observation, float(reward), bool(terminated), bool(truncated), {}
        except Exception as error:
            raise self._fault("step", error) from error

    def restore(self) -> str:
        """Reset with the pending snapshot's seed and repeat its actions.

        Returns "" if that led to the same observation and return, otherwise in a few words what differs: the
        environment is then not deterministic given its seed and actions, and in no defined state until the next reset.
        """
        assert self.pending is not None
        snapshot, self.pending = self.pending, None
        count, return_ = len(snapshot.actions), 0.0
        try:
            observation, _ = self.reset(seed=snapshot.seed, options={})
            for index, action in enumerate(snapshot.actions):
                observation, reward, terminated, truncated, _ = self.step(action)
                return_ += reward
                if terminated or truncated:
                    return f"the episode ended after {index + 1} of the same {count} actions"
        except EnvironmentFault as error:
            return str(error)
        for name, expected in snapshot.observation.items():
            if not np.array_equal(observation[name], expected):
                return f"observation {name!r} differs after the same seed and {count} actions"
        return "" if return_ == snapshot.return_ else f"the return differs after the same seed and {count} actions"

    def _fault(self, method: str, error: Exception) -> EnvironmentFault:
        return EnvironmentFault(f"environment {self._name} raised {type(error).__name__} in {method}: {error}")
