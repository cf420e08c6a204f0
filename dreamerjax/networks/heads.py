"""Output heads: an MLP over the latent feature, then one linear layer each."""

from __future__ import annotations

import flax.linen as nn
import jax

from dreamerjax.networks.layers import MLP, Linear
from dreamerjax.types import ActionSpec, ObservationSpec


class Decoder(nn.Module):
    """Feature [..., F] to one prediction per observation: symlog means of vectors, logits of discrete components."""

    specs: dict[str, ObservationSpec]
    units: int
    layers: int

    @nn.compact
    def __call__(self, feature: jax.Array) -> dict[str, jax.Array]:
        hidden = MLP(self.units, self.layers, name="mlp")(feature)
        return {name: Linear(spec.encoded_size, name=f"{name}_out")(hidden) for name, spec in self.specs.items()}


class Head(nn.Module):
    """Feature [..., F] to `size` outputs. `scale` 0 starts at zero: the two-hot heads, whose first prediction is then 0."""

    units: int
    layers: int
    size: int
    scale: float = 1.0

    @nn.compact
    def __call__(self, feature: jax.Array) -> jax.Array:
        return Linear(self.size, scale=self.scale, name="out")(MLP(self.units, self.layers, name="mlp")(feature))


def actor_head(spec: ActionSpec, units: int, layers: int) -> Head:
    """Logits of all components side by side, or raw mean and raw standard deviation; almost uniform at the start."""
    size = spec.encoded_size if spec.is_discrete else 2 * spec.dimensions
    return Head(units, layers, size, scale=0.01)
