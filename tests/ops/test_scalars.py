"""Symlog, symexp and bins against float64 NumPy written from the formulas."""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from dreamerjax.ops import scalars
from dreamerjax.ops.scalars import Bins
from tests.ops.references import float32s, numpy_symexp, numpy_symlog, random_scalars, with_and_without_jit


@given(hnp.arrays(np.float32, 16, elements=float32s(-20, 20)))
@settings(deadline=None, max_examples=50)
def test_symexp_inverts_symlog_both_ways(elements: np.ndarray) -> None:
    x = jnp.asarray(elements)
    np.testing.assert_allclose(scalars.symlog(scalars.symexp(x)), x, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scalars.symexp(scalars.symlog(x)), x, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(scalars.symlog(-x), -scalars.symlog(x))


def test_symlog_has_unit_slope_at_zero_on_both_sides() -> None:
    slope = jax.vmap(jax.grad(scalars.symlog))(jnp.array([-3.0, -1e-6, 1e-6, 3.0]))
    np.testing.assert_allclose(slope, [0.25, 1, 1, 0.25], rtol=1e-5)


def test_default_bins_follow_the_formula() -> None:
    values = scalars.symexp_bins()
    assert values.dtype == np.float32
    assert values.shape == (255,)
    expected = np.array([numpy_symexp(point) for point in np.linspace(-20, 20, 255)])
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(scalars.symlog_bins(12, -5.0, 6.0), np.arange(-5, 7), rtol=1e-6)


@pytest.mark.parametrize("count", [2, 3, 63, 64, 255, 256])
@pytest.mark.parametrize("build", [scalars.symexp_bins, scalars.symlog_bins])
def test_symmetric_bins_are_exactly_antisymmetric(build: Callable[..., np.ndarray], count: int) -> None:
    values = build(count, -20.0, 20.0)
    np.testing.assert_array_equal(values, -values[::-1])
    if count % 2:
        assert values[count // 2] == 0.0


def test_bins_are_hashable_values_that_cannot_be_changed() -> None:
    assert Bins.symexp(31) == Bins.symexp(31)
    assert hash(Bins.symexp(31)) == hash(Bins.symexp(31))
    assert Bins.symexp(31) != Bins.symexp(33)
    assert Bins(np.array([0.0, 1.0]), symlog_space=True) != Bins(np.array([0.0, 1.0]), symlog_space=False)
    assert Bins.symexp(31) != "bins"
    with pytest.raises(ValueError, match="read-only"):
        Bins.symexp(31).values[0] = 0.0
    static = jax.jit(scalars.two_hot, static_argnums=1)
    assert static(jnp.zeros(3), Bins.symexp(31)).shape == (3, 31)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([1.0]), "at least two"),
        (np.array([0.0, 0.0, 1.0]), "strictly increasing"),
        (np.array([2.0, 1.0]), "strictly increasing"),
        (np.array([0.0, np.inf]), "finite"),
        (np.zeros((2, 2)), "at least two"),
        (np.array([0.0, 0.1, 5.0]), "evenly spaced"),
    ],
)
def test_bins_that_cannot_be_indexed_arithmetically_are_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Bins(values, symlog_space=True)


def test_bins_finer_than_float32_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match=r"evenly spaced|strictly increasing"):
        Bins.symexp(10_000_001)


class ScalarsTest(chex.TestCase):
    """Compiled and operation by operation."""

    @with_and_without_jit
    def test_symlog_and_symexp_match_numpy(self) -> None:
        x = np.concatenate([random_scalars(1000), [0.0, 1e-6, -1e-6]]).astype(np.float32)
        np.testing.assert_allclose(self.variant(scalars.symlog)(x), numpy_symlog(x), rtol=1e-6)
        z = np.linspace(-20, 20, 1001, dtype=np.float32)
        np.testing.assert_allclose(
            self.variant(scalars.symexp)(z), np.sign(z) * np.expm1(np.abs(z.astype(np.float64))), rtol=1e-5
        )
