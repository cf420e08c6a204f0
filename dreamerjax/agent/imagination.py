"""Dreams: rollouts of the prior under the actor, without gradient (the actor learns by the score function)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dreamerjax.agent import action_distribution
from dreamerjax.agent.world_model import Latent, encode_action, feature, sample_stoch
from dreamerjax.networks.build import Networks
from dreamerjax.networks.layers import apply


class Dream(NamedTuple):
    """H imagined steps from N starts; index 0 is the start itself."""

    features: jax.Array  # [H+1, N, F]
    actions: jax.Array  # [H, N, C] int32 components or floats; actions[t] leads from t to t+1


def imagine(
    networks: Networks,
    model_params: Any,
    actor_params: Any,
    start: Latent,
    action_uniform: jax.Array,
    latent_uniform: jax.Array,
) -> Dream:
    """Roll the prior forward from `start` [N, ...] for H steps (DreamerV3, section "Actor-critic learning").

    `action_uniform` [H, N, C] and `latent_uniform` [H, N, S] draw actions and stochastic states. No gradient flows.
    """
    model_params, actor_params, start = jax.lax.stop_gradient((model_params, actor_params, start))
    rssm = model_params["rssm"]

    def step(latent: Latent, uniforms: tuple[jax.Array, jax.Array]) -> tuple[Latent, tuple[jax.Array, jax.Array]]:
        inputs = feature(latent)
        action = action_distribution.sample(networks, apply(networks.actor, actor_params, inputs), uniforms[0])
        encoded = encode_action(networks, action)
        projected = apply(networks.rssm, rssm, encoded, method="project_action")
        deter = apply(networks.rssm, rssm, latent.deter, latent.stoch, projected, method="recurrent")
        logits = apply(networks.rssm, rssm, deter, method="prior")
        return Latent(deter, sample_stoch(logits, uniforms[1])), (inputs, action)

    last, (features, actions) = jax.lax.scan(step, start, (action_uniform, latent_uniform))
    features = jnp.concatenate([features, feature(last)[None]], axis=0)
    return jax.lax.stop_gradient(Dream(features, actions))
