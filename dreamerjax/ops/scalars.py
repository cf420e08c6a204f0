"""Scalars as symlog values and as two-hot categorical distributions over bins.

Source: DreamerV3 (arXiv 2301.04104), section "Robust predictions". V is the number of bins, `...` any leading shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import chex
import jax
import jax.numpy as jnp
import numpy as np


def symlog(x: jax.Array) -> jax.Array:
    """sign(x) ln(1 + |x|), elementwise: [...] -> [...]."""
    chex.assert_type(x, float)
    return jnp.sign(x) * jnp.log1p(jnp.abs(x))


def symexp(x: jax.Array) -> jax.Array:
    """sign(x) (exp(|x|) - 1), the inverse of `symlog`: [...] -> [...]."""
    chex.assert_type(x, float)
    return jnp.sign(x) * jnp.expm1(jnp.abs(x))


def symlog_bins(count: int = 255, low: float = -20.0, high: float = 20.0) -> np.ndarray:
    """`count` evenly spaced points from `low` to `high`, in symlog units: float32 [V].

    Exactly antisymmetric when low == -high, then with an exact 0 in the middle of an odd count.
    """
    return _even_points(count, low, high).astype(np.float32)


def symexp_bins(count: int = 255, low: float = -20.0, high: float = 20.0) -> np.ndarray:
    """symexp(linspace(low, high, count)): float32 [V] in the scalar's own units; antisymmetric as in `symlog_bins`."""
    points = _even_points(count, low, high)
    return (np.sign(points) * np.expm1(np.abs(points))).astype(np.float32)


def _even_points(count: int, low: float, high: float) -> np.ndarray:
    points = np.linspace(low, high, count)
    return (points - points[::-1]) / 2 if low == -high else points


@dataclass(frozen=True, eq=False)
class Bins:
    """Where the bins of a two-hot distribution lie, evenly spaced in symlog units. Hashable: may be a static argument.

    `symlog_space=False`: `values` are in the scalar's own units (symexp-spaced) and the encoding is linear between
    them, as in the paper. `symlog_space=True`: `values` are in symlog units, symlog(y) is what is encoded, and a
    prediction is symexp(sum_i p_i b_i): a small range (findings_of_the_log.md#01-09).

    Raises ValueError unless there are at least two strictly increasing, finite values, evenly spaced in symlog units.
    """

    values: np.ndarray  # [V] float32, read-only
    symlog_space: bool

    @classmethod
    def symexp(cls, count: int = 255, low: float = -20.0, high: float = 20.0) -> Bins:
        """Bins at symexp(linspace(low, high, count)); the paper's default."""
        return cls(symexp_bins(count, low, high), symlog_space=False)

    @classmethod
    def symlog(cls, count: int = 255, low: float = -20.0, high: float = 20.0) -> Bins:
        """Bins at linspace(low, high, count) in symlog units."""
        return cls(symlog_bins(count, low, high), symlog_space=True)

    def __post_init__(self) -> None:
        values = np.array(self.values, np.float32)
        if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all() or not (np.diff(values) > 0).all():
            raise ValueError(f"bins must be at least two finite, strictly increasing values, not {self.values!r}")
        values.setflags(write=False)
        object.__setattr__(self, "values", values)
        low, spacing = self.grid
        positions = (self._in_symlog_units() - low) / spacing
        if np.abs(positions - np.arange(len(values))).max() > 0.25:
            raise ValueError("bins must be evenly spaced in symlog units, wider apart than float32 can round")

    def __len__(self) -> int:
        return len(self.values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Bins):
            return NotImplemented
        return self.symlog_space == other.symlog_space and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash((self.symlog_space, self.values.tobytes()))

    @property
    def is_antisymmetric(self) -> bool:
        """Whether values[i] == -values[V-1-i] for every i, exactly."""
        return bool(np.array_equal(self.values, -self.values[::-1]))

    @property
    def largest(self) -> float:
        """The largest scalar that a prediction can be, in its own units."""
        return float(np.expm1(self.values[-1]) if self.symlog_space else self.values[-1])

    @property
    def grid(self) -> tuple[float, float]:
        """(lowest bin, spacing) of the even grid, in symlog units."""
        points = self._in_symlog_units()
        return float(points[0]), float(points[-1] - points[0]) / (len(points) - 1)

    def _in_symlog_units(self) -> np.ndarray:
        """[V] float32, so that an evenness check sees the rounding that `two_hot_indices` meets."""
        if self.symlog_space:
            return self.values
        return np.sign(self.values) * np.log1p(np.abs(self.values))


