"""Convolutions of stride 2 against JAX's own and against sums over taps in float64."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamerjax.ops import convolutions
from tests.ops.references import with_and_without_jit

RNG = np.random.default_rng(0)


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


IMAGES, KERNEL = normal(2, 8, 12, 3), normal(5, 5, 3, 4)


def strided(inputs: jax.Array, kernel: jax.Array) -> jax.Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(inputs, kernel, (2, 2), ((1, 2), (1, 2)), dimension_numbers=layout)


def by_taps(inputs: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    padded = np.pad(inputs.astype(np.float64), ((0, 0), (1, 2), (1, 2), (0, 0)))
    height, width = inputs.shape[1:3]
    taps = [
        padded[:, i : i + height : 2, j : j + width : 2] @ kernel[i, j].astype(np.float64) for i in range(5) for j in range(5)
    ]
    return np.sum(taps, axis=0)


@pytest.mark.parametrize("inside_a_scan", [False, True])
def test_gradients_are_those_of_the_strided_convolution(inside_a_scan: bool) -> None:
    weight = normal(2, 4, 6, 4)

    def gradients(convolution: Callable[[Any, Any], jax.Array], inputs: jax.Array) -> Any:
        return jax.grad(lambda *both: jnp.sum(weight * jnp.sin(convolution(*both))), (0, 1))(inputs, KERNEL)

    expected = gradients(strided, IMAGES)
    if inside_a_scan:
        stacked = jax.lax.scan(lambda carry, x: (carry, gradients(convolutions.halve, x)), 0, IMAGES[None])[1]
        actual = jax.tree.map(lambda leaf: leaf[0], stacked)
    else:
        actual = gradients(convolutions.halve, IMAGES)
    chex.assert_trees_all_close(actual, expected, rtol=1e-3, atol=1e-4)


def test_gradients_of_double() -> None:
    kernel = KERNEL.swapaxes(2, 3)
    small = normal(2, 4, 6, 4)

    def loss(inputs: Any, taps: Any) -> jax.Array:
        return jnp.sum(jnp.square(convolutions.double(inputs, taps)))

    by_input, by_kernel = jax.grad(loss, (0, 1))(small, kernel)
    drawn = convolutions.double(small, kernel)
    np.testing.assert_allclose(by_input, 2 * convolutions.halve(drawn, KERNEL), rtol=1e-3, atol=1e-2)
    step = normal(*kernel.shape)
    slope = float(jnp.sum(2 * drawn * convolutions.double(small, step)))  # the map is linear in its kernel
    assert float(jnp.sum(by_kernel * step)) == pytest.approx(slope, rel=1e-3)


def test_the_kernels_gradient_is_that_of_jax() -> None:
    images, gradient = normal(6, 128, 128, 3), normal(6, 64, 64, 4)
    (expected,) = jax.vjp(partial(strided, images), KERNEL)[1](gradient)
    (actual,) = jax.vjp(partial(convolutions.halve, images), KERNEL)[1](gradient)  # two images at a time
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3)


class ConvolutionsTest(chex.TestCase):
    """Compiled and operation by operation."""

    @with_and_without_jit
    def test_halve_is_a_convolution_of_stride_two(self) -> None:
        halved = self.variant(convolutions.halve)(IMAGES, KERNEL)
        assert halved.shape == (2, 4, 6, 4)
        np.testing.assert_allclose(halved, by_taps(np.asarray(IMAGES), np.asarray(KERNEL)), rtol=1e-4, atol=1e-4)

    @with_and_without_jit
    def test_double_spreads_each_pixel_by_the_kernel(self) -> None:
        small = np.zeros((1, 3, 4, 2), np.float32)
        small[0, 1, 2, 1] = 1.0
        kernel = normal(5, 5, 2, 3)
        expected = np.zeros((1, 6, 8, 3))
        expected[0, 1:6, 3:8] = kernel[:, :, 1]
        np.testing.assert_allclose(self.variant(convolutions.double)(jnp.asarray(small), kernel), expected, atol=1e-6)

    @with_and_without_jit
    def test_double_is_the_adjoint_of_halve(self) -> None:
        small = normal(2, 4, 6, 4)
        left = float(jnp.sum(self.variant(convolutions.halve)(IMAGES, KERNEL) * small))
        right = float(jnp.sum(IMAGES * self.variant(convolutions.double)(small, KERNEL.swapaxes(2, 3))))
        assert left == pytest.approx(right, rel=1e-4)

    @with_and_without_jit
    def test_unfold_is_the_inverse_of_fold(self) -> None:
        np.testing.assert_array_equal(self.variant(convolutions.unfold)(self.variant(convolutions.fold)(IMAGES)), IMAGES)
        cell = self.variant(convolutions.fold)(IMAGES)[0, 1, 2]
        np.testing.assert_array_equal(cell, IMAGES[0, 2:4, 4:6].reshape(-1))
