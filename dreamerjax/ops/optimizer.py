"""The optimiser's parts: adaptive gradient clipping, LaProp and linear warm-up.

Sources: AGC, arXiv 2102.06171 (here with whole-tensor norms); LaProp, arXiv 2002.04839; constants from DreamerV3,
arXiv 2301.04104.
A full update is laprop_update(agc(gradients)) times -learning_rate * linear_warmup(step).
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

Tree = TypeVar("Tree")

# LaProp does not depend on the gradient's scale, but float32 flushes the square of a gradient under 1e-18 to zero.
_GRADIENT_SCALE = 2.0**20


def agc(updates: Tree, params: Tree, clip: float | jax.Array, floor: float | jax.Array = 1e-3) -> Tree:
    """Limit each tensor's L2 norm to clip * max(floor, |param|).

    `updates` and `params` are pytrees of one structure. Directions are kept, tensors within the limit are returned
    unchanged and NaN stays NaN. `clip` and `floor` may be traced.
    """

    def limited(update: jax.Array, param: jax.Array) -> jax.Array:
        limit = clip * jnp.maximum(_norm(param), floor)
        norm = _norm(update)
        return update * jnp.where(norm > limit, limit / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny), 1.0)

    return jax.tree.map(limited, updates, params)


def _norm(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.sum(jnp.square(x)))


class LaPropState(NamedTuple):
    """Moments of the gradient, each a pytree like the parameters."""

    step: jax.Array  # [] int32, number of updates made
    second_moment: Any  # average of the squared gradient, which is scaled by 2^20
    momentum: Any  # average of the normalised gradient


def laprop_init(params: Any) -> LaPropState:
    """The state before the first update."""
    return LaPropState(
        step=jnp.zeros((), jnp.int32),
        second_moment=jax.tree.map(jnp.zeros_like, params),
        momentum=jax.tree.map(jnp.zeros_like, params),
    )


def laprop_update(
    gradients: Tree,
    state: LaPropState,
    *,
    beta1: float | jax.Array = 0.9,
    beta2: float | jax.Array = 0.999,
    eps: float | jax.Array = 1e-20,
) -> tuple[Tree, LaPropState]:
    """Normalise the gradient first, then average it (Adam does both at once).

    n_t = beta2 n_{t-1} + (1 - beta2) g_t^2, u_t = g_t / (sqrt(n_t / (1 - beta2^t)) + eps),
    m_t = beta1 m_{t-1} + (1 - beta1) u_t, update = m_t / (1 - beta1^t).

    Returns the updates, which the caller multiplies by -learning_rate, and the new state. `beta1`, `beta2` in [0, 1)
    and `eps` may be traced.
    """
    step = state.step + 1
    beta1_correction, beta2_correction = _bias_correction(beta1, step), _bias_correction(beta2, step)
    scaled = jax.tree.map(lambda gradient: gradient * _GRADIENT_SCALE, gradients)
    second_moment = jax.tree.map(
        lambda moment, gradient: beta2 * moment + (1 - beta2) * jnp.square(gradient), state.second_moment, scaled
    )
    normalised = jax.tree.map(
        lambda gradient, moment: gradient / (jnp.sqrt(moment / beta2_correction) + eps * _GRADIENT_SCALE),
        scaled,
        second_moment,
    )
    momentum = jax.tree.map(lambda moment, update: beta1 * moment + (1 - beta1) * update, state.momentum, normalised)
    updates = jax.tree.map(lambda moment: moment / beta1_correction, momentum)
    return updates, LaPropState(step, second_moment, momentum)


def _bias_correction(beta: float | jax.Array, step: jax.Array) -> jax.Array:
    """1 - beta^step without the cancellation that float32 suffers for beta near 1: []."""
    return -jnp.expm1(step.astype(jnp.float32) * jnp.log1p(-jnp.asarray(1 - beta, jnp.float32)))


def linear_warmup(step: float | jax.Array, length: float | jax.Array) -> jax.Array:
    """Learning-rate multiplier min(1, (step + 1) / length) for the update after `step` earlier ones: [] in (0, 1].

    A length of 0 or 1 is no warm-up. Both arguments may be traced.
    """
    return jnp.minimum((jnp.asarray(step, jnp.float32) + 1) / jnp.maximum(length, 1), 1.0)