def _assert_one_per_bin(array: jax.Array, bins: Bins) -> None:
    chex.assert_axis_dimension(array, -1, len(bins), custom_message="one entry for each bin: [..., V]")


def two_hot_indices(y: jax.Array, bins: Bins) -> tuple[jax.Array, jax.Array]:
    """The two-hot encoding in its cheap form.

    Args:
        y: [...] scalars in their own units.
        bins: V bins.

    Returns:
        lower: [...] int32 in [0, V-2], the bin at or below y (the end pair where y lies outside).
        upper_weight: [...] float32 in [0, 1], the weight of bin lower + 1, the rest is on `lower`. NaN where y is NaN.

    The index is computed from the even spacing in symlog units and then corrected by at most one against the bins
    themselves: a float32 logarithm may land on the wrong side of a bin's edge.
    """
    chex.assert_type(y, float)
    squashed = symlog(jnp.asarray(y, jnp.float32))
    target = squashed if bins.symlog_space else jnp.asarray(y, jnp.float32)
    low, spacing = bins.grid
    last = len(bins) - 2
    guess = jnp.clip((squashed - low) / spacing, 0, last).astype(jnp.int32)
    guess = jnp.clip(guess - (target < _bin_at(bins, guess)), 0, last)
    lower = jnp.clip(guess + (target >= _bin_at(bins, guess + 1)), 0, last)
    below, above = _bin_at(bins, lower), _bin_at(bins, lower + 1)
    return lower, jnp.clip((target - below) / (above - below), 0.0, 1.0)


def _bin_at(bins: Bins, index: jax.Array) -> jax.Array:
    return jnp.asarray(bins.values).at[index].get(mode="clip")


def two_hot(y: jax.Array, bins: Bins) -> jax.Array:
    """Dense two-hot weights: [...] -> [..., V] float32, at most two of them non-zero, summing to 1.

    sum_i w_i b_i is y (symlog(y) for bins in symlog space) inside the range, the end bin outside.
    """
    lower, upper_weight = two_hot_indices(y, bins)
    upper_weight = upper_weight[..., None]
    at_lower = jax.nn.one_hot(lower, len(bins))
    at_upper = jax.nn.one_hot(lower + 1, len(bins))
    return at_lower * (1 - upper_weight) + at_upper * upper_weight


def two_hot_mean(logits: jax.Array, bins: Bins) -> jax.Array:
    """The predicted scalar, in its own units: [..., V] -> [...]. Log-probabilities are logits too."""
    return two_hot_mean_from_probs(jax.nn.softmax(logits), bins)


def two_hot_mean_from_probs(probs: jax.Array, bins: Bins) -> jax.Array:
    """sum_i p_i b_i, through symexp for bins in symlog space: [..., V] -> [...].

    Bins that mirror each other are summed in pairs from the centre outwards, as (p_{+i} - p_{-i}) b_i, so that uniform
    probabilities give exactly 0 however the compiler rounds.
    """
    _assert_one_per_bin(probs, bins)
    values = jnp.asarray(bins.values)
    if bins.is_antisymmetric:
        half = len(bins) // 2
        values = values[len(bins) - half :]
        probs = probs[..., len(bins) - half :] - probs[..., :half][..., ::-1]
    mean = jnp.matmul(probs, values, precision=jax.lax.Precision.HIGHEST)
    return symexp(mean) if bins.symlog_space else mean


def two_hot_loss(logits: jax.Array, y: jax.Array, bins: Bins) -> jax.Array:
    """Cross entropy of softmax(logits) [..., V] with the two-hot of y [...], in nats: [...]. No gradient reaches y."""
    return two_hot_loss_from_log_probs(jax.nn.log_softmax(logits), y, bins)


def two_hot_loss_from_log_probs(log_probs: jax.Array, y: jax.Array, bins: Bins) -> jax.Array:
    """`two_hot_loss` from normalised log-probabilities [..., V], so that two losses can share one log-softmax.

    Picks the two bins that carry weight instead of multiplying by a dense target.
    """
    _assert_one_per_bin(log_probs, bins)
    chex.assert_shape(y, log_probs.shape[:-1], custom_message="one y [...] for each row of log-probabilities [..., V]")
    lower, upper_weight = two_hot_indices(jax.lax.stop_gradient(y), bins)
    at_lower = jnp.take_along_axis(log_probs, lower[..., None], -1, mode="clip")[..., 0]
    at_upper = jnp.take_along_axis(log_probs, lower[..., None] + 1, -1, mode="clip")[..., 0]
    return -((1 - upper_weight) * at_lower + upper_weight * at_upper)
