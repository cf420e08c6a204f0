"""Between an environment's own spaces and the agent's."""

from __future__ import annotations

import operator
from collections import deque
from functools import reduce
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np

from dreamerjax.core.types import Arrays
from dreamerjax.envs import spaces
from dreamerjax.envs.image_view import ImageView


class Adapter(gym.Wrapper[Arrays, np.ndarray, Any, Any]):
    """Observations become a dict of flat named arrays; actions come as ActionSpec says and are translated back.

    Images are shown as `view` says. Before an episode's first frame lie copies of it.
    Raises UserError if a space is not supported.
    """

    def __init__(self, env: gym.Env[Any, Any], view: ImageView = spaces.AS_THEY_ARE) -> None:
        super().__init__(env)
        self._view = view
        spec = spaces.env_spec(env.observation_space, env.action_space, view)
        self._leaves = spaces.leaves(env.observation_space, view)
        images = [name for name, entry in spec.observations.items() if entry.is_image and view.frames > 1]
        self._frames: dict[str, deque[np.ndarray]] = {name: deque(maxlen=view.frames) for name in images}
        self.to_env = spaces.action_converter(env.action_space)
        self.observation_space: gym.Space[Any] = spaces.observation_space(spec)
        self.action_space: gym.Space[Any] = spaces.action_space(spec.action)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Arrays, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        self.begin()
        return self.flatten(observation), info

    def step(self, action: np.ndarray) -> tuple[Arrays, SupportsFloat, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(self.to_env(action))
        return self.flatten(observation), reward, terminated, truncated, info

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
