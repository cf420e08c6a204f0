"""Observations to one embedding per step."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dreamerjax.core.types import ObservationSpec
from dreamerjax.networks.convolutional import ImageEncoder
from dreamerjax.networks.layers import MLP


def one_hots(indices: jax.Array, classes: tuple[int, ...]) -> jax.Array:
    """Concatenated one-hots: int [..., len(classes)] -> float [..., sum(classes)]."""
    parts = [jax.nn.one_hot(indices[..., i], count) for i, count in enumerate(classes)]
    return jnp.concatenate(parts, axis=-1)


class Encoder(nn.Module):
    """The embedding [..., E]: an MLP over all vectors (see `agent.observation_normalization`) and discrete
    observations (one-hot) as one flat input, and convolutions over each image, side by side."""

    specs: dict[str, ObservationSpec]
    units: int
    layers: int
    cnn_depth: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, observations: dict[str, jax.Array]) -> jax.Array:
        specs = sorted(self.specs.items())
        numbers = [
            one_hots(observations[name], spec.classes) if spec.is_discrete else observations[name]
            for name, spec in specs
            if not spec.is_image
        ]
        parts = [MLP(self.units, self.layers, self.dtype, name="mlp")(jnp.concatenate(numbers, axis=-1))] if numbers else []
        images = [name for name, spec in specs if spec.is_image]
        parts += [ImageEncoder(self.cnn_depth, self.dtype, name=f"{name}_cnn")(observations[name]) for name in images]
        return jnp.concatenate(parts, axis=-1)
