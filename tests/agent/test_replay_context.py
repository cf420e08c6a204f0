"""Where the sequences of an update start: from the latent and action that replay stored, or as an episode does."""

from __future__ import annotations

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamerjax.agent.losses import UpdateInputs, all_losses
from dreamerjax.agent.state import Batch, Noise, TrainState
from dreamerjax.agent.update import draw_noise
from dreamerjax.agent.world_model import Posterior
from tests.helpers import (
    CONTINUOUS,
    LENGTH,
    SEQUENCES,
    hyper,
    make_networks,
    random_batch,
    random_state,
    settings,
)

NETWORKS = make_networks(CONTINUOUS)


@pytest.fixture(scope="module")
def update_posterior() -> Any:
    """(batch, noise, context) -> the posterior of an update, compiled once for each length."""

    @partial(jax.jit, static_argnames="context")
    def posterior(batch: Batch, noise: Noise, state: TrainState, *, context: bool) -> Posterior:
        chosen = settings(context=context)
        return all_losses(NETWORKS, chosen, hyper(), state.params, UpdateInputs(state, batch, noise)).posterior

    state = random_state(NETWORKS)
    return lambda batch, noise, context: posterior(batch, noise, state, context=context)


def make_noise(length: int = LENGTH) -> Noise:
    keys = jax.random.split(jax.random.key(3), SEQUENCES)
    return draw_noise(NETWORKS, settings(), keys, length)


def halves(batch: Batch, noise: Noise, whole: Posterior) -> list[tuple[Batch, Noise]]:
    """The batch cut in two; the second half's context is what replay holds of the first half's last step."""
    half = LENGTH // 2
    parts = []
    for steps in (slice(0, half), slice(half, None)):
        sequences = batch._replace(
            observations={name: values[steps] for name, values in batch.observations.items()},
            **{name: getattr(batch, name)[steps] for name in ("action", "reward", "is_first", "is_last", "is_terminal")},
        )
        starts = jnp.tile(jnp.arange(half)[:, None], (1, SEQUENCES))
        rest = {"action": noise.action[:, :half], "latent": noise.latent[:, :half]}
        parts.append((sequences, Noise(noise.posterior[steps], starts, **rest)))
    context = {
        "context_action": batch.action[half - 1],
        "context_deter": np.asarray(whole.latent.deter[half - 1]),
        "context_stoch": np.argmax(whole.latent.stoch[half - 1], axis=-1).astype(np.uint8),
    }
    return [parts[0], (parts[1][0]._replace(**context), parts[1][1])]


def test_with_context_two_halves_are_the_whole(update_posterior: Any) -> None:
    batch, noise = random_batch(NETWORKS, seed=5), make_noise()
    whole = update_posterior(batch, noise, context=True)
    parts = [update_posterior(*part, context=True) for part in halves(batch, noise, whole)]
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    chex.assert_trees_all_close(joined, whole, rtol=1e-4, atol=1e-5)


def test_without_context_a_sequence_starts_as_an_episode_does(update_posterior: Any) -> None:
    batch, noise = random_batch(NETWORKS, seed=5), make_noise()
    other = random_batch(NETWORKS, seed=6)
    blind = batch._replace(**{name: getattr(other, name) for name in batch._fields if name.startswith("context")})
    first = batch._replace(is_first=np.concatenate([np.ones((1, SEQUENCES), bool), batch.is_first[1:]]))
    assert not batch.is_first[0].all()
    results = [update_posterior(b, noise, context=False) for b in (batch, blind, first)]
    results.append(update_posterior(first, noise, context=True))
    for result in results[1:]:
        chex.assert_trees_all_close(result, results[0], rtol=1e-5, atol=1e-6)


def test_an_update_hands_each_step_the_action_before_it() -> None:
    """a_{t-1} comes from the record of step t-1, and from the context for the first step."""

    @jax.jit
    def sensitivity(state: TrainState, batch: Batch, noise: Noise) -> Any:
        def per_step(action: jax.Array, context_action: jax.Array) -> jax.Array:
            changed = batch._replace(action=action, context_action=context_action)
            inputs = UpdateInputs(state, changed, noise)
            posterior = all_losses(NETWORKS, settings(), hyper(), state.params, inputs).posterior
            return jnp.sum(posterior.latent.deter, axis=(1, 2))

        return jax.jacrev(per_step, argnums=(0, 1))(batch.action, batch.context_action)

    batch = random_batch(NETWORKS, seed=7, ends=0.0)
    by_action, by_context = (np.abs(np.asarray(part)) for part in sensitivity(random_state(NETWORKS), batch, make_noise()))
    size = by_action.max(axis=(2, 3))  # [t of the posterior, t of the action]
    np.testing.assert_array_equal(size[np.triu_indices(LENGTH)], 0.0)
    assert (size[np.tril_indices(LENGTH, -1)] > 0).all()
    assert (by_context.max(axis=(1, 2)) > 0).all()
