"""The world model over time: posterior scan over real sequences, and its loss.

Everything is time-major [T, B, ...]. Randomness comes in as uniform numbers, so that every function here is deterministic.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dreamerjax.agent.observation_normalization import model_units
from dreamerjax.core.types import ObservationSpec
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
    """What the posterior scan yields for each step."""

    latent: Latent  # [T, B, ...]
    logits: jax.Array  # [T, B, S, K] of q(z_t | h_t, e_t)


def feature(latent: Latent) -> jax.Array:
    """The input of every head: [..., D + S*K]."""
    return jnp.concatenate([latent.deter, latent.stoch.reshape(*latent.stoch.shape[:-2], -1)], axis=-1)


def initial_latent(networks: Networks, batch: int) -> Latent:
    """All zeros, as at the start of an episode: [B, D] and [B, S, K]."""
    rssm = networks.rssm
    return Latent(jnp.zeros((batch, rssm.deter)), jnp.zeros((batch, rssm.groups, rssm.classes)))


def sample_stoch(logits: jax.Array, uniform: jax.Array) -> jax.Array:
    """One-hot sample [..., S, K] with straight-through gradient, from log-probabilities and uniforms [..., S]."""
    probs = jnp.exp(logits)
    index = distributions.categorical_sample_from_uniform(uniform, jax.lax.stop_gradient(probs))
    return distributions.straight_through(jax.nn.one_hot(index, logits.shape[-1]), probs)


def posterior_step(
    networks: Networks,
    params: Params,
    previous: Latent,
    projected_action: jax.Array,
    projected_embedding: jax.Array,
    is_first: jax.Array,
    uniform: jax.Array,
) -> Posterior:
    """One step of the filter for a batch [B, ...]: `is_first` [B] erases the history before it.

    The projected action must already be that of a zero action where `is_first` is set.
    """
    keep = 1.0 - is_first.astype(jnp.float32)
    previous_deter = previous.deter * keep[:, None]
    previous_stoch = previous.stoch * keep[:, None, None]
    rssm = params["rssm"]
    deter = apply(networks.rssm, rssm, previous_deter, previous_stoch, projected_action, method="recurrent")
    logits = apply(networks.rssm, rssm, deter, projected_embedding, method="posterior")
    return Posterior(Latent(deter, sample_stoch(logits, uniform)), logits)


def project_inputs(
    networks: Networks, params: Params, observations: dict[str, jax.Array], action: jax.Array, is_first: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The parts of the filter that need no recurrent state, for any leading shape.

    `action` [..., A] is the encoded action taken one step earlier; it is zeroed where `is_first`.
    Returns the projected action [..., D] and the projected embedding [..., hidden].
    """
    rssm = params["rssm"]
    seen = model_units(networks.spec.observations, params, observations)
    embedding = apply(networks.encoder, params["encoder"], seen)
    action = action * (1.0 - is_first.astype(jnp.float32))[..., None]
    projected_action = apply(networks.rssm, rssm, action, method="project_action")
    return projected_action, apply(networks.rssm, rssm, embedding, method="project_embedding")


def observe(
    networks: Networks,
    params: Params,
    observations: dict[str, jax.Array],
    previous_action: jax.Array,
    is_first: jax.Array,
    start: Latent,
    uniform: jax.Array,
) -> Posterior:
    """Filter whole sequences: observations [T, B, ...], the encoded action before each of them [T, B, A], is_first [T, B].

    `start` [B, ...] is the latent of the step before the first; `uniform` [T, B, S] draws the stochastic states.
    """
    projections = project_inputs(networks, params, observations, previous_action, is_first)

    def step(carry: Latent, inputs: tuple[jax.Array, ...]) -> tuple[Latent, Posterior]:
        posterior = posterior_step(networks, params, carry, *inputs)
        return posterior.latent, posterior

    return jax.lax.scan(step, start, (*projections, is_first, uniform))[1]


