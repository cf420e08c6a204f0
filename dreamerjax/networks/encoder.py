"""Observations to one embedding per step."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from dreamerjax.networks.layers import MLP
from dreamerjax.ops.scalars import symlog
from dreamerjax.types import ObservationSpec


def one_hots(indices: jax.Array, classes: tuple[int, ...]) -> jax.Array:
    """Concatenated one-hots: int [..., len(classes)] -> float [..., sum(classes)]."""
    parts = [jax.nn.one_hot(indices[..., i], count) for i, count in enumerate(classes)]
    return jnp.concatenate(parts, axis=-1)


class Encoder(nn.Module):
    """Every observation as one flat input (vectors in symlog, discrete ones one-hot), then an MLP: -> [..., units]."""

    specs: dict[str, ObservationSpec]
    units: int
    layers: int

    @nn.compact
    def __call__(self, observations: dict[str, jax.Array]) -> jax.Array:
        parts = [
            one_hots(observations[name], spec.classes) if spec.is_discrete else symlog(observations[name])
            for name, spec in sorted(self.specs.items())
        ]
        return MLP(self.units, self.layers, name="mlp")(jnp.concatenate(parts, axis=-1))
