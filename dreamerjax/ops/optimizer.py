"""The optimiser as a chain of optax transformations: adaptive gradient clipping, LaProp, a learning rate that warms up.

Sources: AGC, arXiv 2102.06171 (here with whole-tensor norms); LaProp, arXiv 2002.04839; constants from DreamerV3,
arXiv 2301.04104.
All numbers may be traced: a chain is only functions, built anew wherever the numbers change, and its state holds moments and
counts alone.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

Number = float | jax.Array

# LaProp does not depend on the gradient's scale, but float32 flushes the square of a gradient under 1e-18 to zero.
_GRADIENT_SCALE = 2.0**20


def laprop(
    learning_rate: Number,
    warmup: Number = 0,
    *,
    clip: Number = 0.3,
    beta1: Number = 0.9,
    beta2: Number = 0.999,
    eps: Number = 1e-20,
) -> optax.GradientTransformation:
    """The whole optimiser: update = -learning_rate * linear_warmup * scale_by_laprop(clip_by_tensor_norm(gradient)).

    The moments are one vector of all tensors' numbers: a few large operations to compile and to launch instead of ten for
    each tensor. The last link's state counts the updates made.
    """
    return optax.chain(
        clip_by_tensor_norm(clip),
        optax.flatten(scale_by_laprop(beta1, beta2, eps)),
        optax.scale_by_learning_rate(lambda count: learning_rate * linear_warmup(count, warmup)),
    )


def laprop_init(params: optax.Params) -> optax.OptState:
    """The state before the first update, whatever the numbers of the chain."""
    return laprop(learning_rate=0.0).init(params)


def clip_by_tensor_norm(clip: Number, floor: Number = 1e-3) -> optax.GradientTransformation:
    """Limit each tensor's L2 norm to clip * max(floor, |param|); optax's own adaptive clipping is of each unit.

    Directions are kept, tensors within the limit are returned unchanged and NaN stays NaN.
    """

    def limited(update: jax.Array, param: jax.Array) -> jax.Array:
        limit = clip * jnp.maximum(optax.tree.norm(param), floor)
        norm = optax.tree.norm(update)
        return update * jnp.where(norm > limit, limit / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny), 1.0)

    return optax.stateless(lambda updates, params: jax.tree.map(limited, updates, params))


def scale_by_laprop(beta1: Number = 0.9, beta2: Number = 0.999, eps: Number = 1e-20) -> optax.GradientTransformation:
    """Normalise the gradient first, then average it (Adam does both at once).

    n_t = beta2 n_{t-1} + (1 - beta2) g_t^2, u_t = g_t / (sqrt(n_t / (1 - beta2^t)) + eps),
    m_t = beta1 m_{t-1} + (1 - beta1) u_t, update = m_t / (1 - beta1^t).

    `beta1` and `beta2` are in [0, 1). The corrections of the bias are links of their own, since optax's suffer the
    cancellation of 1 - beta^t in float32: u_t is sqrt(1 - beta2^t) g_t / (sqrt(n_t) + eps sqrt(1 - beta2^t)).
    """

    def chain(count: jax.Array) -> optax.GradientTransformation:
        root = jnp.sqrt(_bias_correction(beta2, count))
        return optax.chain(
            optax.scale(_GRADIENT_SCALE),
            optax.scale_by_rms(beta2, eps * _GRADIENT_SCALE * root, eps_in_sqrt=False),
            optax.scale(root),
            optax.ema(beta1, debias=False),
            optax.scale(1 / _bias_correction(beta1, count)),
        )

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        *_, momentum, _ = state
        return chain(momentum.count + 1).update(updates, state, params)

    return optax.GradientTransformation(chain(jnp.ones((), jnp.int32)).init, update)


def _bias_correction(beta: Number, count: jax.Array) -> jax.Array:
    """1 - beta^count without the cancellation that float32 suffers for beta near 1: []."""
    return -jnp.expm1(count.astype(jnp.float32) * jnp.log1p(-jnp.asarray(1 - beta, jnp.float32)))


def linear_warmup(count: Number, length: Number) -> jax.Array:
    """Learning-rate multiplier min(1, (count + 1) / length) for the update after `count` earlier ones: [] in (0, 1].

    A length of 0 or 1 is no warm-up.
    """
    return jnp.minimum((jnp.asarray(count, jnp.float32) + 1) / jnp.maximum(length, 1), 1.0)
