"""Layers against their formulas in float64 NumPy."""

from __future__ import annotations

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from dreamerjax.networks.layers import MLP, BlockLinear, Linear, NormAct, apply, draw_kernels
from tests.networks import numpy_model
from tests.ops.references import with_and_without_jit


def perturbed(params: Any) -> Any:
    """Parameters plus noise, so that zeros and ones of the initialisation hide nothing."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: leaf + jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32), params)


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_linear_starts_with_the_variance_of_its_fan_in_and_no_outliers(scale: float) -> None:
    params = draw_kernels(Linear(200, scale=scale).init(jax.random.key(1), jnp.ones((1, 400)))["params"], jax.random.key(2))[
        "dense"
    ]
    kernel = np.asarray(params["kernel"], np.float64)
    deviation = scale / np.sqrt(400)
    assert kernel.std() == pytest.approx(deviation, rel=0.01)
    assert np.abs(kernel).max() <= 2.0 * deviation / 0.8796  # cut at two deviations of the uncut normal
    np.testing.assert_array_equal(params["bias"], 0.0)


def test_block_linear_counts_the_fan_in_of_a_block() -> None:
    params = BlockLinear(800, 8).init(jax.random.key(1), jnp.ones((1, 800)))["params"]
    kernel = draw_kernels(params, jax.random.key(2))["kernel"]
    assert np.asarray(kernel, np.float64).std() == pytest.approx(1 / np.sqrt(100), rel=0.01)


def test_a_scale_of_zero_starts_at_exactly_zero() -> None:
    params = Linear(4, scale=0.0).init(jax.random.key(2), jnp.ones((1, 3)))["params"]
    chex.assert_trees_all_equal(params, jax.tree.map(jnp.zeros_like, params))


class LayersTest(chex.TestCase):
    """Compiled and operation by operation."""

    @with_and_without_jit
    @parameterized.product(shape=[(5,), (3, 5), (2, 3, 5)])
    def test_norm_act_is_rms_norm_then_silu(self, shape: tuple[int, ...]) -> None:
        inputs = np.random.default_rng(0).normal(size=shape).astype(np.float32) * 4
        params = perturbed(NormAct().init(jax.random.key(0), jnp.asarray(inputs))["params"])
        expected = numpy_model.norm_silu(numpy_model.as_float64(params), inputs.astype(np.float64))
        np.testing.assert_allclose(self.variant(partial(apply, NormAct()))(params, inputs), expected, rtol=1e-5, atol=1e-6)

    @with_and_without_jit
    def test_norm_act_forgets_the_size_of_its_input(self) -> None:
        inputs = jnp.asarray(np.random.default_rng(1).normal(size=(4, 8)), jnp.float32)
        params = NormAct().init(jax.random.key(0), inputs)["params"]
        forward = self.variant(partial(apply, NormAct()))
        small, large = forward(params, inputs * 10), forward(params, inputs * 1000)
        np.testing.assert_allclose(small, large, rtol=1e-5, atol=1e-6)

    @with_and_without_jit
    @parameterized.product(blocks=[1, 2, 8], lead=[(), (3,), (2, 3)])
    def test_block_linear_is_a_dense_layer_with_a_block_diagonal_matrix(self, blocks: int, lead: tuple[int, ...]) -> None:
        rng = np.random.default_rng(2)
        layer, inputs = BlockLinear(8, blocks), rng.normal(size=(*lead, 16)).astype(np.float32)
        params = perturbed(layer.init(jax.random.key(0), jnp.asarray(inputs))["params"])
        matrix = np.zeros((16, 8))
        for i in range(blocks):
            rows, columns = 16 // blocks, 8 // blocks
            matrix[rows * i : rows * (i + 1), columns * i : columns * (i + 1)] = params["kernel"][i]
        assert np.count_nonzero(matrix) == 16 * 8 // blocks
        np.testing.assert_allclose(self.variant(partial(apply, layer))(params, inputs), inputs @ matrix, rtol=1e-5, atol=1e-5)

    @with_and_without_jit
    def test_mlp_alternates_dense_and_norm_act(self) -> None:
        inputs = np.random.default_rng(3).normal(size=(4, 6)).astype(np.float32)
        params = perturbed(MLP(5, 3).init(jax.random.key(0), jnp.asarray(inputs))["params"])
        assert sorted(params) == ["linear0", "linear1", "linear2", "norm0", "norm1", "norm2"]
        expected = numpy_model.mlp(numpy_model.as_float64(params), inputs.astype(np.float64))
        np.testing.assert_allclose(self.variant(partial(apply, MLP(5, 3)))(params, inputs), expected, rtol=1e-4, atol=1e-5)
