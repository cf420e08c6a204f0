"""Two-hot encoding, prediction and loss against float64 NumPy written from the formulas."""

import itertools
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dreamerjax.ops import scalars
from dreamerjax.ops.scalars import Bins
from tests.ops.references import float32s, numpy_symexp, numpy_symlog, random_scalars, with_and_without_jit

SCHEMES = {
    "symexp255": Bins.symexp(),
    "symexp63": Bins.symexp(63, -12.0, 12.0),
    "symexp_even": Bins.symexp(16, -4.0, 4.0),
    "symexp_skewed": Bins.symexp(41, -5.0, 6.0),
    "symlog_small": Bins.symlog(45, -5.0, 6.0),
    "symlog255": Bins.symlog(),
}
schemes = pytest.mark.parametrize("bins", SCHEMES.values(), ids=SCHEMES.keys())
EAGER = ("symexp63", "symlog_small")  # without jit every operation of every shape compiles by itself


def for_every_scheme(test: Callable[..., None]) -> Iterable[Any]:
    """The test with jit for every scheme, without jit for a few of them."""
    compiled = parameterized.named_parameters(*SCHEMES.items())(test)
    eager = parameterized.named_parameters(*((name, SCHEMES[name]) for name in EAGER))(test)
    return itertools.chain(chex.variants(compiled, with_jit=True), chex.variants(eager, without_jit=True))


two_hot_loss = jax.jit(scalars.two_hot_loss, static_argnums=2)


def numpy_two_hot(y: float, bins: Bins) -> np.ndarray:
    """One scalar at a time, by search."""
    values = bins.values.astype(np.float64)
    y = float(numpy_symlog(y)) if bins.symlog_space else float(y)
    y = min(max(y, values[0]), values[-1])
    upper = min(max(int(np.searchsorted(values, y, side="right")), 1), len(values) - 1)
    weights = np.zeros(len(values))
    weights[upper] = (y - values[upper - 1]) / (values[upper] - values[upper - 1])
    weights[upper - 1] = 1 - weights[upper]
    return weights


def edge_cases(bins: Bins) -> np.ndarray:
    """Every bin in the scalar's units with both float32 neighbours, points around 0 and points far outside."""
    edges = (numpy_symexp(bins.values) if bins.symlog_space else bins.values).astype(np.float32)
    edges = edges[edges != 0]  # its neighbours are subnormal, which XLA flushes to 0: `tiny` stands in for them
    above, below = np.nextafter(edges, np.float32(np.inf)), np.nextafter(edges, np.float32(-np.inf))
    tiny = np.finfo(np.float32).tiny
    return np.concatenate([edges, above, below, np.array([0, tiny, -tiny, 1e30, -1e30, np.inf, -np.inf], np.float32)])


@partial(jax.jit, static_argnums=1)
def round_trip(y: jax.Array, bins: Bins) -> jax.Array:
    return scalars.two_hot_mean_from_probs(scalars.two_hot(y, bins), bins)


@given(
    st.sampled_from(sorted(SCHEMES)),
    hnp.arrays(np.float32, 32, elements=float32s(-3.875, 3.875)),
)
@settings(deadline=None, max_examples=60)
def test_two_hot_round_trip_is_exact_inside_the_range(name: str, positions: np.ndarray) -> None:
    bins = SCHEMES[name]
    y = numpy_symexp(positions).astype(np.float32)
    decoded = round_trip(y, bins)
    np.testing.assert_allclose(decoded, y, rtol=1e-5, atol=1e-5)


@schemes
def test_two_hot_clips_to_the_end_bins(bins: Bins) -> None:
    y = jnp.array([-1e30, 1e30, -jnp.inf, jnp.inf])
    weights = np.asarray(jax.jit(lambda y: scalars.two_hot(y, bins))(y))
    np.testing.assert_array_equal(weights.argmax(-1), [0, len(bins) - 1] * 2)
    np.testing.assert_array_equal(weights.max(-1), 1.0)


def test_nan_target_gives_nan_loss() -> None:
    bins = SCHEMES["symexp255"]
    lower, upper_weight = jax.jit(lambda y: scalars.two_hot_indices(y, bins))(jnp.array([jnp.nan, 1.0]))
    assert 0 <= int(lower[0]) <= len(bins) - 2
    np.testing.assert_array_equal(jnp.isnan(upper_weight), [True, False])
    loss = two_hot_loss(jnp.zeros((2, len(bins))), jnp.array([jnp.nan, 1.0]), bins)
    np.testing.assert_array_equal(jnp.isnan(loss), [True, False])


def test_losses_that_share_a_log_softmax_equal_separate_ones() -> None:
    bins = SCHEMES["symexp63"]
    logits = jnp.asarray(np.random.default_rng(4).normal(size=(5, 4, len(bins))), jnp.float32)
    y = jnp.asarray(random_scalars(20).reshape(5, 4))

    def shared(logits: jax.Array, y: jax.Array) -> jax.Array:
        log_probs = jax.nn.log_softmax(logits)
        first = scalars.two_hot_loss_from_log_probs(log_probs, y, bins)
        return first + scalars.two_hot_loss_from_log_probs(log_probs, 2 * y, bins)

    separate = two_hot_loss(logits, y, bins) + two_hot_loss(logits, 2 * y, bins)
    np.testing.assert_allclose(jax.jit(shared)(logits, y), separate, rtol=1e-6)


