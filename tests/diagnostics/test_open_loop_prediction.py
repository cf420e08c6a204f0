"""The open loops of an examination: which episode is shown, what is scored, and what a perfect prediction gets."""

from __future__ import annotations

import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamerjax.data.playing import PlayedEpisode
from dreamerjax.diagnostics import open_loop
from dreamerjax.diagnostics.open_loop import CONTEXT, DREAMS, PREDICTED, SCORED, OpenLoopInputs, OpenLoopPredictor, Predicted
from tests.diagnostics.test_belief import played
from tests.helpers import BOTH, VECTOR, make_networks, random_agent

VECTORS, IMAGES = make_networks(VECTOR), make_networks(BOTH, cnn_depth=1)


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_first_episode_that_is_long_enough_is_shown() -> None:
    predictor, params = OpenLoopPredictor(IMAGES), random_agent(IMAGES)
    short, middle, long, longer = (played(IMAGES, length, seed=length) for length in (3, 12, 110, 120))
    loop, metrics = predictor(params, [short, middle, long, longer], generator())
    assert loop is not None
    assert set(metrics) == {"gap/open_loop_error", "gap/open_loop_unchanged", "gap/open_loop_image_error"}
    still = played(VECTORS, 40)
    still.observations["state"][CONTEXT - 1 :] = still.observations["state"][-1]
    assert OpenLoopPredictor(VECTORS)(random_agent(VECTORS), [still], generator())[1]["gap/open_loop_unchanged"] == 0.0
    np.testing.assert_array_equal(loop.real["state"], long.observations["state"][: CONTEXT + PREDICTED])
    np.testing.assert_array_equal(loop.real_images["image"], long.observations["image"][CONTEXT : CONTEXT + PREDICTED])
    assert loop.dreams["state"].shape == (PREDICTED, DREAMS, 3)
    assert loop.dreamed_images["image"].shape == (PREDICTED, 16, 32, 3)
    loop, _ = predictor(params, [short, middle, short, short], generator())
    assert loop is not None
    assert (len(loop.real["state"]), len(loop.dreams["state"])) == (13, 13 - CONTEXT)
    assert len(loop.real_images["image"]) == len(loop.dreamed_images["image"]) == 13 - CONTEXT
    assert predictor(params, [short] * 4, generator()) == (None, {})


def test_a_second_call_compiles_nothing(caplog: pytest.LogCaptureFixture) -> None:
    predictor = OpenLoopPredictor(IMAGES)
    first = predictor(random_agent(IMAGES), [played(IMAGES, 30)], generator())[1]
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        again = predictor(random_agent(IMAGES, seed=7), [played(IMAGES, 9)], generator())[1]
    assert "ompil" not in caplog.text
    assert again.keys() == first.keys()
    assert again != first


def told(actions: Any, chosen: Any, names: tuple[str, ...]) -> Predicted:
    """In a world where the action is what is seen next, a prediction that repeats the actions is right."""
    vectors = jnp.broadcast_to(actions[..., None].astype(jnp.float32), (*actions.shape[:2], DREAMS, 3))
    taken = actions[chosen[0], chosen[1], 0].astype(jnp.float32)
    images = jnp.broadcast_to(taken[:, None, None, None] / 255.0, (len(chosen[0]), 16, 32, 3))
    found = {"state": vectors, "image": images}
    return Predicted({name: found[name] for name in names if name == "state"}, {"image": images} if "image" in names else {})


@pytest.mark.parametrize("networks", [VECTORS, IMAGES])
def test_a_perfect_prediction_has_no_error(monkeypatch: pytest.MonkeyPatch, networks: Any) -> None:
    def repeat(networks: Any, params: Any, inputs: OpenLoopInputs, chosen: Any) -> Predicted:
        return told(inputs.actions, chosen, tuple(networks.spec.observations))

    monkeypatch.setattr(open_loop, "predict", repeat)
    episodes = [played(networks, length, seed=length) for length in (40, 9)]
    for one in episodes:
        one.observations["state"][1:] = one.actions
        if "image" in one.observations:
            one.observations["image"][:] = one.observations["state"][:, :1, None, None].clip(0)
    loop, _ = OpenLoopPredictor(networks)({}, episodes, generator())
    assert loop is not None
    for m in range(DREAMS):
        np.testing.assert_array_equal(loop.dreams["state"][:, m], loop.real["state"][CONTEXT:])
    for name, images in loop.dreamed_images.items():
        np.testing.assert_array_equal(np.round(255 * images), loop.real_images[name])

    def errors() -> list[float]:
        found = OpenLoopPredictor(networks)({}, episodes, generator())[1]
        return [error for name, error in found.items() if name != "gap/open_loop_unchanged"]

    perfect = [pytest.approx(0.0, abs=1e-5)] * len(networks.spec.observations)
    assert errors() == perfect
    spoil(episodes[0], CONTEXT + SCORED)
    assert errors() == perfect
    spoil(episodes[0], CONTEXT + SCORED - 1)
    assert all(error > 1.0 for error in errors())


def spoil(episode: PlayedEpisode, step: int) -> None:
    """Makes a step of an episode another one than was predicted."""
    for values in episode.observations.values():
        values[step] = 20 if values.dtype == np.uint8 else 9.0
