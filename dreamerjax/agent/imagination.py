"""Dreams: rollouts of the prior under the actor, without gradient (the actor learns by the score function)."""

from __future__ import annotations

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from dreamerjax.agent import action_distribution
from dreamerjax.agent.observation_normalization import own_units
from dreamerjax.agent.state import Params
from dreamerjax.agent.world_model import (
    Latent,
    assert_features,
    encode_action,
    feature,
    prior_step,
    reward_and_continue,
    undiscounted,
)
from dreamerjax.core.types import Array
from dreamerjax.networks.build import Networks
from dreamerjax.networks.layers import apply


class DreamNoise(NamedTuple):
    """Uniform numbers that draw what happens in N dreams of H steps."""

    action: Array  # [H, N, C]
    latent: Array  # [H, N, S]


class Dream(NamedTuple):
    """H imagined steps from N starts; index 0 is the start itself."""

    features: jax.Array  # [H+1, N, F]
    actions: jax.Array  # [H, N, C] int32 components or floats; actions[t] leads from t to t+1


def imagine(networks: Networks, params: dict[str, Any], start: Latent, noise: DreamNoise) -> Dream:
    """Roll the prior forward from `start` [N, ...] for H steps (DreamerV3, section "Actor-critic learning").

    Of `params` the world model and the actor are used. No gradient flows.
    """
    chex.assert_rank([start.deter, noise.action, noise.latent], [2, 3, 3])
    chex.assert_equal_shape_prefix(list(noise), 2, custom_message="noise [H, N, C] and [H, N, S]")
    chex.assert_axis_dimension(noise.action, 1, len(start.deter), custom_message="noise of N starts")
    model, actor, start = jax.lax.stop_gradient((params["world_model"], params["actor"], start))

    def step(latent: Latent, noise: DreamNoise) -> tuple[Latent, tuple[jax.Array, jax.Array]]:
        inputs = feature(latent)
        action = action_distribution.sample(networks, apply(networks.actor, actor, inputs), noise.action)
        projected = apply(networks.rssm, model["rssm"], encode_action(networks, action), method="project_action")
        return prior_step(networks, model, latent, projected, noise.latent), (inputs, action)

    last, (features, actions) = networks.loops.scan(step, start, noise)
    features = jnp.concatenate([features, feature(last)[None]], axis=0)
    return jax.lax.stop_gradient(Dream(features, actions))


class Imagined(NamedTuple):
    """H imagined steps of N dreams. Entry t is what the t-th action is expected to bring."""

    actions: jax.Array  # [H, N, C] int32 components or floats
    observations: dict[str, jax.Array]  # {name: [H, N, ...]} vectors in their own units, images within [0, 1]; no discrete ones
    rewards: jax.Array  # [H, N]
    continues: jax.Array  # [H, N] probability that the episode goes on after it, discount divided out


def decoded_dream(networks: Networks, params: dict[str, Params], start: Latent, noise: DreamNoise, gamma: Array) -> Imagined:
    """`imagine`, as an environment would show it. Of `params` everything but the critic is used."""
    dream = imagine(networks, params, start, noise)
    features = dream.features[1:]
    observations = decoded_vectors(networks, params, features) | decoded_images(networks, params, features)
    rewards, continues = reward_and_continue(networks, params["world_model"], features)
    return Imagined(dream.actions, observations, rewards, undiscounted(continues, jnp.asarray(gamma)))


def decoded_vectors(networks: Networks, params: dict[str, Params], features: jax.Array) -> dict[str, jax.Array]:
    """The decoded vector observations {name: [..., size]} of features [..., F], in their own units."""
    assert_features(networks, features)
    decoded = apply(networks.decoder, params["world_model"]["decoder"], features)
    specs = networks.spec.observations
    return {name: own_units(params["statistics"], name, decoded[name]) for name, spec in specs.items() if spec.is_vector}


def decoded_images(networks: Networks, params: dict[str, Params], features: jax.Array) -> dict[str, jax.Array]:
    """The decoded images {name: [..., H, W, C]} of features [..., F], within [0, 1]."""
    assert_features(networks, features)
    decoded = apply(networks.decoder, params["world_model"]["decoder"], features)
    return {name: decoded[name] for name, spec in networks.spec.observations.items() if spec.is_image}
