"""A dream beside reality: the numbers against the functions they come from, and what the pictures show."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image, ImageColor

from dreamerjax import canvas, dreams, world_model
from dreamerjax.actor_critic import value
from dreamerjax.dream_film import BORDER, CONTEXT, MOST, Dream, draw_dream, dream_along
from dreamerjax.dreams import Watched
from dreamerjax.errors import UserError
from dreamerjax.examination import PREDICTED, pad
from dreamerjax.media import IMAGINED, REAL
from dreamerjax.networks.layers import apply
from dreamerjax.types import ActionSpec, EnvSpec, ObservationSpec
from dreamerjax.world_model import feature
from tests.helpers import MIXED, make_networks, random_params
from tests.test_dreams import played

GAMMA = np.float32(0.9)
NETWORKS = make_networks(MIXED)
PARAMS = random_params(NETWORKS)


def test_what_is_watched_is_the_filter_and_then_the_prediction() -> None:
    context, steps, groups = 4, 3, NETWORKS.rssm.groups
    episode, model, rng = played(NETWORKS, 9), PARAMS["world_model"], np.random.default_rng(1)
    seen, before = pad([episode], 0, context)
    uniforms = [rng.random((length, 1, 1, groups), np.float32) for length in (context, steps)]
    inputs = (seen, before, pad([episode], context, steps)[1], *uniforms)
    watched = jax.jit(partial(dreams.watch, NETWORKS))(PARAMS, *inputs, gamma=GAMMA)
    assert watched.vectors["state"].shape == (context + steps, 3)
    assert list(watched.vectors) == ["state"]
    predicted = jax.jit(partial(dreams.predict, NETWORKS))(model, *inputs)
    np.testing.assert_allclose(watched.vectors["state"][context:], predicted["state"][:, 0, 0], rtol=1e-4, atol=1e-5)
    action, is_first = world_model.encode_action(NETWORKS, jax.numpy.asarray(before)), np.arange(context)[:, None] == 0
    start = world_model.initial_latent(NETWORKS, 1)
    latent = jax.jit(partial(world_model.observe, NETWORKS))(model, seen, action, is_first, start, uniforms[0][:, :, 0]).latent
    decoded = apply(NETWORKS.decoder, model["decoder"], feature(latent))["state"][:, 0]
    np.testing.assert_allclose(watched.vectors["state"][:context], np.sign(decoded) * np.expm1(np.abs(decoded)), rtol=1e-3)
    logits = np.asarray(apply(NETWORKS.continue_, model["continue"], feature(latent)))[:, 0, 0]
    np.testing.assert_allclose(watched.alive[:context], np.minimum(1 / (1 + np.exp(-logits)) / GAMMA, 1.0), rtol=1e-4)
    expected = value(NETWORKS, PARAMS["critic"], feature(latent))[:, 0]
    np.testing.assert_allclose(watched.value[:context], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("length", "context", "steps"), [(1, 1, 2), (9, 4, 10), (200, CONTEXT, CONTEXT + PREDICTED)])
def test_any_episode_is_long_enough(length: int, context: int, steps: int) -> None:
    episode = played(NETWORKS, length)
    dream = dream_along(NETWORKS, PARAMS, episode, float(GAMMA), seed=0)
    assert (dream.context, list(dream.real)) == (context, ["state"])
    assert dream.real["state"].shape == dream.seen.vectors["state"].shape == (min(steps, length + 1), 3)
    assert dream.seen.alive.shape == dream.seen.value.shape == (min(steps, length + 1),)
    np.testing.assert_array_equal(dream.real["state"], episode.observations["state"][:steps])


def test_without_a_vector_there_is_nothing_to_draw() -> None:
    networks = make_networks(EnvSpec({"number": ObservationSpec((1,), (3,))}, ActionSpec(sizes=(2,))))
    with pytest.raises(UserError, match="dream=true: the environment has no vector observation"):
        dream_along(networks, {}, played(networks, 5), 0.9, seed=0)


def random_dream(size: int = 4, context: int = 3, steps: int = 8, **changes: Any) -> Dream:
    """Random numbers."""
    rng = np.random.default_rng(0)
    real, vectors = ({"state": rng.normal(size=(steps, size))} for _ in range(2))
    seen: Any = Watched(**{"vectors": vectors, "alive": np.linspace(1, 0, steps), "value": np.arange(steps) - 2.0, **changes})
    return Dream(context, real, seen)


def count(image: Image.Image, color: str) -> int:
    """Pixels of exactly this color, the border not counted."""
    inside = np.asarray(image)[BORDER:-BORDER, BORDER:-BORDER]
    return int((inside == ImageColor.getrgb(color)).all(axis=-1).sum())


@pytest.mark.parametrize(("env_id", "size"), [("CartPole-v1", 4), ("module:CartPole-v0", 4), ("Other-v0", 1), ("Other-v0", 3)])
def test_frames(env_id: str, size: int) -> None:
    frames = draw_dream(random_dream(size), env_id, "title")
    assert len(frames) == 8
    assert len({frame.size for frame in frames}) == 1
    assert all(side % 2 == 0 for side in frames[0].size)
    borders = [frame.getpixel((0, 0)) for frame in frames]
    assert borders == [ImageColor.getrgb(REAL)] * 3 + [ImageColor.getrgb(IMAGINED)] * 5
    cut = slice(3, None)  # the text is orange too, from here on
    plotted = [count(frame.crop((0, 84, *frame.size)), IMAGINED) for frame in frames[cut]]
    assert plotted == sorted(plotted)
    assert plotted[0] < plotted[-1]
    has_scenes = "CartPole" in env_id
    assert any(count(frame, "#{:02x}{:02x}{:02x}".format(*canvas.POLE)) > 50 for frame in frames) is has_scenes


def test_many_numbers_are_cut() -> None:
    few, many = (draw_dream(random_dream(size), "Other-v0", "title")[0] for size in (MOST, MOST + 9))
    assert few.size == many.size


def test_a_dream_that_goes_astray_leaves_reality_readable() -> None:
    wild = {"state": np.full((8, 4), 1e30), "other": np.zeros((8, 1))}
    frames = draw_dream(random_dream(vectors=wild), "CartPole-v1", "title")
    assert count(frames[-1].crop((0, 260, *frames[-1].size)), REAL) > 100


@pytest.mark.parametrize(("position", "angle"), [(0.0, 0.0), (1.2, 0.2), (-2.0, -0.3)])
def test_cartpole_is_drawn_as_gymnasium_draws_it(position: float, angle: float) -> None:
    pytest.importorskip("pygame")
    import gymnasium as gym

    env = gym.make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=0)
    env.unwrapped.state = np.array([position, 0.0, angle, 0.0])  # type: ignore[attr-defined]
    theirs = np.asarray(env.render(), np.float64)
    env.close()
    ours = np.asarray(canvas.cartpole(position, angle, 600), np.float64)
    assert ours.shape == theirs.shape
    assert (np.abs(ours - theirs).max(axis=-1) > 100).mean() < 0.0015
