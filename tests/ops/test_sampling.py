"""Unimix, sampling and straight-through gradients of categoricals against float64 NumPy."""

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

from dreamerjax.ops import distributions as d
from tests.ops.references import float32s, logit_arrays, numpy_probs, random_logits, with_and_without_jit


@given(logit_arrays, st.floats(0.01, 1.0))
@settings(deadline=None, max_examples=50)
def test_unimix_is_normalised_with_a_floor(logits: np.ndarray, ratio: float) -> None:
    probs = np.exp(np.asarray(d.unimix_logits(jnp.asarray(logits), jnp.float32(ratio)), np.float64))
    np.testing.assert_allclose(probs.sum(-1), 1.0, rtol=1e-5)
    assert (probs >= ratio / 5 * (1 - 1e-5)).all()


@given(
    hnp.arrays(np.float32, (4, 9), elements=st.one_of(st.just(0.0), float32s(2.0**-20, 1))),
    st.data(),
)
@settings(deadline=None, max_examples=100)
def test_sample_never_returns_an_impossible_class(probs: np.ndarray, data: st.DataObject) -> None:
    probs[:, data.draw(st.integers(0, 8))] += 0.5
    for uniform in (0.0, data.draw(float32s(0, 1, exclude_max=True)), 1 - 2**-24):
        index = np.asarray(d.categorical_sample_from_uniform(jnp.full(4, uniform), jnp.asarray(probs)))
        assert ((index >= 0) & (index < 9)).all()
        assert (np.take_along_axis(probs, index[:, None], -1) > 0).all()


@pytest.mark.parametrize("classes", [1, 2, 32, 96])
def test_largest_uniform_stays_below_the_number_of_classes(classes: int) -> None:
    probs = jax.nn.softmax(random_logits(64, classes))
    index = d.categorical_sample_from_uniform(jnp.full(64, 1 - 2**-24), probs)
    assert int(index.max()) <= classes - 1
    assert int(d.categorical_sample_from_uniform(jnp.ones(64), probs).max()) <= classes - 1


def test_sample_ignores_a_constant_and_masked_classes() -> None:
    logits = jnp.asarray(random_logits(500, 4)).at[:, 3].set(-jnp.inf)
    first = d.categorical_sample(jax.random.key(3), logits)
    assert int(first.max()) <= 2
    np.testing.assert_array_equal(first, d.categorical_sample(jax.random.key(3), logits + 8.0))


class SamplingTest(chex.TestCase):
    """Compiled and operation by operation."""

    @with_and_without_jit
    @parameterized.product(ratio=[0.0, 0.01, 0.5, 1.0])
    def test_unimix_matches_numpy(self, ratio: float) -> None:
        logits = random_logits(6, 4, 8)
        expected = np.log((1 - ratio) * numpy_probs(logits) + ratio / 8)
        np.testing.assert_allclose(self.variant(d.unimix_logits)(logits, jnp.float32(ratio)), expected, rtol=1e-5, atol=1e-6)

    @with_and_without_jit
    @parameterized.product(ratio=[0.0, 0.01])
    def test_unimix_of_certain_logits_is_finite_with_finite_gradient(self, ratio: float) -> None:
        logits = jnp.array([[500.0, -500.0, 0.0], [0.0, -jnp.inf, 1.0]])
        mixed = self.variant(d.unimix_logits)(logits, jnp.float32(ratio))
        assert jnp.isfinite(mixed).all()
        gradient = self.variant(jax.grad(lambda logits: jnp.sum(d.unimix_logits(logits, ratio))))(logits)
        assert jnp.isfinite(gradient).all()

    @with_and_without_jit
    def test_sample_from_uniform_matches_a_search_in_the_cumulative_sum(self) -> None:
        probs = numpy_probs(random_logits(200, 3, 7))
        uniform = np.random.default_rng(1).uniform(size=(200, 3))
        expected = np.empty((200, 3), np.int32)
        for index in np.ndindex(200, 3):
            expected[index] = np.searchsorted(np.cumsum(probs[index]), uniform[index], side="right")
        actual = self.variant(d.categorical_sample_from_uniform)(uniform.astype(np.float32), probs.astype(np.float32))
        assert actual.dtype == jnp.int32
        np.testing.assert_array_equal(actual, expected)

    @with_and_without_jit
    def test_sample_frequencies_match_the_probabilities(self) -> None:
        logits = random_logits(2, 6)
        draws = 20000
        samples = np.asarray(self.variant(d.categorical_sample)(jax.random.key(0), np.broadcast_to(logits, (draws, 2, 6))))
        for group in range(2):
            counts = np.bincount(samples[:, group], minlength=6)
            assert scipy.stats.chisquare(counts, draws * numpy_probs(logits)[group]).pvalue > 1e-3
        correlation = np.corrcoef(samples[:, 0], samples[:, 1])[0, 1]
        assert abs(correlation) < 4 / np.sqrt(draws)

    @with_and_without_jit
    def test_straight_through_has_the_value_of_the_sample_and_the_gradient_of_the_probabilities(self) -> None:
        logits = random_logits(5, 3, 4)
        weights = jnp.asarray(random_logits(5, 3, 4, seed=1))
        one_hot = jax.nn.one_hot(np.random.default_rng(0).integers(0, 4, (5, 3)), 4)
        np.testing.assert_array_equal(self.variant(d.straight_through)(one_hot, jax.nn.softmax(logits)), one_hot)

        def through(logits: jax.Array, one_hot: jax.Array) -> jax.Array:
            return jnp.sum(weights * d.straight_through(one_hot, jax.nn.softmax(logits)))

        by_logits, by_one_hot = self.variant(jax.grad(through, argnums=(0, 1)))(logits, one_hot)
        probs = numpy_probs(logits)
        expected = probs * (weights - (probs * weights).sum(-1, keepdims=True))
        np.testing.assert_allclose(by_logits, expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(by_one_hot, 0.0)
