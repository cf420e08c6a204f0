"""Layers shared by every network: Dense, RMSNorm and SiLU in the combination that DreamerV3 uses everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Initializer = Callable[..., jax.Array]


def apply(module: nn.Module, params: Any, *inputs: Any, method: str | None = None) -> Any:
    """Call a module (or one of its methods) with these parameters; there is no other state."""
    return module.apply({"params": params}, *inputs, method=method)


def fan_in_init(scale: float = 1.0) -> Initializer:
    """Truncated normal with variance `scale**2 / fan_in`; zeros for a scale of 0."""
    if scale == 0.0:
        return nn.initializers.zeros_init()
    return nn.initializers.variance_scaling(scale**2, "fan_in", "truncated_normal")


class Linear(nn.Module):
    """Affine map [..., I] -> [..., size]. `scale` multiplies the initial weights; 0 starts at exactly zero."""

    size: int
    scale: float = 1.0
    use_bias: bool = True

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        return nn.Dense(self.size, use_bias=self.use_bias, kernel_init=fan_in_init(self.scale), name="dense")(inputs)


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

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        hidden = inputs
        for index in range(self.layers):
            hidden = Linear(self.units, name=f"linear{index}")(hidden)
            hidden = NormAct(name=f"norm{index}")(hidden)
        return hidden


class BlockLinear(nn.Module):
    """Block-diagonal map: the input's `blocks` equal slices [..., I] -> [..., size], each by its own weights, no bias.

    The blocks are moved to the front for the product: on CPU a batch of contiguous matrices multiplies twice as fast.
    """

    size: int
    blocks: int

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        *lead, width = inputs.shape
        shape = (self.blocks, width // self.blocks, self.size // self.blocks)
        init = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", in_axis=1, out_axis=2, batch_axis=0)
        kernel = self.param("kernel", init, shape)
        if self.blocks == 1:
            return inputs @ kernel[0]
        rows = inputs.reshape(-1, self.blocks, shape[1]).swapaxes(0, 1)
        return jnp.matmul(rows, kernel).swapaxes(0, 1).reshape(*lead, self.size)
