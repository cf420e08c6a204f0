"""Looking into dreams: filter real episodes, and imagine from their states under the policy. No gradients.

Everything is time-major, and randomness comes in as uniform numbers. Legend: L steps of a piece of episodes, E episodes,
N states, M dreams of each, H horizon. Dreams that follow an episode's own actions: `open_loop.py`.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dreamerjax.agent import actor_critic
from dreamerjax.agent.imagination import DreamNoise, imagine
from dreamerjax.agent.observation_normalization import model_units
from dreamerjax.agent.state import Params
from dreamerjax.agent.world_model import (
    FilterInputs,
    Latent,
    Posterior,
    encode_action,
    feature,
    observe,
    reward_and_continue,
    undiscounted,
)
from dreamerjax.core.types import Array
from dreamerjax.networks.build import Networks
from dreamerjax.networks.layers import apply
from dreamerjax.ops import distributions


class Filtered(NamedTuple):
    """What the agent knows after each observation."""

    posterior: Posterior  # [L, E, ...]
    kl: jax.Array  # [L, E] KL(posterior, prior) in nats
    value: jax.Array  # [L, E] the critic's
    last: Latent  # [E, ...] where the next piece starts


class Belief(NamedTuple):
    """Means over the M dreams of each state."""

    returns: jax.Array  # [N] lambda returns at the states, the critic's training target
    rewards: jax.Array  # [H, N] reward of step k times the probability of getting there
    alive: jax.Array  # [H, N] probability of going on after step k


def filter_piece(
    networks: Networks, params: dict[str, Params], inputs: FilterInputs, start: Latent, uniform: Array
) -> Filtered:
    """Filter the next L steps of E episodes: `inputs` [L, E, ...] as an environment has them, neither converted nor encoded.

    `start` [E, ...] is the latent of the step before; `uniform` [L, E, S] draws the stochastic states.
    """
    model = params["world_model"]
    posterior = observe(networks, model, as_the_model_sees(networks, params["statistics"], inputs), start, uniform)
    prior_logits = apply(networks.rssm, model["rssm"], posterior.latent.deter, method="prior")
    values = actor_critic.value(networks, params["critic"], feature(posterior.latent))
    last = jax.tree.map(lambda leaf: leaf[-1], posterior.latent)
    return Filtered(posterior, distributions.latent_kl(posterior.logits, prior_logits), values, last)


def as_the_model_sees(networks: Networks, statistics: Any, inputs: FilterInputs) -> FilterInputs:
    """Observations in the model's units, and actions encoded."""
    observations = model_units(networks.spec.observations, statistics, inputs.observations)
    return FilterInputs(observations, encode_action(networks, inputs.previous_action), inputs.is_first)


def believe(
    networks: Networks, params: dict[str, Params], start: Latent, noise: DreamNoise, *, gamma: Array, lambda_: Array
) -> Belief:
    """Imagine M dreams under the sampled policy from each start [N, ...], none of which is an episode's end.

    `noise` [M, H, N, ...] draws actions and stochastic states. One dream of every state at a time, so that memory does not grow
    with M.
    """
    model, critics = params["world_model"], actor_critic.Critics(params["critic"], params["critic"])

    def one_dream(noise: DreamNoise) -> Belief:
        dream = imagine(networks, params, start, noise)
        going_on = jnp.ones(start.deter.shape[0])
        targets = actor_critic.dream_targets(networks, model, critics, dream, going_on, lambda_=lambda_)
        rewards, continues = jax.lax.map(partial(reward_and_continue, networks, model), dream.features[1:])
        alive = jnp.cumprod(undiscounted(continues, gamma), axis=0)
        reached = jnp.concatenate([going_on[None], alive[:-1]], axis=0)
        return Belief(targets.returns[0], reached * rewards, alive)

    dreams = jax.lax.map(one_dream, DreamNoise(*map(jnp.asarray, noise)))
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), dreams)
