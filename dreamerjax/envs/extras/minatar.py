"""MinAtar: `minatar/GAME`, such as `minatar/Breakout`, with the actions that the game needs (MinAtar/GAME-v1)."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from minatar.gym import BaseEnv, register_envs

STEPS = 1_000  # of an episode: MinAtar itself has no limit, and a ball can fly for ever


class MinAtar(BaseEnv):
    """A game; observations are bool [10, 10, channels]. An episode is a matter of its seed and actions."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        gym.Env.reset(self, seed=seed)
        self.game.last_action = 0  # which an action that sticks would repeat: not one of the episode before
        state, info = super().reset(int(self.np_random.integers(2**31)))
        return state, info


register_envs()
for _spec in [spec for spec in gym.registry.values() if spec.namespace == "MinAtar" and spec.version == 1]:
    gym.register(f"minatar/{_spec.name}", f"{__name__}:MinAtar", max_episode_steps=STEPS, kwargs=_spec.kwargs)
