"""An episode as its environment draws it: which steps are shown, what the captions say, and what cannot be drawn."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from dreamerjax.config.schema import EnvConfig, Pixels
from dreamerjax.core.errors import UserError
from dreamerjax.data.playing import PlayedEpisode, play_episodes
from dreamerjax.envs import EnvironmentFault, env_spec
from dreamerjax.envs.random_rollouts import random_policy
from dreamerjax.visualization import episode_film
from dreamerjax.visualization.episode_film import Film

LENGTH = 7


class Drawn(gym.Env[Any, Any]):
    """Seven steps of reward 1.5; its picture is of one gray, that of the step."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012
    observation_space = Box(-1, 1, (2,), np.float32)
    action_space = Discrete(2)

    def __init__(self, render_mode: str | None = None, shape: tuple[int, ...] = (300, 801, 3)) -> None:
        self.render_mode, self._shape, self._steps = render_mode, shape, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        return np.zeros(2, np.float32), 1.5, self._steps == LENGTH, False, {}

    def render(self) -> Any:
        return np.full(self._shape, 10 * self._steps, np.uint8)


class Undrawable(Drawn):
    """Says that it can be drawn."""

    def render(self) -> Any:
        raise gym.error.DependencyNotInstalled("pygame is not\ninstalled")


class Breaking(Drawn):
    """Can be drawn for four steps."""

    def render(self) -> Any:
        if self._steps > 4:
            raise RuntimeError("out of\npaint")
        return super().render()


class Unseen(Drawn):
    """Has no picture for videos."""

    metadata = {"render_modes": ["human", "ansi"]}  # noqa: RUF012


for name in ("Drawn", "Undrawable", "Breaking", "Unseen"):
    gym.register(f"{name}-v0", f"{__name__}:{name}")


def filmed(config: EnvConfig) -> tuple[Film, PlayedEpisode]:
    """A film of one random episode."""
    made = Film(config)
    spec = env_spec(made.envs.single_observation_space, made.envs.single_action_space)
    policy = random_policy(spec.action, np.random.default_rng(0))
    (episode,) = play_episodes(made.envs, policy, 1, seed=0, keep=1, longest=1_000).played
    made.close()
    return made, episode


@pytest.mark.parametrize(
    ("repeat", "fps", "steps"), [(1, 25.0, [0, 2, 4, 6, 7]), (2, 25.0, [0, 1, 2, 3, 4]), (5, 10.0, [0, 1, 2])]
)
def test_steps_that_are_shown(repeat: int, fps: float, steps: list[int]) -> None:
    made, episode = filmed(EnvConfig(id="Drawn-v0", action_repeat=repeat))
    frames = made.frames(episode)
    grays = [frame.getpixel((5, 5)) for frame in frames]
    assert grays == [(10 * min(step * repeat, LENGTH),) * 3 for step in steps]
    assert made.fps == fps
    assert {frame.size for frame in frames} == {(400, 150 + episode_film.STRIP)}
    assert len({frame.crop((0, 150, 400, 194)).tobytes() for frame in frames}) == len(frames)


def test_captions() -> None:
    _, episode = filmed(EnvConfig(id="Drawn-v0"))
    returns = 1.5 * np.arange(LENGTH + 1)
    assert episode_film._caption(episode, returns, 0) == ("step 0   return 0", f"action {episode.actions[0, 0]}")
    assert episode_film._caption(episode, returns, 4) == ("step 4   return 6   reward 1.5", f"action {episode.actions[4, 0]}")
    assert episode_film._caption(episode, returns, LENGTH) == ("step 7   return 10.5", "the end: terminated")


def test_a_long_episode_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episode_film, "LONGEST", 3)
    made, episode = filmed(EnvConfig(id="Drawn-v0"))
    assert (len(made.frames(episode)), len(episode)) == (3, LENGTH)


@pytest.mark.parametrize(
    ("env_id", "kwargs", "message"),
    [
        ("Unseen-v0", {}, "Unseen-v0 cannot be drawn: it has only the render modes human, ansi, and a video needs rgb_array"),
        ("Undrawable-v0", {}, "Undrawable-v0 cannot be drawn: DependencyNotInstalled: pygame is not installed"),
        ("Drawn-v0", {"shape": [4, 4]}, "Drawn-v0 cannot be drawn: render"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(env_id: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"video=true: {message}"):
        Film(EnvConfig(id=env_id, kwargs=kwargs))


def test_a_picture_that_fails_later_is_a_fault_of_the_environment() -> None:
    with pytest.raises(
        EnvironmentFault,
        match=r"after evaluation step 5: environment Breaking-v0 raised RuntimeError in render .*: out of paint",
    ):
        filmed(EnvConfig(id="Breaking-v0"))


def test_a_film_ends_its_environment() -> None:
    made = Film(EnvConfig(id="Drawn-v0"))
    made.close()
    assert made.envs.closed
    made.close()


@pytest.mark.parametrize("pixels", [Pixels.only, Pixels.add])
def test_an_environment_that_is_seen_is_filmed_as_large_as_it_draws_itself(pixels: Pixels) -> None:
    config = EnvConfig(id="Drawn-v0", pixels=pixels, image_size=[16, 16], kwargs={"shape": [300, 800, 3]})
    made, episode = filmed(config)
    assert episode.observations["image"].shape == (LENGTH + 1, 16, 16, 3)
    assert {frame.size for frame in made.frames(episode)} == {(400, 150 + episode_film.STRIP)}


def test_cartpole_needs_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame")
    monkeypatch.delenv("DISPLAY", raising=False)
    made, episode = filmed(EnvConfig(id="CartPole-v1"))
    assert made.fps == 25.0
    assert len(made.frames(episode)) == len(episode) // 2 + 1 + len(episode) % 2
