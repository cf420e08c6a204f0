"""Between an environment's own spaces and the agent's; faults become one line, and an episode can be played again."""

from __future__ import annotations

import operator
from collections import deque
from dataclasses import dataclass
from functools import reduce
from typing import Any

import gymnasium as gym
import numpy as np

from dreamerjax.core.errors import EnvironmentFault
from dreamerjax.core.types import Arrays
from dreamerjax.envs import spaces
from dreamerjax.envs.image_view import ImageView


@dataclass(frozen=True)
class Snapshot:
    """An episode in progress, as whoever steps the environment has seen it."""

    seed: int  # of its reset
    actions: np.ndarray  # [steps since the reset, *action shape]
    observation: Arrays  # the newest
    return_: float  # rewards since the reset, summed in order


class Adapter(gym.Wrapper[Arrays, np.ndarray, Any, Any]):
    """Observations become a dict of flat named arrays; actions come as ActionSpec says and are translated back.

    Images are shown as `view` says. Before an episode's first frame lie copies of it.
    Any exception of the environment becomes an EnvironmentFault; `restore` plays an episode again to its snapshot.

    `info` dictionaries end here: nothing reads them, and a vector environment fails on those that differ between
    streams. Assign `pending` first and call `restore` afterwards: vector environments can pass each stream its own
    attribute, but not its own argument.
    """

    def __init__(self, env: gym.Env[Any, Any], name: str, view: ImageView) -> None:
        """`name` is what faults call the environment. Raises UserError if a space is not supported."""
        super().__init__(env)
        self._name, self._view = name, view
        spec = spaces.env_spec(env.observation_space, env.action_space, view)
        self._leaves = spaces.leaves(env.observation_space, view)
        images = [name for name, entry in spec.observations.items() if entry.is_image and view.frames > 1]
        self._frames: dict[str, deque[np.ndarray]] = {name: deque(maxlen=view.frames) for name in images}
        self.to_env = spaces.action_converter(env.action_space)
        self.observation_space: gym.Space[Any] = spaces.observation_space(spec)
        self.action_space: gym.Space[Any] = spaces.action_space(spec.action)
        self.pending: Snapshot | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Arrays, dict[str, Any]]:
        try:
            observation, _ = self.env.reset(seed=seed, options=options)
            self.begin()
            return self.flatten(observation), {}
        except Exception as error:
            raise self._fault("reset", error) from error

    def step(self, action: np.ndarray) -> tuple[Arrays, float, bool, bool, dict[str, Any]]:
        try:
            observation, reward, terminated, truncated, _ = self.env.step(self.to_env(action))
            return self.flatten(observation), float(reward), bool(terminated), bool(truncated), {}
        except Exception as error:
            raise self._fault("step", error) from error

    def begin(self) -> None:
        """Forget the frames of the episode before."""
        for frames in self._frames.values():
            frames.clear()

    def flatten(self, observation: Any) -> Arrays:
        """The environment's own newest observation as flat named arrays, without a batch axis."""
        flat = {leaf.name: leaf.convert(reduce(operator.getitem, leaf.path, observation)) for leaf in self._leaves}
        for name, frames in self._frames.items():
            frames.extend([flat[name]] * max(1, self._view.frames - len(frames)))
            flat[name] = np.concatenate(frames, axis=-1)
        return flat

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
