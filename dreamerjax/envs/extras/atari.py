"""Atari games: `atari/GAME`, such as `atari/MsPacman`, for what the Arcade Learning Environment calls ALE/MsPacman-v5."""

from __future__ import annotations

from typing import Any

import ale_py
import cv2  # noqa: F401  (for AtariPreprocessing)
import gymnasium as gym
from gymnasium.wrappers import AtariPreprocessing

FPS = 60  # of the console
FRAMES = 108_000  # of an episode at most
REPEAT = 4  # frames for which an action is held

ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # no banner


def make(
    game: str,
    *,
    noop_max: int = 30,
    frame_skip: int = REPEAT,
    screen_size: int = 64,
    terminal_on_life_loss: bool = False,
    grayscale_obs: bool = False,
    repeat_action_probability: float = 0.0,
    **kwargs: Any,
) -> gym.Env[Any, Any]:
    """A game as in DreamerV3's Atari 100k: whole games, raw rewards, observations uint8 [screen_size, screen_size, 3].

    The other arguments are those of AtariPreprocessing and, `kwargs` included, of ale_py's environment.
    """
    env = gym.make(
        game,
        disable_env_checker=True,
        frameskip=1,
        max_num_frames_per_episode=None,  # left to gymnasium, which truncates too
        repeat_action_probability=repeat_action_probability,
        **kwargs,
    )
    env = AtariPreprocessing(
        env,
        noop_max=noop_max,
        frame_skip=frame_skip,
        screen_size=screen_size,
        terminal_on_life_loss=terminal_on_life_loss,
        grayscale_obs=grayscale_obs,
    )
    env.metadata = env.metadata | {"render_fps": FPS / frame_skip}
    return env


gym.register_envs(ale_py)
for _spec in [spec for spec in gym.registry.values() if spec.namespace == "ALE"]:
    gym.register(f"atari/{_spec.name}", f"{__name__}:make", max_episode_steps=FRAMES // REPEAT, kwargs={"game": _spec.id})
