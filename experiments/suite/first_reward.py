"""How soon random actions are rewarded, new at every step or held (`behavior.explore`), without any agent.

    python experiments/suite/first_reward.py pendulum_swingup,cartpole_swingup_sparse 4000

Plays that many actions in each task of DeepMind Control, three seeds, and prints how many were rewarded, and the first.
"""

from __future__ import annotations

import sys
from contextlib import closing
from typing import Any, cast

import gymnasium as gym
import numpy as np

from dreamerjax.config.schema import EnvConfig
from dreamerjax.core.types import ActionSpec
from dreamerjax.data.exploration import Exploration
from dreamerjax.envs.factory import gymnasium_env

SHARES = (0.0, 0.5, 1.0)
SEEDS = range(3)


def rewarded(env: gym.Env[Any, Any], share: float, actions: int, seed: int) -> list[int]:
    """Which of the actions were followed by a reward of more than 0.1."""
    space = cast(gym.spaces.Box, env.action_space)
    rng = np.random.default_rng(seed)
    exploration = Exploration(ActionSpec(dimensions=space.shape[0]), 1, 64, rng)
    exploration.share = share
    found, is_first = [], np.array([True])
    env.reset(seed=seed)
    for number in range(actions):
        drawn = rng.uniform(-1.0, 1.0, (1, space.shape[0])).astype(np.float32)
        done = exploration(drawn, is_first)[0]
        _, reward, terminated, truncated, _ = env.step(space.low + (done + 1) / 2 * (space.high - space.low))
        if float(reward) > 0.1:
            found.append(number)
        is_first = np.array([terminated or truncated])
        if is_first[0]:
            env.reset()
    return found


def main(tasks: list[str], actions: int) -> None:
    """One line a task and share."""
    for task in tasks:
        with closing(gymnasium_env(EnvConfig(id=f"dmc/{task}", action_repeat=2))) as env:
            for share in SHARES:
                found = [rewarded(env, share, actions, seed) for seed in SEEDS]
                counts, firsts = [len(one) for one in found], [one[0] if one else None for one in found]
                print(f"{task}: {share:.0%} held: {counts} of {actions} rewarded, first at {firsts}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1].split(","), int(sys.argv[2]))
