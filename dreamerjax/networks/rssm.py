"""The recurrent state-space model, one step: h_t = f(h_{t-1}, z_{t-1}, a_{t-1}), prior p(z_t|h_t), posterior q(z_t|h_t,e_t).

What does not depend on the recurrent state (`project_action`, `project_embedding`) is a method of its own, so that a scan
over time computes it for all steps at once beforehand.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from dreamerjax.networks.layers import MLP, BlockLinear, Linear, NormAct
from dreamerjax.ops.distributions import unimix_logits


class BranchMLP(nn.Module):
    """One input of the sequence model: Dense-RMSNorm-SiLU to `hidden`, then its share of the next layer of width `deter`."""

    hidden: int
    deter: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        return Linear(self.deter, use_bias=False, dtype=self.dtype, name="out")(
            MLP(self.hidden, 1, self.dtype, name="mlp")(inputs)
        )


class RSSM(nn.Module):
    """Block-diagonal GRU with discrete latents (DreamerV3, arXiv 2301.04104, section "World model learning").

    D = deter, S = groups, K = classes. Latents are one-hot [..., S, K]. All logits returned are unimixed log-probabilities.
    Products are computed in `dtype`, everything else, the carried h_t too, in float32.
    """

    deter: int
    hidden: int
    groups: int
    classes: int
    blocks: int
    prior_layers: int
    posterior_layers: int
    unimix: float
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.deter_in = BranchMLP(self.hidden, self.deter, self.dtype)
        self.stoch_in = BranchMLP(self.hidden, self.deter, self.dtype)
        self.action_in = BranchMLP(self.hidden, self.deter, self.dtype)
        self.block_in = BlockLinear(self.deter, self.blocks, self.dtype)
        self.block_norm = NormAct()
        self.block_gates = [BlockLinear(self.deter, self.blocks, self.dtype) for _ in range(3)]
        self.gate_bias = self.param("gate_bias", nn.initializers.zeros_init(), (3, self.deter))
        self.prior_mlp = MLP(self.hidden, self.prior_layers, self.dtype)
        self.prior_out = Linear(self.groups * self.classes, dtype=self.dtype)
        self.posterior_deter = Linear(self.hidden, dtype=self.dtype)
        self.posterior_embedding = Linear(self.hidden, use_bias=False, dtype=self.dtype)
        self.posterior_norm = NormAct()
        self.posterior_mlp = MLP(self.hidden, self.posterior_layers - 1, self.dtype)
        self.posterior_out = Linear(self.groups * self.classes, dtype=self.dtype)

    def project_action(self, action: jax.Array) -> jax.Array:
        """Encoded action [..., A], scaled down to at most 1 in size, to its share [..., D] of the recurrent layer."""
        return self.action_in(action / jnp.maximum(1.0, jnp.abs(jax.lax.stop_gradient(action))))

    def project_embedding(self, embedding: jax.Array) -> jax.Array:
        """Embedding [..., E] to its share [..., hidden] of the posterior's first layer."""
        return self.posterior_embedding(embedding)

    def recurrent(self, deter: jax.Array, stoch: jax.Array, projected_action: jax.Array) -> jax.Array:
        """h_{t-1} [..., D], z_{t-1} [..., S, K] and the projected a_{t-1} to h_t [..., D]."""
        flat = stoch.reshape(*stoch.shape[:-2], -1)
        hidden = self.block_in(deter) + self.deter_in(deter) + self.stoch_in(flat) + projected_action
        hidden = self.block_norm(hidden)
        bias = self.gate_bias.reshape(3, *(1,) * (deter.ndim - 1), -1)
        reset, candidate, update = (gate(hidden) + bias[i] for i, gate in enumerate(self.block_gates))
        candidate = jnp.tanh(nn.sigmoid(reset) * candidate)
        update = nn.sigmoid(update - 1.0)
        return update * candidate + (1.0 - update) * deter

    def prior(self, deter: jax.Array) -> jax.Array:
        """Log-probabilities of z_t given h_t: [..., D] -> [..., S, K]."""
        return self._latent_logits(self.prior_out(self.prior_mlp(deter)))

    def posterior(self, deter: jax.Array, projected_embedding: jax.Array) -> jax.Array:
        """Log-probabilities of z_t given h_t and the projected embedding of the observation: -> [..., S, K]."""
        hidden = self.posterior_norm(self.posterior_deter(deter) + projected_embedding)
        return self._latent_logits(self.posterior_out(self.posterior_mlp(hidden)))

    def _latent_logits(self, outputs: jax.Array) -> jax.Array:
        return unimix_logits(outputs.reshape(*outputs.shape[:-1], self.groups, self.classes), self.unimix)
