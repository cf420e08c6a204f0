"""Actor, critic and replay-critic losses (DreamerV3, section "Actor-critic learning", eq. 4-7)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dreamerjax.agent import action_distribution
from dreamerjax.agent.imagination import Dream
from dreamerjax.networks.build import Networks
from dreamerjax.networks.layers import apply
from dreamerjax.ops import normalization, returns, scalars

Params = Any
stop = jax.lax.stop_gradient


class DreamTargets(NamedTuple):
    """What a dream says about its own states; nothing here carries a gradient."""

    returns: jax.Array  # [H, N] lambda returns
    values: jax.Array  # [H+1, N]
    slow_values: jax.Array  # [H+1, N] of the slow critic
    continues: jax.Array  # [H, N] predicted continuation of steps 1 .. H, discount included
    weights: jax.Array  # [H, N] probability that the dream is still going at each step, discount included


def value(networks: Networks, params: Params, features: jax.Array) -> jax.Array:
    """The critic's value of features [..., F], without gradient: [...]."""
    logits = apply(networks.critic, stop(params), stop(features))
    return stop(scalars.two_hot_mean(logits, networks.bins))


def critic_loss(
    networks: Networks,
    params: Params,
    features: jax.Array,
    targets: jax.Array,
    slow_values: jax.Array,
    slow_regularizer: jax.Array,
) -> jax.Array:
    """Two-hot cross-entropy to the targets, plus `slow_regularizer` times that to the slow critic's value.

    Features [..., F], targets and slow values [...] -> [...]. One log-softmax serves both.
    """
    log_probs = jax.nn.log_softmax(apply(networks.critic, params, features))
    fit = scalars.two_hot_loss_from_log_probs(log_probs, targets, networks.bins)
    hold = scalars.two_hot_loss_from_log_probs(log_probs, slow_values, networks.bins)
    return fit + slow_regularizer * hold


def dream_targets(
    networks: Networks,
    model_params: Params,
    critic_params: Params,
    slow_critic_params: Params,
    dream: Dream,
    start_continue: jax.Array,
    *,
    lambda_: jax.Array,
) -> DreamTargets:
    """Lambda returns and step weights of a dream, from the reward, continue and critic heads.

    `start_continue` [N] is the true continuation (0 at a terminal state) of each start: a dream from an ended episode
    weighs nothing. The continue head carries the discount. The heads run step by step (`lax.map`), so that their wide
    outputs stay in the processor's cache.
    """

    def heads(features: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        reward_logits = apply(networks.reward, model_params["reward"], features)
        continue_logits = apply(networks.continue_, model_params["continue"], features)[..., 0]
        rewards = scalars.two_hot_mean(reward_logits, networks.bins)
        values = value(networks, critic_params, features), value(networks, slow_critic_params, features)
        return rewards, jax.nn.sigmoid(continue_logits), *values

    model_params = stop(model_params)
    rewards, continues, values, slow_values = jax.lax.map(heads, dream.features)
    lambda_returns = returns.lambda_returns(rewards[1:], continues[1:], values[1:], values[-1], lambda_)
    weights = returns.step_weights(jnp.concatenate([start_continue[None], continues[1:-1]], axis=0))
    return stop(DreamTargets(lambda_returns, values, slow_values, continues[1:], weights))


def dream_critic_loss(
    networks: Networks, params: Params, dream: Dream, targets: DreamTargets, slow_regularizer: jax.Array
) -> jax.Array:
    """The critic's loss on every imagined step [H, N], weighted.

    Step by step and recomputed in the backward pass: cheaper than writing H x N x V log-probabilities to memory.
    """

    @jax.checkpoint
    def one_step(inputs: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        return critic_loss(networks, params, *inputs, slow_regularizer)

    inputs = (dream.features[:-1], targets.returns, targets.slow_values[:-1])
    return targets.weights * jax.lax.map(one_step, inputs)


def advantages(targets: DreamTargets, scale: jax.Array, *, centered: bool, axis_name: str | None = None) -> jax.Array:
    """(R - v) / scale of each imagined step [H, N]; `centered` takes away the mean over the N dreams at each of the H steps.

    A critic that lags behind a growing return makes nearly every advantage positive: then whatever was done is reinforced, and
    the difference between actions drowns in the chance of the draw. The mean, which is weighted by the dreams' weights, is
    that lag (docs/staying_solved.md). With `axis_name`, inside pmap, it is the mean over all devices' dreams.
    """
    result = (targets.returns - targets.values[:-1]) / scale
    if not centered:
        return result
    sums = jnp.sum(targets.weights * result, axis=1), jnp.sum(targets.weights, axis=1)
    if axis_name is not None:
        sums = jax.lax.psum(sums, axis_name)
    return result - (sums[0] / jnp.maximum(sums[1], jnp.finfo(jnp.float32).tiny))[:, None]


def actor_loss(
    networks: Networks,
    params: Params,
    dream: Dream,
    weights: jax.Array,
    advantage: jax.Array,
    entropy_coefficient: jax.Array,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Score-function loss per imagined step [H, N]: -(log pi(a) advantage + eta H[pi]), weighted."""

    @jax.checkpoint
    def one_step(inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        features, actions = inputs
        return action_distribution.log_prob_and_entropy(networks, apply(networks.actor, params, features), actions)

    log_prob, entropy = jax.lax.map(one_step, (dream.features[:-1], dream.actions))
    loss = -weights * (log_prob * stop(advantage) + entropy_coefficient * entropy)
    lowest, highest = action_distribution.entropy_bounds(networks)
    metrics = {
        "entropy": jnp.mean(entropy),
        "randomness": (jnp.mean(entropy) - lowest) / (highest - lowest),
        "advantage_magnitude": jnp.mean(jnp.abs(advantage)),
    }
    return loss, metrics


def replay_critic_loss(
    networks: Networks,
    params: Params,
    slow_params: Params,
    features: jax.Array,
    rewards: jax.Array,
    is_last: jax.Array,
    is_terminal: jax.Array,
    bootstrap: jax.Array,
    *,
    gamma: jax.Array,
    lambda_: jax.Array,
    slow_regularizer: jax.Array,
) -> jax.Array:
    """Critic loss on real sequences [T-1, B]: lambda returns over real rewards, bootstrapped from `bootstrap` [T, B].

    Gradients reach the features [T, B, F] too.
    """
    targets = returns.replay_lambda_returns(rewards, is_last, is_terminal, stop(bootstrap), gamma, lambda_)
    weights = 1.0 - is_last[:-1].astype(jnp.float32)
    slow_values = value(networks, slow_params, features[:-1])
    return weights * critic_loss(networks, params, features[:-1], stop(targets), slow_values, slow_regularizer)


def normalized_scale(state: normalization.ReturnScaleState, enabled: bool) -> jax.Array:
    """max(1, S95 - S5) of the running return percentiles, or 1 when return normalisation is off."""
    return normalization.return_scale(state) if enabled else jnp.ones(())
