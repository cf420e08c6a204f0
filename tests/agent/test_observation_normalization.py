"""Standardised observations: counted, there and back, and part of the model wherever it goes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamerjax.agent import observation_normalization
from dreamerjax.agent.imagination import decoded_vectors
from dreamerjax.agent.learner import updates
from dreamerjax.agent.losses import decoder_loss
from dreamerjax.agent.policy import Seen, act, initial_policy_state
from dreamerjax.agent.state import Trains, acting_params
from dreamerjax.agent.update import train_step
from dreamerjax.agent.world_model import FilterInputs, initial_latent, posterior_step, project_inputs
from dreamerjax.networks.layers import apply
from tests.helpers import (
    MIXED,
    SEQUENCES,
    VECTOR,
    fresh,
    hyper,
    initial_state,
    make_networks,
    observations,
    random_batch,
    settings,
    stacked,
)
from tests.networks.numpy_model import symlog

NETWORKS = make_networks(VECTOR, standardize=True)
NAME = next(iter(VECTOR.observations))
SIZE = VECTOR.observations[NAME].encoded_size


def counted(batches: list[np.ndarray]) -> Any:
    statistics = observation_normalization.initial_statistics(VECTOR.observations)
    for batch in batches:
        statistics = observation_normalization.count_batch(statistics, {NAME: batch})
    return statistics


def test_the_statistics_are_those_of_all_batches_together() -> None:
    rng = np.random.default_rng(0)
    scale, offset = rng.uniform(0.01, 5, SIZE), rng.normal(0, 3, SIZE)
    batches = [(offset * k + scale * rng.normal(size=(5, 3, SIZE))).astype(np.float32) for k in range(1, 5)]
    statistics = counted(batches)
    everything = symlog(np.concatenate(batches).reshape(-1, SIZE).astype(np.float64))
    assert float(statistics["count"]) == 4
    np.testing.assert_allclose(statistics["mean"][NAME], everything.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(statistics["variance"][NAME], everything.var(0), rtol=1e-4, atol=1e-5)


def test_a_far_offset_does_not_cost_the_variance_its_digits() -> None:
    batch = (np.float32(50) + 0.1 * np.random.default_rng(1).normal(size=(50, 4, SIZE))).astype(np.float32)
    np.testing.assert_allclose(
        counted([batch, batch])["variance"][NAME], symlog(batch.astype(np.float64)).reshape(-1, SIZE).var(0), rtol=1e-2
    )


def test_what_was_counted_has_mean_zero_and_deviation_one_and_comes_back() -> None:
    rng = np.random.default_rng(2)
    batch = (rng.normal(0, 3, SIZE) + rng.uniform(0.1, 2, SIZE) * rng.normal(size=(40, 5, SIZE))).astype(np.float32)
    statistics = counted([batch])
    seen = observation_normalization.model_units(VECTOR.observations, statistics, {NAME: batch})[NAME]
    np.testing.assert_allclose(np.mean(seen, (0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(np.std(seen, (0, 1)), 1, rtol=1e-4)
    np.testing.assert_allclose(observation_normalization.own_units(statistics, NAME, seen), batch, rtol=1e-4, atol=1e-4)


def test_without_statistics_it_is_the_symlog() -> None:
    batch = observations(MIXED, (6,), np.random.default_rng(3))
    seen = observation_normalization.model_units(MIXED.observations, {}, batch)
    assert seen.keys() == batch.keys()
    for name, spec in MIXED.observations.items():
        if spec.is_vector:
            np.testing.assert_allclose(seen[name], symlog(batch[name]), rtol=1e-5)
            np.testing.assert_allclose(observation_normalization.own_units({}, name, seen[name]), batch[name], rtol=1e-4)
        else:
            assert seen[name] is batch[name]


def test_a_constant_component_is_zero_and_a_jump_of_it_is_cut_off() -> None:
    statistics = counted([np.full((4, 4, SIZE), 2.0, np.float32)])
    there = np.array([2.0, 2.0 + 1e-3, 900.0, -900.0], np.float32)[:, None] * np.ones(SIZE, np.float32)
    seen = np.asarray(observation_normalization.model_units(VECTOR.observations, statistics, {NAME: there})[NAME])
    np.testing.assert_allclose(seen[0], 0, atol=1e-4)
    assert (np.abs(seen[1]) < 0.1).all()
    np.testing.assert_array_equal(seen[2:], [[10.0] * SIZE, [-10.0] * SIZE])


@pytest.fixture(scope="module")
def trained() -> tuple[Any, Any, Any]:
    """A state, a batch, and the state after an update with it."""
    state, batch = initial_state(NETWORKS), random_batch(NETWORKS)
    return state, batch, jax.jit(partial(train_step, NETWORKS, settings()))(hyper(), fresh(state), batch)[0]


def test_an_update_counts_its_batch_and_trains_nothing_of_it(trained: tuple[Any, Any, Any]) -> None:
    _, batch, new = trained
    expected = counted([batch.observations[NAME]])
    chex.assert_trees_all_close(new.statistics, expected, rtol=1e-5, atol=1e-6)
    assert new.newest["statistics"] is new.averaged["statistics"] is new.statistics


def test_a_frozen_model_counts_nothing(trained: tuple[Any, Any, Any]) -> None:
    _, batch, new = trained
    frozen = replace(settings(), trains=Trains.behavior)
    after = jax.jit(partial(train_step, NETWORKS, frozen))(hyper(), fresh(new), batch)[0]
    chex.assert_trees_all_equal(after.statistics, new.statistics)


def test_two_devices_count_what_one_does() -> None:
    batch = random_batch(NETWORKS).observations[NAME]
    halves = np.stack([batch[:, ::2], batch[:, 1::2]])
    start = observation_normalization.initial_statistics(VECTOR.observations)
    count = partial(observation_normalization.count_batch, start, axis_name="devices")
    split = jax.pmap(lambda values: count({NAME: values}), axis_name="devices", devices=jax.local_devices()[:2])(halves)
    for device in range(2):
        one = jax.tree.map(lambda leaf, device=device: leaf[device], split)
        chex.assert_trees_all_close(one, counted([batch]), rtol=1e-5, atol=1e-6)


def test_filter_loss_and_drawings_share_the_units(trained: tuple[Any, Any, Any]) -> None:
    """The embedding is that of standardised numbers, and a drawing without error is the observation itself."""
    _, batch, new = trained
    model, statistics = new.params["world_model"], new.statistics
    assert acting_params(new.newest)["statistics"] is statistics
    seen = observation_normalization.model_units(VECTOR.observations, statistics, batch.observations)
    embedding = apply(NETWORKS.encoder, model["encoder"], seen)
    policy_state, here = initial_policy_state(NETWORKS, SEQUENCES), {NAME: batch.observations[NAME][0]}
    shown = Seen(here, np.ones(SEQUENCES, bool))
    _, lived = act(NETWORKS, acting_params(new.newest), policy_state, shown, jax.random.key(0), greedy=True)
    start = initial_latent(NETWORKS, SEQUENCES)
    inputs = FilterInputs({NAME: seen[NAME][0]}, jnp.zeros((SEQUENCES, VECTOR.action.encoded_size)), shown.is_first)
    projected = project_inputs(NETWORKS, model, inputs)
    step = posterior_step(NETWORKS, model, start, projected, jnp.zeros((SEQUENCES, NETWORKS.rssm.groups)))
    np.testing.assert_allclose(lived.latent.deter, step.latent.deter, rtol=1e-5, atol=1e-6)
    expected = apply(NETWORKS.rssm, model["rssm"], embedding, method="project_embedding")
    np.testing.assert_allclose(projected.embedding, expected[0], rtol=1e-5, atol=1e-6)
    size = NETWORKS.rssm.deter + NETWORKS.rssm.groups * NETWORKS.rssm.classes
    features = jnp.asarray(np.random.default_rng(4).normal(size=(3, size)), jnp.float32)
    drawn = decoded_vectors(NETWORKS, new.newest, features)
    again = observation_normalization.model_units(VECTOR.observations, statistics, drawn)[NAME]
    decoded = apply(NETWORKS.decoder, model["decoder"], features)[NAME]
    np.testing.assert_allclose(decoder_loss(VECTOR.observations[NAME], decoded, again), 0, atol=1e-6)


def test_several_updates_in_one_call_count_each_batch() -> None:
    batches = stacked(*(random_batch(NETWORKS, seed=k) for k in range(3)))
    state = jax.jit(partial(updates, NETWORKS, settings()))(hyper(), initial_state(NETWORKS), batches)[0]
    expected = counted(list(batches.observations[NAME]))
    chex.assert_trees_all_close(state.statistics, expected, rtol=1e-5, atol=1e-6)
