"""The world model over time: one step of the posterior and of the prior, the scan over real sequences, and what heads say.

Everything is time-major [T, B, ...], and observations are in the model's units (`observation_normalization`). Randomness comes
in as uniform numbers, so that every function here is deterministic.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from dreamerjax.core.types import Array
from dreamerjax.networks.build import Networks
from dreamerjax.networks.encoder import one_hots
from dreamerjax.networks.layers import apply
from dreamerjax.ops import distributions, scalars

Params = Any


class Latent(NamedTuple):
    """A model state. The stochastic part is one-hot."""

    deter: jax.Array  # [..., D]
    stoch: jax.Array  # [..., S, K]


class Posterior(NamedTuple):
    """What the filter yields for each step."""

    latent: Latent  # [T, B, ...]
    logits: jax.Array  # [T, B, S, K] of q(z_t | h_t, e_t)


class FilterInputs(NamedTuple):
    """What the filter reads at each step, for any leading shape."""

    observations: dict[str, Array]  # {name: [..., size]} in the model's units
    previous_action: Array  # [..., A] encoded, taken one step earlier
    is_first: Array  # [...] erases the history before it


class ProjectedInputs(NamedTuple):
    """The parts of a filter's step that need no recurrent state."""

    action: jax.Array  # [..., D]
    embedding: jax.Array  # [..., hidden]
    is_first: jax.Array  # [...]


def feature(latent: Latent) -> jax.Array:
    """The input of every head: [..., F], F = D + S*K."""
    chex.assert_rank(latent.stoch, latent.deter.ndim + 1, custom_message="latent [..., D] and [..., S, K]")
    chex.assert_equal_shape_prefix(list(latent), latent.deter.ndim - 1, custom_message="latent [..., D] and [..., S, K]")
    return jnp.concatenate([latent.deter, latent.stoch.reshape(*latent.stoch.shape[:-2], -1)], axis=-1)


def assert_features(networks: Networks, features: jax.Array) -> None:
    """AssertionError unless heads can read them: [..., F]."""
    rssm = networks.rssm
    size = rssm.deter + rssm.groups * rssm.classes
    chex.assert_axis_dimension(features, -1, size, custom_message="features [..., D + S*K]")


def initial_latent(networks: Networks, batch: int) -> Latent:
    """All zeros, as at the start of an episode: [B, D] and [B, S, K]."""
    rssm = networks.rssm
    return Latent(jnp.zeros((batch, rssm.deter)), jnp.zeros((batch, rssm.groups, rssm.classes)))


def _assert_latent(networks: Networks, latent: Latent, lead: tuple[int, ...]) -> None:
    rssm = networks.rssm
    shapes = [(*lead, rssm.deter), (*lead, rssm.groups, rssm.classes)]
    chex.assert_shape(list(latent), shapes, custom_message="latent [..., D] and [..., S, K]")


def class_indices(networks: Networks, latent: Latent) -> jax.Array:
    """The stochastic part as replay stores it: class indices [..., S] of `stoch_dtype`."""
    _assert_latent(networks, latent, latent.deter.shape[:-1])
    return jnp.argmax(latent.stoch, axis=-1).astype(stoch_dtype(networks))


def stoch_dtype(networks: Networks) -> Any:
    """The integer type that holds a class index in replay."""
    return jnp.uint8 if networks.rssm.classes <= 256 else jnp.int32


def sample_stoch(logits: jax.Array, uniform: jax.Array) -> jax.Array:
    """One-hot sample [..., S, K] with straight-through gradient, from log-probabilities and uniforms [..., S]."""
    chex.assert_shape(uniform, logits.shape[:-1], custom_message="a uniform [..., S] for each group of logits [..., S, K]")
    probs = jnp.exp(logits)
    index = distributions.categorical_sample_from_uniform(uniform, jax.lax.stop_gradient(probs))
    return distributions.straight_through(jax.nn.one_hot(index, logits.shape[-1]), probs)


def encode_action(networks: Networks, action: jax.Array) -> jax.Array:
    """Environment-facing action of the replay to the model's: one-hots of int components, or the floats themselves."""
    chex.assert_axis_dimension(action, -1, networks.spec.action.shape[0], custom_message="action [..., C]")
    sizes = networks.spec.action.sizes
    return one_hots(action, sizes) if sizes else action


def project_inputs(networks: Networks, params: Params, inputs: FilterInputs) -> ProjectedInputs:
    """What of the filter can be computed for all steps at once. The action is zeroed where `is_first`."""
    expected = (*inputs.is_first.shape, networks.spec.action.encoded_size)
    chex.assert_shape(inputs.previous_action, expected, custom_message="previous_action [..., A] of is_first [...]")
    chex.assert_tree_shape_prefix(inputs.observations, inputs.is_first.shape, custom_message="observations of is_first [...]")
    rssm = params["rssm"]
    embedding = apply(networks.encoder, params["encoder"], inputs.observations)
    action = inputs.previous_action * (1.0 - inputs.is_first.astype(jnp.float32))[..., None]
    projected_action = apply(networks.rssm, rssm, action, method="project_action")
    return ProjectedInputs(projected_action, apply(networks.rssm, rssm, embedding, method="project_embedding"), inputs.is_first)


