"""Crafter: `crafter/reward`, and `crafter/noreward`, whose rewards are all 0."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import crafter
import gymnasium as gym
import numpy as np

STEPS = 10_000  # of an episode


class Crafter(gym.Env[np.ndarray, Any]):
    """Survive in a generated world; observations are uint8 [height, width, 3]. Death terminates."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, reward: bool = True, size: tuple[int, int] = (64, 64), render_mode: str | None = None) -> None:
        """`size` is the width and height of observations and pictures in pixels."""
        self._settings = {"reward": reward, "size": tuple(size), "length": None}
        self._env = crafter.Env(**self._settings, seed=0)
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Box(0, 255, (size[1], size[0], 3), np.uint8)
        self.action_space = gym.spaces.Discrete(len(self._env.action_names))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._env = crafter.Env(**self._settings, seed=int(self.np_random.integers(2**31)))
        observation = self._env.reset()
        _put_in_order(self._env._world)
        return observation, {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        observation, reward, _, info = self._env.step(action)
        return observation, float(reward), info["discount"] == 0, False, {"achievements": info["achievements"]}

    def render(self) -> np.ndarray:
        """What is observed: uint8 [height, width, 3]."""
        return np.asarray(self._env.render())


class Ordered(dict[Any, None]):
    """A set that is iterated in the order of insertion."""

    def add(self, item: Any) -> None:
        self[item] = None

    def remove(self, item: Any) -> None:
        del self[item]


def _put_in_order(world: Any) -> None:
    """Make an episode a matter of its seed and actions.

    Crafter draws creatures at random from sets of objects, whose order depends on where those lie in memory.
    """
    chunks: defaultdict[Any, Ordered] = defaultdict(Ordered)
    for item in world.objects:
        chunks[world.chunk_key(item.pos)].add(item)
    world._chunks = chunks


for _name in ("reward", "noreward"):
    gym.register(f"crafter/{_name}", f"{__name__}:Crafter", max_episode_steps=STEPS, kwargs={"reward": _name == "reward"})
