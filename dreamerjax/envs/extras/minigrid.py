"""Minigrid: `minigrid/NAME`, such as `minigrid/Empty-5x5`, for the newest version of MiniGrid-NAME."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import minigrid
from gymnasium.wrappers import FilterObservation
from minigrid.wrappers import RGBImgPartialObsWrapper

PREFIX = "MiniGrid-"


def make(task: str, tile_size: int = 9, **kwargs: Any) -> gym.Env[Any, Any]:
    """A task whose observations are a picture of the 7 x 7 tiles before the agent, and the direction that it looks in.

    The picture is uint8 [7 * tile_size, 7 * tile_size, 3] in place of the numbers of things that minigrid itself observes;
    the text is left out. `kwargs` are the task's own, such as `max_steps`.
    """
    env = gym.make(task, disable_env_checker=True, **kwargs)
    return FilterObservation(RGBImgPartialObsWrapper(env, tile_size), ["image", "direction"])


gym.register_envs(minigrid)
_specs = [spec for env_id, spec in gym.registry.items() if env_id.startswith(PREFIX)]
for _spec in {spec.name: spec for spec in sorted(_specs, key=lambda spec: spec.version or 0)}.values():
    gym.register(f"minigrid/{_spec.name.removeprefix(PREFIX)}", f"{__name__}:make", kwargs={"task": _spec.id})
