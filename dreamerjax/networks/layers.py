"""Layers shared by every network: Dense, RMSNorm and SiLU in the combination that DreamerV3 uses everywhere."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Initializer = Callable[..., jax.Array]


def apply(module: nn.Module, params: Any, *inputs: Any, method: str | None = None) -> Any:
    """Call a module (or one of its methods) with these parameters; there is no other state."""
    return module.apply({"params": params}, *inputs, method=method)


def fan_in_std(scale: float = 1.0) -> Initializer:
    """Declares a kernel [..., I, O] by the standard deviation of its initial entries, `scale / sqrt(I)`; see `draw_kernels`."""

    def declare(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        return jnp.full(shape, scale / math.sqrt(shape[-2]), dtype)

    return declare


def draw_kernels(params: Any, key: jax.Array) -> Any:
    """Replace every kernel, as declared by `fan_in_std`, by draws from a truncated normal of that standard deviation.

    One draw serves all kernels: a draw for each would take seconds to compile.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    is_kernel = [path[-1].key == "kernel" for path, _ in leaves]
    sizes = [leaf.size for (_, leaf), kernel in zip(leaves, is_kernel, strict=True) if kernel]
    unit_variance = 0.87962566103423978  # standard deviation of a normal cut off at two of its own
    draws = jax.random.truncated_normal(key, -2.0, 2.0, (sum(sizes),)) / unit_variance
    pieces = iter(jnp.split(draws, list(itertools.accumulate(sizes))[:-1]))
    drawn = [
        leaf * next(pieces).reshape(leaf.shape) if kernel else leaf for (_, leaf), kernel in zip(leaves, is_kernel, strict=True)
    ]
    return jax.tree_util.tree_unflatten(structure, drawn)


def product(dtype: Any, multiply: Callable[..., jax.Array], *factors: jax.Array) -> jax.Array:
    """`multiply` the factors in `dtype`, back in float32: what lies between two products is computed in float32."""
    return multiply(*(factor.astype(dtype) for factor in factors)).astype(jnp.float32)


class Linear(nn.Module):
    """Affine map [..., I] -> [..., size]. `scale` multiplies the initial weights; 0 starts at exactly zero."""

    size: int
    scale: float = 1.0
    use_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        def dot_general(left: jax.Array, right: jax.Array, dimensions: Any, **options: Any) -> jax.Array:
            multiply = partial(jax.lax.dot_general, dimension_numbers=dimensions, **options)
            return product(self.dtype, multiply, left, right)

        init = fan_in_std(self.scale)
        return nn.Dense(self.size, use_bias=self.use_bias, kernel_init=init, dot_general=dot_general, name="dense")(inputs)


class NormAct(nn.Module):
    """RMSNorm over the last axis, then SiLU."""

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        scale = self.param("scale", nn.initializers.ones_init(), (inputs.shape[-1],))
        inverse = jax.lax.rsqrt(jnp.mean(jnp.square(inputs), axis=-1, keepdims=True) + 1e-4)
        return nn.silu(inputs * inverse * scale.reshape((1,) * (inputs.ndim - 1) + (-1,)))


class MLP(nn.Module):
    """`layers` times Dense-RMSNorm-SiLU: [..., I] -> [..., units]."""

    units: int
    layers: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        hidden = inputs
        for index in range(self.layers):
            hidden = Linear(self.units, dtype=self.dtype, name=f"linear{index}")(hidden)
            hidden = NormAct(name=f"norm{index}")(hidden)
        return hidden


class BlockLinear(nn.Module):
    """Block-diagonal map: the input's `blocks` equal slices [..., I] -> [..., size], each by its own weights, no bias.

    The blocks are moved to the front for the product: on CPU a batch of contiguous matrices multiplies twice as fast.
    """

    size: int
    blocks: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        *lead, width = inputs.shape
        shape = (self.blocks, width // self.blocks, self.size // self.blocks)
        kernel = self.param("kernel", fan_in_std(), shape)
        if self.blocks == 1:
            return product(self.dtype, jnp.matmul, inputs, kernel[0])
        rows = inputs.reshape(-1, self.blocks, shape[1]).swapaxes(0, 1)
        return product(self.dtype, jnp.matmul, rows, kernel).swapaxes(0, 1).reshape(*lead, self.size)
