"""Strided convolutions for images, arranged for speed on CPU.

XLA's gradient of a strided convolution is several times slower there than that of the same map written as a plain one; and
the gradient that JAX derives for the kernel of a plain one takes a generic path inside `lax.scan`, 17 times slower.

Legend: N images, H x W pixels (even numbers), I and O channels. Kernels are [5, 5, I, O].
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def halve(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of stride 2, one zero before and two after each axis: [N, H, W, I] -> [N, H/2, W/2, O].

    Each 2 x 2 cell of pixels becomes one pixel of four times the channels; over those the kernel is 3 x 3.
    """
    _assert_fit(images, kernel)
    inputs, outputs = kernel.shape[2:]
    return _conv(fold(images), _cells(kernel).reshape(3, 3, 4 * inputs, outputs))


def double(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Transposed convolution of stride 2, the adjoint of `halve` (with I and O exchanged): [N, H, W, I] -> [N, 2H, 2W, O]."""
    _assert_fit(images, kernel)
    inputs, outputs = kernel.shape[2:]
    cells = jnp.moveaxis(_cells(kernel)[::-1, ::-1], 4, 2)  # [3, 3, I, 2, 2, O]
    return unfold(_conv(images, cells.reshape(3, 3, inputs, 4 * outputs)))


def fold(images: jax.Array) -> jax.Array:
    """Each 2 x 2 cell of pixels to one pixel: [N, H, W, C] -> [N, H/2, W/2, 4C]."""
    chex.assert_rank(images, 4, custom_message="images [N, H, W, C]")
    n, height, width, channels = images.shape
    chex.assert_is_divisible(height, 2, custom_message="H is even")
    chex.assert_is_divisible(width, 2, custom_message="W is even")
    cells = images.reshape(n, height // 2, 2, width // 2, 2, channels)
    return cells.swapaxes(2, 3).reshape(n, height // 2, width // 2, 4 * channels)


def unfold(images: jax.Array) -> jax.Array:
    """The inverse of `fold`: [N, H, W, 4C] -> [N, 2H, 2W, C]."""
    chex.assert_rank(images, 4, custom_message="images [N, H, W, 4C]")
    n, height, width, channels = images.shape
    chex.assert_is_divisible(channels, 4, custom_message="four numbers of each channel")
    cells = images.reshape(n, height, width, 2, 2, channels // 4)
    return cells.swapaxes(2, 3).reshape(n, 2 * height, 2 * width, channels // 4)


def _assert_fit(images: jax.Array, kernel: jax.Array) -> None:
    chex.assert_rank(images, 4, custom_message="images [N, H, W, I]")
    chex.assert_shape(kernel, (5, 5, images.shape[-1], None), custom_message="kernel [5, 5, I, O] of images [N, H, W, I]")


def _cells(kernel: jax.Array) -> jax.Array:
    """A kernel by the cell of pixels that each tap falls into, and where in it: [5, 5, I, O] -> [3, 3, 2, 2, I, O]."""
    padded = jnp.pad(kernel, ((1, 0), (1, 0), (0, 0), (0, 0)))
    return padded.reshape(3, 2, 3, 2, *kernel.shape[2:]).swapaxes(1, 2)


@jax.custom_vjp
def _conv(images: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of stride 1, zeros around: images [N, H, W, I], kernel [3, 3, I, O] -> [N, H, W, O]."""
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(images, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=layout)


def _conv_forward(images: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _conv(images, kernel), (images, kernel)


def _conv_backward(kept: tuple[jax.Array, jax.Array], gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    images, kernel = kept
    by_image = _conv(gradient, kernel[::-1, ::-1].swapaxes(2, 3))
    # Sums over images and pixels: the input channels take the place of the batch, and the gradient that of the kernel.
    by_kernel = _conv(images.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3))
    return by_image, by_kernel.transpose(1, 2, 0, 3)


_conv.defvjp(_conv_forward, _conv_backward)