def test_two_hot_loss_sends_no_gradient_to_its_target() -> None:
    bins = SCHEMES["symlog_small"]
    logits = np.random.default_rng(5).normal(size=(6, len(bins))).astype(np.float32)
    gradient = jax.jit(jax.grad(lambda y: scalars.two_hot_loss(jnp.asarray(logits), y, bins).sum()))(jnp.arange(6.0))
    np.testing.assert_array_equal(gradient, 0.0)


def test_two_hot_loss_is_least_at_its_target() -> None:
    bins = SCHEMES["symexp255"]
    y = [0.0, 1.5, -300.0]
    target = np.stack([numpy_two_hot(value, bins) for value in y])
    best = two_hot_loss(jnp.asarray(np.log(np.maximum(target, 1e-30)), jnp.float32), jnp.array(y), bins)
    np.testing.assert_allclose(best, scipy.stats.entropy(target, axis=-1), atol=1e-5)
    assert (two_hot_loss(jnp.zeros((3, 255)), jnp.array(y), bins) > best).all()


class TwoHotTest(chex.TestCase):
    """Compiled and operation by operation."""

    @for_every_scheme
    def test_two_hot_matches_numpy(self, bins: Bins) -> None:
        y = np.concatenate([random_scalars(300), edge_cases(bins)])
        weights = np.asarray(self.variant(lambda y: scalars.two_hot(y, bins))(y))
        expected = np.stack([numpy_two_hot(value, bins) for value in y])
        # The weights of a scalar are as exact as its position: float32's logarithm for bins in symlog space.
        np.testing.assert_allclose(weights, expected, atol=2e-5 if bins.symlog_space else 1e-6)
        assert ((weights > 0).sum(-1) <= 2).all()
        np.testing.assert_allclose(weights.sum(-1), 1.0, rtol=1e-6)

    @for_every_scheme
    def test_two_hot_indices_agree_with_search_at_every_edge(self, bins: Bins) -> None:
        y = np.concatenate([random_scalars(20000), edge_cases(bins)])
        lower, upper_weight = self.variant(lambda y: scalars.two_hot_indices(y, bins))(y)
        target = np.asarray(self.variant(scalars.symlog)(y)) if bins.symlog_space else y
        expected = np.clip(np.searchsorted(bins.values, target, side="right") - 1, 0, len(bins) - 2)
        assert lower.dtype == jnp.int32
        assert upper_weight.dtype == jnp.float32
        assert ((upper_weight >= 0) & (upper_weight <= 1)).all()
        np.testing.assert_array_equal(lower, expected)

    @for_every_scheme
    def test_two_hot_mean_matches_numpy(self, bins: Bins) -> None:
        logits = np.random.default_rng(1).normal(size=(7, 3, len(bins))).astype(np.float32)
        exponentials = np.exp(logits.astype(np.float64))
        probs = exponentials / exponentials.sum(-1, keepdims=True)
        expected = (probs * bins.values.astype(np.float64)).sum(-1)
        scale = (probs * np.abs(bins.values)).sum(-1).max()
        if bins.symlog_space:
            expected, scale = numpy_symexp(expected), 1.0
        actual = self.variant(lambda logits: scalars.two_hot_mean(logits, bins))(logits)
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * scale)

    @with_and_without_jit
    @parameterized.product(level=[0.0, -3.7, 11.0], name=["symexp255", "symexp63", "symexp_even", "symlog255"])
    def test_uniform_probabilities_predict_exactly_zero(self, name: str, level: float) -> None:
        bins = SCHEMES[name]
        logits = jnp.full((64, len(bins)), level)
        np.testing.assert_array_equal(self.variant(lambda logits: scalars.two_hot_mean(logits, bins))(logits), 0.0)

    @for_every_scheme
    def test_two_hot_loss_and_gradient_match_numpy(self, bins: Bins) -> None:
        logits = np.random.default_rng(2).normal(size=(40, len(bins))).astype(np.float32)
        y = random_scalars(40, seed=3)
        log_probs = logits.astype(np.float64)
        log_probs = log_probs - np.log(np.exp(log_probs).sum(-1, keepdims=True))
        target = np.stack([numpy_two_hot(value, bins) for value in y])
        loss = self.variant(lambda logits, y: scalars.two_hot_loss(logits, y, bins))(logits, y)
        np.testing.assert_allclose(loss, -(target * log_probs).sum(-1), rtol=1e-5, atol=5e-5)
        gradient = self.variant(jax.grad(lambda logits, y: scalars.two_hot_loss(logits, y, bins).sum()))(logits, y)
        np.testing.assert_allclose(gradient, np.exp(log_probs) - target, atol=3e-5)
