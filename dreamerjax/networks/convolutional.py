"""Convolutions that see images and draw them: kernel 5, stride 2, four times (DreamerV3, arXiv 2301.04104)."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dreamerjax.networks.layers import Linear, NormAct, fan_in_std, product
from dreamerjax.ops import convolutions

MULTIPLES = (2, 3, 4, 4)  # channels of the four layers, in units of the depth
SHRINK = 2 ** len(MULTIPLES)


class Halve(nn.Module):
    """Convolution of stride 2: [N, H, W, I] -> [N, H/2, W/2, size]. The norm that follows has no use for a bias."""

    size: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        kernel: Any = self.param("kernel", fan_in_std(1 / 5), (5, 5, inputs.shape[-1], self.size))
        return product(self.dtype, convolutions.halve, inputs, kernel)


class Double(nn.Module):
    """Transposed convolution of stride 2: [N, H, W, I] -> [N, 2H, 2W, size]; each output sees a quarter of the kernel."""

    size: int
    use_bias: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        kernel: Any = self.param("kernel", fan_in_std(2 / 5), (5, 5, inputs.shape[-1], self.size))
        outputs = product(self.dtype, convolutions.double, inputs, kernel)
        if self.use_bias:
            outputs += self.param("bias", nn.initializers.zeros_init(), (self.size,)).reshape(1, 1, 1, -1)
        return outputs


class ImageEncoder(nn.Module):
    """Images uint8 [..., H, W, C] to what is left of them, flat: [..., H/16 * W/16 * 4 depth]."""

    depth: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        lead = image.shape[:-3]
        hidden = image.reshape(-1, *image.shape[-3:]).astype(jnp.float32) / 255.0 - 0.5
        for index, multiple in enumerate(MULTIPLES):
            hidden = Halve(multiple * self.depth, dtype=self.dtype, name=f"conv{index}")(hidden)
            hidden = NormAct(name=f"norm{index}")(hidden)
        return hidden.reshape(*lead, -1)


class ImageDecoder(nn.Module):
    """Feature [..., F] to the mean of each pixel in [0, 1]: [..., H, W, C]."""

    shape: tuple[int, ...]
    depth: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, feature: jax.Array) -> jax.Array:
        height, width, channels = self.shape
        *widths, first = (multiple * self.depth for multiple in MULTIPLES)
        lead, small = feature.shape[:-1], (height // SHRINK, width // SHRINK, first)
        hidden = Linear(math.prod(small), dtype=self.dtype, name="linear")(feature).reshape(-1, *small)
        hidden = NormAct(name="norm")(hidden)
        for index, size in enumerate(reversed(widths)):
            hidden = Double(size, dtype=self.dtype, name=f"conv{index}")(hidden)
            hidden = NormAct(name=f"norm{index}")(hidden)
        drawn = Double(channels, use_bias=True, dtype=self.dtype, name="out")(hidden)
        return nn.sigmoid(drawn).reshape(*lead, *self.shape)
