"""Strided convolutions for images, arranged for speed on CPU.

XLA's gradient of a strided convolution is several times slower there than that of the same map written as a plain one; the
gradient that JAX derives for the kernel of a plain one takes a generic path inside `lax.scan`, 17 times slower; and as a
convolution of convolved and gradient, whose window is the whole image, it takes as long as everything else about images.

Legend: N images, H x W pixels (even numbers), I and O channels. Kernels are [5, 5, I, O].
"""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp

_PIXELS = 8_192  # of the images whose shifted copies are multiplied at a time: they stay in the processor's cache


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
    by_kernel = jax.lax.platform_dependent(images, gradient, cpu=_by_products, default=_by_convolution)
    return by_image, by_kernel.astype(kernel.dtype)


_conv.defvjp(_conv_forward, _conv_backward)


def _by_convolution(images: jax.Array, gradient: jax.Array) -> jax.Array:
    """The gradient of `_conv` by its kernel: images [N, H, W, I], gradient [N, H, W, O] -> [3, 3, I, O].

    It sums over images and pixels: the input channels take the place of the batch, and the gradient that of the kernel.
    """
    return _conv(images.transpose(3, 1, 2, 0), gradient.transpose(1, 2, 0, 3)).transpose(1, 2, 0, 3)


def _by_products(images: jax.Array, gradient: jax.Array) -> jax.Array:
    """The same as a sum of products, one for a few images.

    The kernel's columns are shifts of the images along W, its rows shifts of the gradient along H: one product of the first
    three side by side, [3I, pixels], and the other three, [pixels, 3O], has all nine taps.
    """
    n, height, width, inputs = images.shape
    outputs = gradient.shape[-1]
    count = math.gcd(n, max(1, _PIXELS // (height * width)))

    def add(total: jax.Array, few: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        columns, rows = _shifted(few[0], 2).reshape(-1, 3 * inputs), _shifted(few[1], 1).reshape(-1, 3 * outputs)
        return total + jnp.matmul(columns.T, rows, preferred_element_type=jnp.float32), None

    parts = jax.tree.map(lambda x: x.reshape(n // count, count, *x.shape[1:]), (images, gradient))
    total, _ = jax.lax.scan(add, jnp.zeros((3 * inputs, 3 * outputs)), parts)
    return total.reshape(3, inputs, 3, outputs)[:, :, ::-1].transpose(2, 0, 1, 3)


def _shifted(images: jax.Array, axis: int) -> jax.Array:
    """What lies one before, at and one after each pixel along an axis, zeros around: [N, H, W, C] -> [N, H, W, 3C]."""
    size = images.shape[axis]
    padded = jnp.pad(images, [(int(i == axis),) * 2 for i in range(4)])
    return jnp.concatenate([jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(3)], axis=-1)
