"""Entropy, KL, free bits and bounded normals against float64 NumPy, SciPy and their identities."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from dreamerjax.ops import distributions as d
from tests.ops.references import float32s, logit_arrays, numpy_probs, random_logits, with_and_without_jit


def test_log_prob_of_a_class_that_does_not_exist_is_nan() -> None:
    assert jnp.isnan(d.categorical_log_prob(jnp.zeros((1, 3)), jnp.array([3]))).all()


def test_uniform_entropy_is_the_largest_and_a_certain_one_is_zero() -> None:
    np.testing.assert_allclose(d.categorical_entropy(jnp.zeros(7)), np.log(7), rtol=1e-6)
    certain = jnp.array([0.0, -jnp.inf, -jnp.inf])
    value, gradient = jax.value_and_grad(lambda logits: d.categorical_entropy(logits))(certain)
    assert float(value) == 0.0
    assert jnp.isfinite(gradient).all()


@given(logit_arrays, logit_arrays)
@settings(deadline=None, max_examples=50)
def test_kl_is_not_negative_and_zero_only_between_equals(p: np.ndarray, q: np.ndarray) -> None:
    kl = np.asarray(d.categorical_kl(jnp.asarray(p), jnp.asarray(q)))
    assert (kl >= -1e-5).all()
    np.testing.assert_array_equal(d.categorical_kl(jnp.asarray(p), jnp.asarray(p)), 0.0)
    np.testing.assert_allclose(kl, d.categorical_kl(jnp.asarray(p) + 3, jnp.asarray(q) - 2), rtol=1e-3, atol=1e-4)


def test_kl_with_an_impossible_class_on_the_left_is_finite() -> None:
    p, q = jnp.array([0.0, 0.0, -jnp.inf]), jnp.array([0.0, 0.0, 0.0])
    value, gradient = jax.value_and_grad(d.categorical_kl)(p, q)
    np.testing.assert_allclose(value, np.log(1.5), rtol=1e-6)
    assert jnp.isfinite(gradient).all()


def test_kl_gradient_matches_finite_differences() -> None:
    p, q = random_logits(5), random_logits(5, seed=1)
    gradients = jax.grad(d.categorical_kl, argnums=(0, 1))(jnp.asarray(p), jnp.asarray(q))

    def numpy_kl(p: np.ndarray, q: np.ndarray) -> float:
        return float(scipy.special.rel_entr(numpy_probs(p), numpy_probs(q)).sum())

    for k in range(5):
        nudge = np.eye(5)[k] * 1e-5
        slope_p = (numpy_kl(p + nudge, q) - numpy_kl(p - nudge, q)) / 2e-5
        slope_q = (numpy_kl(p, q + nudge) - numpy_kl(p, q - nudge)) / 2e-5
        np.testing.assert_allclose([gradients[0][k], gradients[1][k]], [slope_p, slope_q], rtol=1e-3, atol=1e-5)


@given(hnp.arrays(np.float32, 8, elements=float32s(-100, 100)))
@settings(deadline=None, max_examples=50)
def test_bounded_normal_stays_within_its_bounds(raw: np.ndarray) -> None:
    mean, std = d.bounded_normal_params(jnp.asarray(raw), jnp.asarray(raw), 0.1, 1.0)
    assert (jnp.abs(mean) <= 1).all()
    assert ((std >= np.float32(0.1)) & (std <= 1)).all()


class DistributionsTest(chex.TestCase):
    """Compiled and operation by operation."""

    @with_and_without_jit
    def test_entropy_and_log_prob_match_scipy(self) -> None:
        logits = random_logits(9, 2, 6)
        probs = numpy_probs(logits)
        np.testing.assert_allclose(self.variant(d.categorical_entropy)(logits), scipy.stats.entropy(probs, axis=-1), rtol=1e-5)
        index = np.random.default_rng(0).integers(0, 6, (9, 2))
        expected = np.array([[np.log(probs[i, j, index[i, j]]) for j in range(2)] for i in range(9)])
        np.testing.assert_allclose(self.variant(d.categorical_log_prob)(logits, index), expected, rtol=1e-5, atol=1e-6)

    @with_and_without_jit
    def test_kl_matches_scipy(self) -> None:
        p, q = random_logits(4, 3, 8), random_logits(4, 3, 8, seed=1)
        expected = scipy.special.rel_entr(numpy_probs(p), numpy_probs(q)).sum(-1)
        np.testing.assert_allclose(self.variant(d.categorical_kl)(p, q), expected, rtol=1e-4)
        np.testing.assert_allclose(self.variant(d.latent_kl)(p, q), expected.sum(-1), rtol=1e-4)
        assert self.variant(d.latent_kl)(p, q).shape == (4,)

    @with_and_without_jit
    @parameterized.parameters((False, 0.0), (True, 1.0))
    def test_free_bits_value_and_gradient(self, straight_through: bool, gradient_below: float) -> None:
        kl = jnp.array([0.0, 0.3, 0.999, 1.001, 5.0])

        def total(kl: jax.Array, free_nats: jax.Array) -> tuple[jax.Array, jax.Array]:
            value = d.free_bits(kl, free_nats, straight_through)
            return value.sum(), value

        gradient, value = self.variant(jax.grad(total, has_aux=True))(kl, jnp.float32(1.0))
        np.testing.assert_array_equal(value, np.maximum(kl, 1.0))
        np.testing.assert_array_equal(gradient, [gradient_below] * 3 + [1.0, 1.0])

    @with_and_without_jit
    def test_bounded_normal_matches_scipy(self) -> None:
        raw = random_logits(2, 6, 3)
        mean, std = self.variant(d.bounded_normal_params)(raw[0], raw[1], 0.1, 1.0)
        np.testing.assert_allclose(mean, np.tanh(raw[0].astype(np.float64)), rtol=1e-5)
        expected_std = 0.1 + 0.9 / (1 + np.exp(-(raw[1].astype(np.float64) + 2.0)))
        np.testing.assert_allclose(std, expected_std, rtol=1e-5)
        x = random_logits(6, 3, seed=5)
        reference = scipy.stats.norm(np.tanh(raw[0].astype(np.float64)), expected_std)
        np.testing.assert_allclose(self.variant(d.normal_log_prob)(x, mean, std), reference.logpdf(x).sum(-1), rtol=1e-4)
        np.testing.assert_allclose(self.variant(d.normal_entropy)(std), reference.entropy().sum(-1), rtol=1e-4, atol=1e-5)
