"""Output heads: an MLP over the latent feature, then one linear layer each."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dreamerjax.core.types import ActionSpec, ObservationSpec
from dreamerjax.networks.convolutional import ImageDecoder
from dreamerjax.networks.layers import MLP, Linear


class Decoder(nn.Module):
    """Feature [..., F] to one prediction per observation.

    Means of vectors in the model's units, logits of discrete components, means of an image's pixels in [0, 1].
    """

    specs: dict[str, ObservationSpec]
    units: int
    layers: int
    cnn_depth: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, feature: jax.Array) -> dict[str, jax.Array]:
        images = {name: spec for name, spec in self.specs.items() if spec.is_image}
        numbers = {name: spec for name, spec in self.specs.items() if not spec.is_image}
        drawn = {
            name: ImageDecoder(spec.shape, self.cnn_depth, self.dtype, name=f"{name}_cnn")(feature)
            for name, spec in images.items()
        }
        if not numbers:
            return drawn
        hidden = MLP(self.units, self.layers, self.dtype, name="mlp")(feature)
        return drawn | {
            name: Linear(spec.encoded_size, dtype=self.dtype, name=f"{name}_out")(hidden) for name, spec in numbers.items()
        }


class Head(nn.Module):
    """Feature [..., F] to `size` outputs. `scale` 0 starts at zero: the two-hot heads, whose first prediction is then 0."""

    units: int
    layers: int
    size: int
    scale: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, feature: jax.Array) -> jax.Array:
        hidden = MLP(self.units, self.layers, self.dtype, name="mlp")(feature)
        return Linear(self.size, scale=self.scale, dtype=self.dtype, name="out")(hidden)


def head_ensemble(members: int, *sizes: int, **options: Any) -> nn.Module:
    """One `Head` of these sizes, or several that differ in their initial weights: feature [..., F] to [members, ..., size]."""
    module: Any = Head
    if members > 1:
        module = nn.vmap(Head, {"params": 0}, {"params": True}, in_axes=None, out_axes=0, axis_size=members)
    head: nn.Module = module(*sizes, **options)
    return head


def actor_head(spec: ActionSpec, units: int, layers: int, dtype: Any = jnp.float32) -> Head:
    """Logits of all components side by side, or raw mean and raw standard deviation; almost uniform at the start."""
    size = spec.encoded_size if spec.is_discrete else 2 * spec.dimensions
    return Head(units, layers, size, scale=0.01, dtype=dtype)
