"""Looking into dreams: filter real episodes, imagine from their states, predict with their actions. No gradients.

Everything is time-major, and randomness comes in as uniform numbers. Legend: L steps of a piece of episodes, E episodes,
N states, M dreams of each, H horizon, P predicted steps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from dreamerjax import actor_critic
from dreamerjax.imagination import imagine
from dreamerjax.networks.build import Networks
from dreamerjax.networks.layers import apply
from dreamerjax.ops import distributions, scalars
from dreamerjax.pytrees import Array, Params
from dreamerjax.world_model import Latent, Posterior, encode_action, feature, initial_latent, observe, sample_stoch

T = TypeVar("T")


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


class Watched(NamedTuple):
    """What the agent reads from its latents while it observes for L steps and then imagines P."""

    vectors: dict[str, jax.Array]  # {name: [L + P, size]} decoded observations, in their own units
    alive: jax.Array  # [L + P] probability that the episode goes on after the step
    value: jax.Array  # [L + P] the critic's


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


def predict(
    networks: Networks,
    model_params: Params,
    observations: dict[str, Array],
    previous_action: Array,
    actions: Array,
    context_uniform: Array,
    latent_uniform: Array,
) -> dict[str, jax.Array]:
    """Open loop: filter the first L observations of E episodes, then let the prior run on the real actions.

    Args:
        networks: of the agent.
        model_params: of the world model.
        observations: [L, E, ...] from the start of the episodes.
        previous_action: [L, E, C] before each of them.
        actions: [P, E, C] from the last of these observations on.
        context_uniform: [L, E, M, S] draws the posterior's stochastic states, M times.
        latent_uniform: [P, E, M, S] draws the prior's.

    Returns:
        The predicted vector observations {name: [P, E, M, size]} in their own units; discrete ones are left out.
    """
    inputs = (observations, previous_action, actions, context_uniform, latent_uniform)
    predicted = _open_loop(networks, model_params, partial(_vectors, networks, model_params), *inputs)[1]
    episodes, dreams = context_uniform.shape[1:3]
    return {name: values.reshape(-1, episodes, dreams, values.shape[-1]) for name, values in predicted.items()}


def watch(
    networks: Networks,
    params: dict[str, Params],
    observations: dict[str, Array],
    previous_action: Array,
    actions: Array,
    context_uniform: Array,
    latent_uniform: Array,
    *,
    gamma: Array,
) -> Watched:
    """What the agent sees of one episode (E = 1) while it is shown L observations, and in P steps of one dream (M = 1) after.

    The arguments are those of `predict`, with all parameters. The continue head carries the discount; here it is divided out.
    """
    model = params["world_model"]

    def read(features: jax.Array) -> Watched:
        continues = jax.nn.sigmoid(apply(networks.continue_, model["continue"], features)[..., 0])
        values = actor_critic.value(networks, params["critic"], features)
        return Watched(_vectors(networks, model, features), jnp.minimum(continues / gamma, 1.0), values)

    parts = _open_loop(networks, model, read, observations, previous_action, actions, context_uniform, latent_uniform)
    return jax.tree.map(lambda seen, dreamed: jnp.concatenate([seen, dreamed])[:, 0], *parts)


def _vectors(networks: Networks, model_params: Params, features: jax.Array) -> dict[str, jax.Array]:
    """The decoded vector observations {name: [..., size]} of features [..., F], in their own units."""
    decoded = apply(networks.decoder, model_params["decoder"], features)
    return {name: scalars.symexp(decoded[name]) for name, spec in networks.spec.observations.items() if spec.is_vector}


def _open_loop(
    networks: Networks,
    model_params: Params,
    read: Callable[[jax.Array], T],
    observations: dict[str, Array],
    previous_action: Array,
    actions: Array,
    context_uniform: Array,
    latent_uniform: Array,
) -> tuple[T, T]:
    """What `read` makes of the features of the filter [L, E * M, F], and of those of the prior after it [P, E * M, F]."""
    length, episodes, dreams, groups = context_uniform.shape

    def repeated(leaf: Array) -> jax.Array:
        return jnp.repeat(jnp.asarray(leaf), dreams, axis=1)

    def encoded(action: Array) -> jax.Array:
        return encode_action(networks, repeated(action))

    flat = episodes * dreams
    is_first = jnp.zeros((length, flat), jnp.bool_).at[0].set(True)
    context = observe(
        networks, model_params, jax.tree.map(repeated, observations), encoded(previous_action), is_first,
        initial_latent(networks, flat), jnp.reshape(context_uniform, (length, flat, groups)),
    )  # fmt: skip
    rssm = model_params["rssm"]

    def step(latent: Latent, inputs: tuple[jax.Array, jax.Array]) -> tuple[Latent, T]:
        deter = apply(networks.rssm, rssm, latent.deter, latent.stoch, inputs[0], method="recurrent")
        logits = apply(networks.rssm, rssm, deter, method="prior")
        new = Latent(deter, sample_stoch(logits, inputs[1]))
        return new, read(feature(new))

    projected = apply(networks.rssm, rssm, encoded(actions), method="project_action")
    last: Any = jax.tree.map(lambda leaf: leaf[-1], context.latent)
    predicted = jax.lax.scan(step, last, (projected, jnp.reshape(latent_uniform, (-1, flat, groups))))[1]
    return read(feature(context.latent)), predicted
