"""DeepMind Control Suite: `dmc/DOMAIN_TASK`, such as `dmc/cartpole_swingup`."""

from __future__ import annotations

import importlib
import os
import sys
from ctypes.util import find_library
from typing import Any

import gymnasium as gym
import numpy as np

STEPS = 1000  # of an episode, in every task
CAMERAS = {"quadruped": 2}  # as published; 0 in all other domains
DRAWING = {"egl": "EGL", "osmesa": "OSMesa"}  # without a screen: what dm_control calls it, and its library

Observation = dict[str, np.ndarray]


def import_suite() -> Any:
    """dm_control's suite, able to draw without a screen where a library for that works, else unable to draw.

    dm_control decides when it is imported. By itself it would prefer a screen, and fail later where there is none. Where
    the environment variable MUJOCO_GL is set, that decides.
    """
    if sys.platform == "linux" and "MUJOCO_GL" not in os.environ:
        backend = next((name for name, library in DRAWING.items() if find_library(library)), "disable")
        os.environ["MUJOCO_GL"] = backend
        try:
            return importlib.import_module("dm_control.suite")
        except ModuleNotFoundError:
            raise
        except (ImportError, AttributeError):  # what PyOpenGL raises varies
            os.environ["MUJOCO_GL"] = "disable"
    return importlib.import_module("dm_control.suite")


suite = import_suite()


class ControlSuite(gym.Env[Any, np.ndarray]):
    """One task; observations are a dict of the task's own float64 arrays, rewards are within 0 and 1.

    The time limit is left to gymnasium, which truncates.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self,
        domain: str,
        task: str,
        *,
        height: int = 240,
        width: int = 320,
        camera_id: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        """`height`, `width` (pixels) and `camera_id` are those of `render`."""
        self._env = suite.load(domain, task, {"time_limit": float("inf")})
        self._view = {"height": height, "width": width, "camera_id": CAMERAS.get(domain, 0) if camera_id is None else camera_id}
        self.metadata = self.metadata | {"render_fps": 1.0 / self._env.control_timestep()}
        self.render_mode = render_mode
        specs, action = self._env.observation_spec(), self._env.action_spec()
        self.observation_space = gym.spaces.Dict(
            {name: gym.spaces.Box(-np.inf, np.inf, spec.shape, spec.dtype) for name, spec in specs.items()}
        )
        self.action_space = gym.spaces.Box(action.minimum, action.maximum, action.shape, action.dtype)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self._env.task.random.seed(seed)
        return _copied(self._env.reset().observation), {}

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        result = self._env.step(action)
        terminated = result.last() and result.discount == 0
        return _copied(result.observation), float(result.reward), terminated, result.last() and not terminated, {}

    def render(self) -> np.ndarray:
        """The scene from the camera: uint8 [height, width, 3]."""
        return np.asarray(self._env.physics.render(**self._view))

    def close(self) -> None:
        self._env.physics.free()


def _copied(observation: dict[str, Any]) -> Observation:
    return {name: np.array(values) for name, values in observation.items()}


for _domain, _task in suite.ALL_TASKS:
    if _domain != "lqr":  # its actions have no bounds
        _kwargs = {"domain": _domain, "task": _task}
        gym.register(f"dmc/{_domain}_{_task}", f"{__name__}:ControlSuite", max_episode_steps=STEPS, kwargs=_kwargs)
