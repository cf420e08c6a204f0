"""Running statistics: the scale of returns and exponential moving averages of pytrees.

Source: DreamerV3 (arXiv 2301.04104), section "Actor learning": S = EMA(Per(R, 95) - Per(R, 5), 0.99).
"""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import chex
import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")


class ReturnScaleState(NamedTuple):
    """Moving averages that start at zero; dividing by `correction` removes the bias of that start, as in Adam."""

    low: jax.Array  # [] float32, average of the lower percentile
    high: jax.Array  # [] float32, average of the upper percentile
    correction: jax.Array  # [] float32, the same average of the constant 1


def return_scale_init() -> ReturnScaleState:
    """The state before any return was seen."""
    return ReturnScaleState(low=jnp.zeros(()), high=jnp.zeros(()), correction=jnp.zeros(()))


def return_scale_update(
    state: ReturnScaleState,
    returns: jax.Array,
    *,
    rate: float | jax.Array = 0.01,
    percentile_low: float | jax.Array = 5.0,
    percentile_high: float | jax.Array = 95.0,
    axis_name: str | None = None,
) -> ReturnScaleState:
    """Average in the percentiles of a batch of returns, any shape.

    `rate` is the share of the new batch (0.01 is a decay of 0.99), the percentiles are in 0 .. 100; all may be traced.
    With `axis_name`, inside pmap, the percentiles are those of all devices' returns together.
    """
    chex.assert_rank(list(state), 0, custom_message="low, high, correction of the state")
    chex.assert_rank([rate, percentile_low, percentile_high], 0, custom_message="rate, percentile_low, percentile_high")
    chex.assert_type(returns, float)
    returns = jax.lax.stop_gradient(returns)
    if axis_name is not None:
        returns = jax.lax.all_gather(returns, axis_name)
    low, high = jnp.percentile(returns, jnp.stack([jnp.asarray(percentile_low), jnp.asarray(percentile_high)]))
    return ema_update(state, ReturnScaleState(low=low, high=high, correction=jnp.ones(())), rate)


def return_spread(state: ReturnScaleState) -> jax.Array:
    """high - low of the bias-corrected averages: [], 0 before the first update."""
    chex.assert_rank(list(state), 0, custom_message="low, high, correction of the state")
    return (state.high - state.low) / jnp.maximum(state.correction, jnp.finfo(jnp.float32).tiny)


def return_scale(state: ReturnScaleState, limit: float | jax.Array = 1.0) -> jax.Array:
    """max(limit, spread of the returns): [], `limit` before the first update."""
    chex.assert_rank(limit, 0, custom_message="limit is one number")
    return jnp.maximum(return_spread(state), limit)


def ema_update(old: Tree, new: Tree, rate: float | jax.Array) -> Tree:
    """(1 - rate) old + rate new for every leaf of two pytrees of one structure; `rate` in [0, 1], may be traced."""
    chex.assert_trees_all_equal_shapes(old, new, custom_message="old, new")
    chex.assert_rank(rate, 0, custom_message="rate is one number")
    return jax.tree.map(lambda before, after: (1 - rate) * before + rate * after, old, new)
