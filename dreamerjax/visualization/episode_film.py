"""One evaluation episode as the environment itself draws it, with a caption under every frame."""

from __future__ import annotations

import warnings
from contextlib import closing
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from PIL import Image

from dreamerjax.config.schema import EnvConfig
from dreamerjax.core.errors import UserError
from dreamerjax.core.types import Arrays
from dreamerjax.data.playing import PlayedEpisode
from dreamerjax.envs import EnvironmentFault, make_env
from dreamerjax.envs.boundary import faults
from dreamerjax.visualization.pictures import write
from dreamerjax.visualization.style import PALE

WIDTH = 400  # pixels of a frame, which is smaller where the environment draws smaller
STRIP = 44  # pixels of the caption
FPS = 25.0  # at most so many frames a second: of a faster environment, steps are left out
DEFAULT_FPS = 25.0  # of an environment that does not say
LONGEST = 1_500  # frames; a longer episode is shown up to there
RENDER = "rgb_array"

Frames = list[tuple[int, Image.Image]]  # the step that each shows, and the picture


class Camera(gym.Wrapper[Arrays, np.ndarray, Arrays, np.ndarray]):
    """Keeps pictures of the first episode that is played in an environment."""

    def __init__(self, env: gym.Env[Arrays, np.ndarray], name: str, every: int) -> None:
        """`every` so many steps one picture is kept, and that of the end."""
        super().__init__(env)
        self.frames: Frames = []
        self._every, self._step, self._over = every, 0, False
        self._name = name

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Arrays, dict[str, Any]]:
        result = self.env.reset(seed=seed, options=options)
        self._over = bool(self.frames)
        self._look(wanted=not self._over)
        return result

    def step(self, action: np.ndarray) -> tuple[Arrays, Any, bool, bool, dict[str, Any]]:
        result = self.env.step(action)
        self._step += 1
        self._look(wanted=not self._over and (self._step % self._every == 0 or result[2] or result[3]))
        return result

    def _look(self, *, wanted: bool) -> None:
        if wanted and len(self.frames) < LONGEST:
            rendered = self.env.render()
            with faults(self._name, "render"):
                self.frames.append((self._step, _picture(rendered)))


class Film:
    """An environment that can be drawn, for one episode."""

    def __init__(self, config: EnvConfig) -> None:
        """Draws a first picture, so that what cannot be drawn is known before anything is played.

        Raises UserError: the environment cannot draw itself, or a package is missing for it.
        """
        env = _drawable(config)
        rate = float(env.metadata.get("render_fps") or DEFAULT_FPS) / config.action_repeat
        every = max(1, round(rate / FPS))
        self.fps = rate / every
        self._camera = Camera(env, config.id, every)
        self.envs = SyncVectorEnv([lambda: self._camera], copy=False, autoreset_mode=AutoresetMode.DISABLED)

    def frames(self, episode: PlayedEpisode) -> list[Image.Image]:
        """The pictures of `episode`, the first one that was played in `envs`, each with its caption."""
        returns = np.cumsum([0.0, *episode.rewards])
        return [_captioned(picture, _caption(episode, returns, step)) for step, picture in self._camera.frames]

    def close(self) -> None:
        """Ends the environment, if it has not ended."""
        self.envs.close()


def _drawable(config: EnvConfig) -> gym.Env[Any, Any]:
    """The environment with pictures."""
    cannot = f"video=true: {config.id} cannot be drawn: "
    with closing(make_env(config)) as env:
        modes = env.metadata.get("render_modes") or []
    if RENDER not in modes:
        has = f"only the render modes {', '.join(map(str, modes))}" if modes else "no render mode"
        raise UserError(f"{cannot}it has {has}, and a video needs {RENDER}")
    env = make_env(config, RENDER)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # gymnasium's on a picture of another shape: that is said below
            env.reset(seed=0)
            picture = env.render()
    except EnvironmentFault as error:
        env.close()
        cause = error.__cause__ or error
        raise UserError(f"{cannot}{type(cause).__name__}: {cause}") from error
    if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.dtype != np.uint8:
        env.close()
        raise UserError(f"{cannot}render() gives no picture of bytes [height, width, 3]")
    return env


def _picture(rendered: Any) -> Image.Image:
    """At most WIDTH wide, both sides even as MP4 wants them."""
    image = Image.fromarray(rendered[..., :3])
    scale = min(1.0, WIDTH / image.width)
    width, height = (2 * max(1, round(scale * side / 2)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX)


def _caption(episode: PlayedEpisode, returns: np.ndarray, step: int) -> tuple[str, str]:
    """Two lines: where the episode is, and what is done there."""
    first = f"step {step}   return {returns[step]:.6g}"
    if step == len(episode):
        return first, "the end: " + ("terminated" if episode.terminated else "time limit")
    reward = f"   reward {episode.rewards[step - 1]:.4g}" if step else ""
    action = " ".join(f"{number:.3g}" for number in episode.actions[step])
    return first + reward, f"action {action}"


def _captioned(picture: Image.Image, lines: tuple[str, str]) -> Image.Image:
    frame = Image.new("RGB", (picture.width, picture.height + STRIP), PALE)
    frame.paste(picture, (0, 0))
    size = min(14, max(8, picture.width // 24))
    for number, line in enumerate(lines):
        write(frame, (8, picture.height + STRIP * (1 + 2 * number) / 4), line, size)
    return frame
