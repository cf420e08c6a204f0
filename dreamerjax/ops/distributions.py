"""Categorical and bounded normal distributions as functions of their parameters.

Sources: DreamerV3 (arXiv 2301.04104), equations of the world-model loss and the actor; free bits in two modes
(findings_of_the_log.md#01-15a). S groups, K classes, `...` any leading shape. Logits need not be normalised unless said.
"""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp

_STD_SHIFT = 2.0  # sigmoid(2) = 0.88: a zero network output starts near the widest standard deviation


def _assert_classes(array: jax.Array) -> None:
    chex.assert_axis_dimension_gt(array, -1, 0, custom_message="K classes, at least one: [..., K]")


def unimix_logits(logits: jax.Array, ratio: float | jax.Array) -> jax.Array:
    """log((1 - ratio) softmax(logits) + ratio / K): [..., K] -> [..., K] normalised log-probabilities.

    `ratio` in [0, 1], may be traced. Value and gradient are finite also at ratio 0, where a probability below the
    smallest float32 counts as that and gets no gradient.
    """
    _assert_classes(logits)
    chex.assert_rank(ratio, 0, custom_message="ratio is one number")
    probs = (1 - ratio) * jax.nn.softmax(logits) + ratio / logits.shape[-1]
    return jnp.log(jnp.maximum(probs, jnp.finfo(probs.dtype).tiny))


def categorical_sample(key: jax.Array, logits: jax.Array) -> jax.Array:
    """Sample class indices: logits [..., K] -> int32 [...]. Consumes `key`.

    Inverse CDF with one uniform per distribution: random bits cost more than anything else here on a CPU.
    """
    chex.assert_rank(key, 0, custom_message="one typed key")
    _assert_classes(logits)
    uniform = jax.random.uniform(key, logits.shape[:-1])
    return categorical_sample_from_uniform(uniform, jax.nn.softmax(logits))


def categorical_sample_from_uniform(uniform: jax.Array, probs: jax.Array) -> jax.Array:
    """The class whose slice of the cumulative distribution holds `uniform`.

    Args:
        uniform: [...] in [0, 1).
        probs: [..., K] non-negative; their sum need not be exactly 1, `uniform` is scaled by it.

    Returns:
        [...] int32 in [0, K-1], never a class of probability 0.
    """
    _assert_classes(probs)
    chex.assert_shape(uniform, probs.shape[:-1], custom_message="one uniform [...] for each distribution [..., K]")
    # Written out over K: several times faster on CPU than jnp.cumsum, and non-decreasing under rounding.
    cumulative = [probs[..., 0]]
    for k in range(1, probs.shape[-1]):
        cumulative.append(cumulative[-1] + probs[..., k])
    threshold = uniform * cumulative[-1]
    index = jnp.zeros(uniform.shape, jnp.int32)
    for upper_edge in cumulative[:-1]:
        index = index + (threshold >= upper_edge)
    return index


def straight_through(one_hot: jax.Array, probs: jax.Array) -> jax.Array:
    """stop_gradient(one_hot - probs) + probs: the exact value of `one_hot`, the gradient of `probs`; [..., K] each."""
    chex.assert_equal_shape([one_hot, probs], custom_message="one_hot, probs")
    return jax.lax.stop_gradient(one_hot) + (probs - jax.lax.stop_gradient(probs))


def _finite_log_softmax(logits: jax.Array) -> jax.Array:
    """log_softmax with -inf replaced by the lowest float, so that 0 * log 0 is 0 in value and gradient."""
    log_probs = jax.nn.log_softmax(logits)
    return jnp.maximum(log_probs, jnp.finfo(log_probs.dtype).min)


def categorical_entropy(logits: jax.Array) -> jax.Array:
    """-sum_k p_k log p_k in nats: [..., K] -> [...]. A class with logit -inf contributes 0."""
    _assert_classes(logits)
    log_probs = _finite_log_softmax(logits)
    return -jnp.sum(jnp.exp(log_probs) * log_probs, -1)