def posterior_step(
    networks: Networks, params: Params, previous: Latent, inputs: ProjectedInputs, uniform: jax.Array
) -> Posterior:
    """One step of the filter for a batch [B, ...]: `is_first` [B] erases the history before it; `uniform` [B, S]."""
    chex.assert_rank(inputs.is_first, 1, custom_message="is_first [B]")
    _assert_latent(networks, previous, inputs.is_first.shape)
    chex.assert_equal_shape([previous.deter, inputs.action], custom_message="deter, projected action [B, D]")
    chex.assert_shape(inputs.embedding, (*inputs.is_first.shape, networks.rssm.hidden), custom_message="projected embedding")
    chex.assert_shape(uniform, previous.stoch.shape[:2], custom_message="uniform [B, S]")
    keep = 1.0 - inputs.is_first.astype(jnp.float32)
    previous_deter = previous.deter * keep[:, None]
    previous_stoch = previous.stoch * keep[:, None, None]
    rssm = params["rssm"]
    deter = apply(networks.rssm, rssm, previous_deter, previous_stoch, inputs.action, method="recurrent")
    logits = apply(networks.rssm, rssm, deter, inputs.embedding, method="posterior")
    return Posterior(Latent(deter, sample_stoch(logits, uniform)), logits)


def prior_step(networks: Networks, params: Params, previous: Latent, projected_action: jax.Array, uniform: jax.Array) -> Latent:
    """One step without an observation: latent [N, ...], projected action [N, D] and uniforms [N, S] to the next latent."""
    chex.assert_rank(previous.deter, 2, custom_message="deter [N, D]")
    _assert_latent(networks, previous, previous.deter.shape[:1])
    chex.assert_equal_shape([previous.deter, projected_action], custom_message="deter, projected action [N, D]")
    chex.assert_shape(uniform, previous.stoch.shape[:2], custom_message="uniform [N, S]")
    rssm = params["rssm"]
    deter = apply(networks.rssm, rssm, previous.deter, previous.stoch, projected_action, method="recurrent")
    logits = apply(networks.rssm, rssm, deter, method="prior")
    return Latent(deter, sample_stoch(logits, uniform))


def observe(networks: Networks, params: Params, inputs: FilterInputs, start: Latent, uniform: jax.Array) -> Posterior:
    """Filter whole sequences [T, B, ...]. `start` [B, ...] is the latent before the first step; `uniform` [T, B, S]."""
    chex.assert_rank([inputs.previous_action, inputs.is_first, uniform, start.deter], [3, 2, 3, 2])
    chex.assert_equal_shape_prefix([inputs.previous_action, inputs.is_first, uniform], 2)
    _assert_latent(networks, start, inputs.is_first.shape[1:])

    def step(carry: Latent, now: tuple[ProjectedInputs, jax.Array]) -> tuple[Latent, Posterior]:
        posterior = posterior_step(networks, params, carry, *now)
        return posterior.latent, posterior

    return networks.loops.scan(step, start, (project_inputs(networks, params, inputs), uniform))[1]


def ensemble_logits(networks: Networks, params: Params, features: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What each of M members says of states [..., F]: logits of the reward's bins [M, ..., V] and of continuing [M, ...]."""
    assert_features(networks, features)
    said = apply(networks.reward, params["reward"], features), apply(networks.continue_, params["continue"], features)[..., 0]
    return said if networks.ensemble > 1 else (said[0][None], said[1][None])


def ensemble_predictions(networks: Networks, params: Params, features: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The reward and the continuation, which carries the discount, that each of M members expects: [M, ...] both."""
    assert_features(networks, features)
    reward_logits, continue_logits = ensemble_logits(networks, params, features)
    return scalars.two_hot_mean(reward_logits, networks.bins), jax.nn.sigmoid(continue_logits)


def reward_and_continue(networks: Networks, params: Params, features: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What the heads expect of states [..., F]: the reward [...], and the continuation [...], which carries the discount.

    Of an ensemble, the mean.
    """
    assert_features(networks, features)
    rewards, continues = ensemble_predictions(networks, params, features)
    return jnp.mean(rewards, axis=0), jnp.mean(continues, axis=0)


def undiscounted(continues: jax.Array, gamma: jax.Array) -> jax.Array:
    """The probability that an episode goes on: the continue head's output without the discount that its target carries."""
    chex.assert_rank(gamma, 0, custom_message="gamma is one number")
    return jnp.minimum(continues / gamma, 1.0)
