"""What is watched of an episode: as much as there is of it, by one program for all of them."""

from __future__ import annotations

import logging

import jax
import numpy as np
import pytest

from dreamerjax.core.errors import UserError
from dreamerjax.core.types import ActionSpec, EnvSpec, ObservationSpec
from dreamerjax.diagnostics.open_loop import DREAM_CONTEXT, PREDICTED, DreamWatcher
from tests.diagnostics.test_belief import played
from tests.helpers import BOTH, make_networks, random_agent

NETWORKS = make_networks(BOTH, cnn_depth=1)
PARAMS = random_agent(NETWORKS)


def test_any_episode_is_long_enough(caplog: pytest.LogCaptureFixture) -> None:
    """And a second one compiles nothing."""
    watcher = DreamWatcher(NETWORKS, 0.9)
    watcher(PARAMS, played(NETWORKS, 30), seed=0)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for length, context, most in ((1, 1, 2), (9, 4, 10), (200, DREAM_CONTEXT, DREAM_CONTEXT + PREDICTED)):
            episode, steps = played(NETWORKS, length), min(most, length + 1)
            dream = watcher(PARAMS, episode, seed=0)
            assert (dream.context, list(dream.real), list(dream.real_images)) == (context, ["state"], ["image"])
            assert dream.real["state"].shape == dream.seen.vectors["state"].shape == (steps, 3)
            assert dream.real_images["image"].shape == dream.seen.images["image"].shape == (steps, 16, 32, 3)
            assert dream.seen.alive.shape == dream.seen.value.shape == (steps,)
            np.testing.assert_array_equal(dream.real["state"], episode.observations["state"][:steps])
            np.testing.assert_array_equal(dream.real_images["image"], episode.observations["image"][:steps])
    assert "ompil" not in caplog.text


def test_only_the_context_is_observed() -> None:
    """What a short episode still holds after its context changes nothing before the dream, and nothing in it."""
    watcher, episode, other = DreamWatcher(NETWORKS, 0.9), played(NETWORKS, 12), played(NETWORKS, 12)
    for values in other.observations.values():
        values[6:] = 0
    first, second = (watcher(PARAMS, one, seed=3) for one in (episode, other))
    assert first.context == 6
    np.testing.assert_array_equal(first.seen.images["image"], second.seen.images["image"])
    np.testing.assert_array_equal(first.seen.value, second.seen.value)


def test_without_vectors_and_images_there_is_nothing_to_draw() -> None:
    networks = make_networks(EnvSpec({"number": ObservationSpec((1,), (3,))}, ActionSpec(sizes=(2,))))
    with pytest.raises(UserError, match="dream=true: the environment has no vector or image observation"):
        DreamWatcher(networks, 0.9)({}, played(networks, 5), seed=0)
