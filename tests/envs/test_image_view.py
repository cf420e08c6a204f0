"""Pictures as observations: how they are cut, shrunk and stacked, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from dreamerjax.config.schema import EnvConfig, Pixels, Vectorization
from dreamerjax.core.errors import UserError
from dreamerjax.core.types import ObservationSpec
from dreamerjax.envs import EnvironmentFault, env_spec, make_env, make_vector_env
from dreamerjax.envs.adapter import Adapter
from dreamerjax.envs.image_view import ImageView

pytest.importorskip("pygame", reason="CartPole is drawn by pygame-ce, of the extra 'video'")
PIXELS = EnvConfig(pixels=Pixels.only, image_size=[32, 64], crop=[0.4, 0.85, 0.0, 1.0])


def test_shrinking_takes_the_mean_over_each_pixels_area() -> None:
    image = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    shown = ImageView((4, 5)).show(image)
    expected = image.reshape(4, 3, 5, 4, 3).mean(axis=(1, 3))
    assert (shown.shape, shown.dtype) == ((4, 5, 3), np.uint8)
    assert np.abs(shown - expected).max() <= 1.0


def test_a_line_thinner_than_a_pixel_leaves_its_shade() -> None:
    image = np.full((64, 64), 255, np.uint8)
    image[:, 10] = 0
    shown = ImageView((16, 16)).show(image)
    np.testing.assert_allclose(shown[:, 2, 0], 255 * 3 / 4, atol=1)
    assert (np.delete(shown, 2, axis=1) == 255).all()


@pytest.mark.parametrize(
    ("view", "shape", "expected"),
    [
        (ImageView(), (7, 9), (7, 9, 1)),
        (ImageView(), (7, 9, 3), (7, 9, 3)),
        (ImageView((16, 32)), (7, 9, 4), (16, 32, 4)),
        (ImageView((16, 32), grayscale=True), (7, 9, 3), (16, 32, 1)),
        (ImageView((16, 32), grayscale=True), (7, 9), (16, 32, 1)),
    ],
)
def test_shapes(view: ImageView, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert view.show(image).shape == view.shape(shape) == expected
    if view == ImageView():
        np.testing.assert_array_equal(view.show(image).reshape(shape), image)


def test_crop_and_grayscale() -> None:
    image = np.zeros((10, 10, 3), np.uint8)
    image[5:, :5] = (200, 100, 0)
    shown = ImageView((2, 2), crop=(0.5, 1.0, 0.0, 0.5), grayscale=True).show(image)
    np.testing.assert_allclose(shown, 0.299 * 200 + 0.587 * 100, atol=1)


def test_cartpole_from_pixels_alone_and_beside_its_numbers() -> None:
    env = make_env(PIXELS)
    assert env_spec(env.observation_space, env.action_space).observations == {"image": ObservationSpec((32, 64, 3), (), True)}
    image = env.reset(seed=0)[0]["image"]
    assert env.observation_space.contains({"image": image})
    assert image.min() < 60  # a black cart
    assert image.max() == 255  # on a white ground
    both = make_env(replace(PIXELS, pixels=Pixels.add, grayscale=True))
    observation = both.reset(seed=0)[0]
    plain = make_env(EnvConfig()).reset(seed=0)[0]
    np.testing.assert_array_equal(observation["state"], plain["state"], strict=True)
    assert observation["image"].shape == (32, 64, 1)


def test_the_picture_shows_the_pole() -> None:
    """Two states that differ by one degree of the pole do not look the same."""
    env = make_env(PIXELS)
    shown = []
    for angle in (0.0, np.pi / 180):
        env.reset(seed=0)
        env.unwrapped.state = np.array([0.3, 0.0, angle, 0.0])  # type: ignore[attr-defined]
        shown.append(ImageView.from_config(PIXELS).show(env.render()).astype(int))
    assert np.abs(shown[0] - shown[1]).max() > 10


def test_frames_are_stacked_newest_last_and_begin_with_copies_of_the_first() -> None:
    env = make_env(replace(PIXELS, frame_stack=3))
    assert env.observation_space["image"].shape == (32, 64, 9)  # type: ignore[index]
    single = make_env(PIXELS)
    frames = [single.reset(seed=1)[0]["image"]]
    stacked = env.reset(seed=1)[0]["image"]
    np.testing.assert_array_equal(stacked, np.concatenate(frames * 3, axis=-1))
    for _ in range(3):
        action = np.array([1], np.int32)
        frames.append(single.step(action)[0]["image"])
        stacked = env.step(action)[0]["image"]
    np.testing.assert_array_equal(stacked, np.concatenate(frames[-3:], axis=-1))
    again = env.reset(seed=1)[0]["image"]
    np.testing.assert_array_equal(again, np.concatenate(frames[:1] * 3, axis=-1))


def test_subprocesses_show_the_same_pictures() -> None:
    shown = []
    for vectorization in Vectorization:
        envs = make_vector_env(replace(PIXELS, vectorization=vectorization), 2)
        try:
            envs.reset(seed=[3, 4])
            observations = envs.step(np.array([[0], [1]], np.int32))[0]
            assert observations["image"].dtype == np.uint8
            shown.append(observations["image"].copy())
        finally:
            envs.close()
    np.testing.assert_array_equal(shown[0], shown[1], strict=True)


class Camera(gym.Env[Any, Any]):
    """Declares one picture and shows another."""

    observation_space = Dict({"camera": Box(0, 255, (8, 8, 3), np.uint8)})
    action_space = gym.spaces.Discrete(2)

    def __init__(self, picture: Any) -> None:
        self._picture = picture

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return {"camera": self._picture}, {}


@pytest.mark.parametrize(
    ("picture", "found"),
    [
        (np.zeros((8, 8, 3), np.float32), r"must be bytes from 0 to 255, is an array of float32"),
        (np.zeros((3, 8, 8), np.uint8), r"must have the shape \(8, 8, 3\), is an array of uint8 of shape \(3, 8, 8\)"),
        ([[0]], r"must have the shape \(8, 8, 3\), is an array of int64 of shape \(1, 1\)"),
    ],
)
def test_another_picture_than_declared_is_one_line(picture: Any, found: str) -> None:
    env = Adapter(Camera(picture), "camera", ImageView((16, 16)))
    with pytest.raises(UserError, match=rf"environment camera in reset: observation 'camera' {found}"):
        env.reset()


def test_faults_of_pictures_end_training_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    config = EnvConfig(id="sample_envs:Faulty-v0", pixels=Pixels.only)
    with pytest.raises(UserError, match=r"env\.id=sample_envs:Faulty-v0: .*render"):
        make_env(config)
    env = make_env(PIXELS)
    env.reset(seed=0)
    monkeypatch.setattr(env.unwrapped, "render", lambda: np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(EnvironmentFault, match=r"in step: observation 'image' must have the shape \(400, 600, 3\)") as fault:
        env.step(np.array([0], np.int32))
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize("shape", [(3, 64, 64), (4, 84, 84, 1), (8, 8, 111)])
def test_bytes_that_are_no_image_are_one_line(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"observation 'image': bytes of shape \[.*\] are no image") as error:
        env_spec(Box(0, 255, shape, np.uint8), gym.spaces.Discrete(2))
    assert "\n" not in str(error.value)


def test_many_stacked_frames_are_an_image_still() -> None:
    env = make_env(replace(PIXELS, frame_stack=8, image_size=[16, 32]))
    assert env_spec(env.observation_space, env.action_space).observations["image"].shape == (16, 32, 24)


def test_one_axis_of_bytes_is_a_vector() -> None:
    spec = env_spec(Box(0, 255, (128,), np.uint8), gym.spaces.Discrete(2))
    assert spec.observations == {"state": ObservationSpec((128,))}
