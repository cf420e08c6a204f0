"""Making and playing the environments of the extras where their packages are installed."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from dreamerjax.core.errors import UserError
from dreamerjax.envs.extras import register
from dreamerjax.envs.factory import find_registration


def need(env_id: str) -> None:
    """Skip the test unless the extra of `env_id` is installed."""
    try:
        register(env_id)
    except UserError as error:
        pytest.skip(str(error))


def make(env_id: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """The environment as gymnasium makes it, before the agent's view of it."""
    need(env_id)
    return gym.make(find_registration(env_id), **kwargs)


def play(env: gym.Env[Any, Any], seed: int, steps: int) -> list[Any]:
    """All that is seen in the first steps of an episode; the actions are always the same ones."""
    env.action_space.seed(0)
    seen: list[Any] = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        seen.append(env.step(env.action_space.sample())[:4])
        if seen[-1][2] or seen[-1][3]:
            break
    return seen


def same(left: Any, right: Any) -> bool:
    """Equal to the last bit, nested arrays included."""
    try:
        np.testing.assert_equal(left, right)
    except AssertionError:
        return False
    return True