def categorical_log_prob(logits: jax.Array, index: jax.Array) -> jax.Array:
    """log p(index): logits [..., K], integer index [...] -> [...]. NaN for an index that is not below K."""
    _assert_classes(logits)
    chex.assert_shape(index, logits.shape[:-1], custom_message="one index [...] for each distribution [..., K]")
    chex.assert_type(index, int)
    log_probs = jax.nn.log_softmax(logits)
    return jnp.take_along_axis(log_probs, index[..., None], -1, mode="fill")[..., 0]


def categorical_kl(p_logits: jax.Array, q_logits: jax.Array) -> jax.Array:
    """KL(p || q) = sum_k p_k (log p_k - log q_k) in nats: [..., K] both -> [...]. A class of p_k = 0 contributes 0."""
    _assert_classes(p_logits)
    chex.assert_equal_shape([p_logits, q_logits], custom_message="p_logits, q_logits")
    log_p, log_q = _finite_log_softmax(p_logits), _finite_log_softmax(q_logits)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), -1)


def latent_kl(p_logits: jax.Array, q_logits: jax.Array) -> jax.Array:
    """KL between two latents of S independent categoricals: [..., S, K], [..., S, K] -> [...], summed over S."""
    chex.assert_axis_dimension_gt(p_logits, -2, 0, custom_message="S groups of K classes: [..., S, K]")
    return jnp.sum(categorical_kl(p_logits, q_logits), -1)


def free_bits(kl: jax.Array, free_nats: float | jax.Array, straight_through: bool) -> jax.Array:
    """max(free_nats, kl): [...] -> [...].

    `straight_through=False` (the paper): no gradient below the threshold. `straight_through=True`: the same value with the
    gradient of `kl` everywhere, so that a prior below the threshold still learns (findings_of_the_log.md#01-15a).
    """
    chex.assert_rank(free_nats, 0, custom_message="free_nats is one number")
    clipped = jnp.maximum(kl, free_nats)
    if not straight_through:
        return clipped
    return jax.lax.stop_gradient(clipped) + (kl - jax.lax.stop_gradient(kl))


def bounded_normal_params(
    mean_raw: jax.Array, std_raw: jax.Array, low: float | jax.Array, high: float | jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Mean tanh(mean_raw) and standard deviation low + (high - low) sigmoid(std_raw + 2): [...] each, as the inputs."""
    chex.assert_equal_shape([mean_raw, std_raw], custom_message="mean_raw, std_raw")
    chex.assert_rank([low, high], 0, custom_message="low, high")
    return jnp.tanh(mean_raw), low + (high - low) * jax.nn.sigmoid(std_raw + _STD_SHIFT)


def normal_log_prob(x: jax.Array, mean: jax.Array, std: jax.Array) -> jax.Array:
    """Log density of a diagonal normal: [..., A] each -> [...], summed over the last axis."""
    chex.assert_equal_shape([x, mean, std], custom_message="x, mean, std")
    chex.assert_axis_dimension_gt(x, -1, 0, custom_message="A dimensions: [..., A]")
    return -jnp.sum(0.5 * jnp.square((x - mean) / std) + jnp.log(std) + 0.5 * math.log(2 * math.pi), -1)


def normal_entropy(std: jax.Array) -> jax.Array:
    """Entropy of a diagonal normal in nats, sum_a 1/2 ln(2 pi e std_a^2): [..., A] -> [...]."""
    chex.assert_axis_dimension_gt(std, -1, 0, custom_message="A dimensions: [..., A]")
    return jnp.sum(jnp.log(std) + 0.5 * math.log(2 * math.pi * math.e), -1)


def normal_kl(p: tuple[jax.Array, jax.Array], q: tuple[jax.Array, jax.Array]) -> jax.Array:
    """KL(p || q) of diagonal normals (mean, std) in nats: [..., A] all four -> [...], summed over the last axis."""
    chex.assert_equal_shape([*p, *q], custom_message="means and stds of p and q")
    chex.assert_axis_dimension_gt(p[0], -1, 0, custom_message="A dimensions: [..., A]")
    (mean, std), (other_mean, other_std) = p, q
    ratio = jnp.square(std / other_std)
    return 0.5 * jnp.sum(ratio + jnp.square((mean - other_mean) / other_std) - 1.0 - jnp.log(ratio), -1)