def encode_action(networks: Networks, action: jax.Array) -> jax.Array:
    """Environment-facing action of the replay to the model's: one-hots of int components, or the floats themselves."""
    sizes = networks.spec.action.sizes
    return one_hots(action, sizes) if sizes else action


def decoder_loss(spec: ObservationSpec, prediction: jax.Array, target: jax.Array) -> jax.Array:
    """[...]: squared error of a vector, both in the model's units, or of an image on [0, 1], or cross-entropy of discrete
    components; summed over the observation's numbers."""
    if spec.is_image:
        return jnp.sum(jnp.square(prediction - target.astype(jnp.float32) / 255.0), axis=(-3, -2, -1))
    if spec.is_vector:
        return jnp.sum(jnp.square(prediction - target), axis=-1)
    parts = jnp.split(prediction, list(accumulate(spec.classes[:-1])), axis=-1)
    losses = [-distributions.categorical_log_prob(part, target[..., i]) for i, part in enumerate(parts)]
    return jnp.sum(jnp.stack(losses, axis=-1), axis=-1)


def world_model_loss(
    networks: Networks,
    params: Params,
    posterior: Posterior,
    observations: dict[str, jax.Array],
    rewards: jax.Array,
    is_terminal: jax.Array,
    *,
    gamma: jax.Array,
    free_nats: jax.Array,
    straight_through: bool,
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Losses per step [T, B] (DreamerV3, eq. 2-3) and scalar metrics.

    The continue target carries the discount: (1 - is_terminal) * gamma.
    """
    inputs = feature(posterior.latent)
    decoded = apply(networks.decoder, params["decoder"], inputs)
    reward_logits = apply(networks.reward, params["reward"], inputs)
    continue_logits = apply(networks.continue_, params["continue"], inputs)[..., 0]
    prior_logits = apply(networks.rssm, params["rssm"], posterior.latent.deter, method="prior")

    seen = model_units(networks.spec.observations, params, observations)
    per_key = {name: decoder_loss(spec, decoded[name], seen[name]) for name, spec in networks.spec.observations.items()}
    continue_target = (1.0 - is_terminal.astype(jnp.float32)) * gamma
    stop = jax.lax.stop_gradient
    dynamics = distributions.latent_kl(stop(posterior.logits), prior_logits)
    representation = distributions.latent_kl(posterior.logits, stop(prior_logits))
    losses = {
        "decoder": sum(per_key.values(), start=jnp.zeros_like(rewards)),
        "reward": scalars.two_hot_loss(reward_logits, rewards, networks.bins),
        "continue_": bernoulli_loss(continue_logits, continue_target),
        "dynamics": distributions.free_bits(dynamics, free_nats, straight_through),
        "representation": distributions.free_bits(representation, free_nats, straight_through),
    }
    posterior_entropy = jnp.mean(jnp.sum(distributions.categorical_entropy(posterior.logits), axis=-1))
    groups, classes = posterior.logits.shape[-2:]
    metrics = {f"decoder/{name}": jnp.mean(value) for name, value in per_key.items()}
    metrics |= {
        "kl": jnp.mean(dynamics),
        "prior_entropy": jnp.mean(jnp.sum(distributions.categorical_entropy(prior_logits), axis=-1)),
        "posterior_entropy": posterior_entropy,
        "posterior_randomness": posterior_entropy / (groups * math.log(classes)),
        "reward_prediction": jnp.mean(scalars.two_hot_mean(stop(reward_logits), networks.bins)),
    }
    return losses, metrics


def bernoulli_loss(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Cross-entropy of a Bernoulli with the given logits to a target probability, elementwise."""
    return jax.nn.softplus(logits) - target * logits


def stoch_dtype(networks: Networks) -> Any:
    """The integer type that holds a class index in replay."""
    return jnp.uint8 if networks.rssm.classes <= 256 else jnp.int32
