"""What dreams are worth: values, lambda returns, weights and advantages (DreamerV3, section "Actor-critic learning")."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from dreamerjax.agent.imagination import Dream
from dreamerjax.agent.world_model import assert_features, ensemble_predictions
from dreamerjax.core.types import Array
from dreamerjax.networks.build import Networks
from dreamerjax.networks.layers import apply
from dreamerjax.ops import normalization, returns, scalars

Params = Any
stop = jax.lax.stop_gradient


class Critics(NamedTuple):
    """Parameters of the critic that is trained, and of its moving average."""

    fast: Params
    slow: Params


class DreamTargets(NamedTuple):
    """What a dream says about its own states; nothing here carries a gradient."""

    returns: jax.Array  # [H, N] lambda returns
    values: jax.Array  # [H+1, N]
    slow_values: jax.Array  # [H+1, N] of the slow critic
    continues: jax.Array  # [H, N] predicted continuation of steps 1 .. H, discount included
    doubt: jax.Array  # [H, N] what the ensemble's disagreement is worth at steps 1 .. H; 0 without an ensemble
    weights: jax.Array  # [H, N] probability that the dream is still going at each step, discount included


def value(networks: Networks, params: Params, features: jax.Array) -> jax.Array:
    """The critic's value of features [..., F], without gradient: [...]."""
    assert_features(networks, features)
    logits = apply(networks.critic, stop(params), stop(features))
    return stop(scalars.two_hot_mean(logits, networks.bins))


def dream_targets(
    networks: Networks,
    model_params: Params,
    critics: Critics,
    dream: Dream,
    start_continue: jax.Array,
    *,
    lambda_: jax.Array,
    pessimism: Array | float = 0.0,
) -> DreamTargets:
    """Lambda returns and step weights of a dream, from the reward, continue and critic heads.

    A reward is lowered by `pessimism` times what the members of an ensemble leave in doubt: the deviation of their rewards, and
    of their continuations times the size of the value that hangs on them. A policy gains nothing by dreams that they dispute.

    `start_continue` [N] is the true continuation (0 at a terminal state) of each start: a dream from an ended episode
    weighs nothing. The continue head carries the discount. How the heads run over the steps is
    the backend's choice (`networks.loops`).
    """
    chex.assert_rank([dream.features, start_continue, lambda_], [3, 1, 0])
    chex.assert_shape(start_continue, dream.features.shape[1:2], custom_message="start_continue [N] of features [H+1, N, F]")
    model_params = stop(model_params)

    def heads(features: jax.Array) -> tuple[jax.Array, ...]:
        rewards, continues = ensemble_predictions(networks, model_params, features)  # [M, ...]
        fast, slow = value(networks, critics.fast, features), value(networks, critics.slow, features)
        doubt = jnp.zeros_like(fast)
        if networks.ensemble > 1:
            doubt = jnp.std(rewards, axis=0) + jnp.std(continues, axis=0) * jnp.abs(fast)
        return jnp.mean(rewards, axis=0), jnp.mean(continues, axis=0), fast, slow, doubt

    rewards, continues, values, slow_values, doubt = networks.loops.heads(heads, dream.features)
    lambda_returns = returns.lambda_returns(
        rewards[1:] - pessimism * doubt[1:], continues[1:], values[1:], values[-1], lambda_, unroll=networks.loops.unroll
    )
    weights = returns.step_weights(jnp.concatenate([start_continue[None], continues[1:-1]], axis=0))
    return stop(DreamTargets(lambda_returns, values, slow_values, continues[1:], doubt[1:], weights))


def advantages(targets: DreamTargets, scale: jax.Array, *, centered: bool, axis_name: str | None = None) -> jax.Array:
    """(R - v) / scale of each imagined step [H, N]; `centered` takes away the mean over the N dreams at each of the H steps.

    A critic that lags behind a growing return makes nearly every advantage positive: then whatever was done is reinforced, and
    the difference between actions drowns in the chance of the draw. The mean, which is weighted by the dreams' weights, is
    that lag (docs/staying_solved.md). With `axis_name`, inside pmap, it is the mean over all devices' dreams.
    """
    chex.assert_rank([targets.returns, targets.values, scale], [2, 2, 0])
    chex.assert_equal_shape([targets.returns, targets.weights], custom_message="returns, weights [H, N]")
    steps, dreams = targets.returns.shape
    chex.assert_shape(targets.values, (steps + 1, dreams), custom_message="values [H+1, N] of returns [H, N]")
    result = (targets.returns - targets.values[:-1]) / scale
    if not centered:
        return result
    sums = jnp.sum(targets.weights * result, axis=1), jnp.sum(targets.weights, axis=1)
    if axis_name is not None:
        sums = jax.lax.psum(sums, axis_name)
    return result - (sums[0] / jnp.maximum(sums[1], jnp.finfo(jnp.float32).tiny))[:, None]


def normalized_scale(state: normalization.ReturnScaleState, enabled: bool) -> jax.Array:
    """max(1, S95 - S5) of the running return percentiles, or 1 when return normalisation is off."""
    return normalization.return_scale(state) if enabled else jnp.ones(())
