"""Looking into dreams: filter real episodes, and imagine from their states under the policy. No gradients.

Everything is time-major, and randomness comes in as uniform numbers. Legend: L steps of a piece of episodes, E episodes,
N states, M dreams of each, H horizon. Dreams that follow an episode's own actions: `open_loop.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from dreamerjax.agent import actor_critic
from dreamerjax.agent.imagination import imagine
from dreamerjax.agent.state import Array, Params
from dreamerjax.agent.world_model import Latent, Posterior, encode_action, feature, observe
from dreamerjax.networks.build import Networks
from dreamerjax.networks.layers import apply
from dreamerjax.ops import distributions, scalars


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
    networks: Networks,
    params: dict[str, Params],
    observations: dict[str, Array],
    previous_action: Array,
    is_first: Array,
    start: Latent,
    uniform: Array,
) -> Filtered:
    """Filter the next L steps of E episodes: observations [L, E, ...], the action before each [L, E, C], is_first [L, E].

    `start` [E, ...] is the latent of the step before; `uniform` [L, E, S] draws the stochastic states.
    """
    model = params["world_model"]
    posterior = observe(networks, model, observations, encode_action(networks, previous_action), is_first, start, uniform)
    prior_logits = apply(networks.rssm, model["rssm"], posterior.latent.deter, method="prior")
    values = actor_critic.value(networks, params["critic"], feature(posterior.latent))
    last = jax.tree.map(lambda leaf: leaf[-1], posterior.latent)
    return Filtered(posterior, distributions.latent_kl(posterior.logits, prior_logits), values, last)


def believe(
    networks: Networks,
    params: dict[str, Params],
    start: Latent,
    action_uniform: Array,
    latent_uniform: Array,
    *,
    gamma: Array,
    lambda_: Array,
) -> Belief:
    """Imagine M dreams under the sampled policy from each start [N, ...], none of which is an episode's end.

    `action_uniform` [M, H, N, C] and `latent_uniform` [M, H, N, S] draw actions and stochastic states. One dream of every
    state at a time, so that memory does not grow with M. The continue head carries the discount; here it is divided out.
    """
    model, critic = params["world_model"], params["critic"]

    def heads(features: jax.Array) -> tuple[jax.Array, jax.Array]:
        reward_logits = apply(networks.reward, model["reward"], features)
        continue_logits = apply(networks.continue_, model["continue"], features)[..., 0]
        return scalars.two_hot_mean(reward_logits, networks.bins), jax.nn.sigmoid(continue_logits)

    def one_dream(uniforms: tuple[jax.Array, jax.Array]) -> Belief:
        dream = imagine(networks, model, params["actor"], start, *uniforms)
        going_on = jnp.ones(start.deter.shape[0])
        targets = actor_critic.dream_targets(networks, model, critic, critic, dream, going_on, lambda_=lambda_)
        rewards, continues = jax.lax.map(heads, dream.features[1:])
        alive = jnp.cumprod(jnp.minimum(continues / gamma, 1.0), axis=0)
        reached = jnp.concatenate([going_on[None], alive[:-1]], axis=0)
        return Belief(targets.returns[0], reached * rewards, alive)

    dreams = jax.lax.map(one_dream, (jnp.asarray(action_uniform), jnp.asarray(latent_uniform)))
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), dreams)
