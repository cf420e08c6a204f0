"""Dreams that follow an episode's own actions: what the agent expects to see, and what it thinks of it. No gradients.

Everything is time-major, and randomness comes in as uniform numbers. Legend: L observed steps, E episodes, M dreams of each,
P predicted steps, K pictures. Pictures are decoded after the scan over steps, and only those that are wanted: convolutions
inside a scan are slow on CPU, and all that could be decoded would not fit into memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from dreamerjax.agent import actor_critic
from dreamerjax.agent.imagination import decoded_images, decoded_vectors
from dreamerjax.agent.state import Params
from dreamerjax.agent.world_model import (
    FilterInputs,
    Latent,
    encode_action,
    feature,
    initial_latent,
    observe,
    prior_step,
    reward_and_continue,
    undiscounted,
)
from dreamerjax.core.types import Array
from dreamerjax.diagnostics.belief import as_the_model_sees
from dreamerjax.networks.build import Networks
from dreamerjax.networks.layers import apply

T = TypeVar("T")


class OpenLoopInputs(NamedTuple):
    """E episodes as an environment has them, and the uniform numbers for M dreams of each."""

    observations: dict[str, Array]  # {name: [L, E, ...]} from the start of the episodes
    previous_action: Array  # [L, E, C] before each of them
    actions: Array  # [P, E, C] from the last of these observations on
    context_uniform: Array  # [L, E, M, S] draws the posterior's stochastic states, M times
    latent_uniform: Array  # [P, E, M, S] draws the prior's


class Predicted(NamedTuple):
    """Decoded observations of an open loop; discrete ones are left out."""

    vectors: dict[str, jax.Array]  # {name: [P, E, M, size]} in their own units
    images: dict[str, jax.Array]  # {name: [K, H, W, C]} within [0, 1], of the first dream at the chosen steps


class Readout(NamedTuple):
    """What the agent reads from its latents while it observes for L steps and then imagines P."""

    vectors: dict[str, jax.Array]  # {name: [L + P, size]} decoded observations, in their own units
    images: dict[str, jax.Array]  # {name: [L + P, H, W, C]} decoded, within [0, 1]
    alive: jax.Array  # [L + P] probability that the episode goes on after the step
    value: jax.Array  # [L + P] the critic's


def predict(networks: Networks, params: dict[str, Params], inputs: OpenLoopInputs, chosen: tuple[Array, Array]) -> Predicted:
    """Open loop: filter the first L observations of E episodes, then let the prior run on the real actions.

    `chosen` are the predicted step [K], from 0, and the episode [K] of each picture that is decoded.
    """
    length, episodes, dreams = inputs.context_uniform.shape[:3]
    has_images = any(spec.is_image for spec in networks.spec.observations.values())

    def read(features: jax.Array) -> tuple[dict[str, jax.Array], jax.Array | None]:
        by_dream = features.reshape(episodes, dreams, -1)
        return decoded_vectors(networks, params, by_dream), by_dream[:, 0] if has_images else None

    numbers, first_dreams = _open_loop(networks, params, read, inputs, context=length)[1]
    drawn = {} if first_dreams is None else decoded_images(networks, params, first_dreams[chosen])
    return Predicted(numbers, drawn)


def watch(networks: Networks, params: dict[str, Params], inputs: OpenLoopInputs, *, context: Array, gamma: Array) -> Readout:
    """What the agent sees of one episode (E = 1) while it is shown observations, and in P steps of one dream (M = 1) after.

    Only the first `context` of the L observations count: the dream starts there, and what is returned of the other L - context
    means nothing.
    """
    parts = _open_loop(networks, params, lambda features: features, inputs, context=context)
    features = jnp.concatenate(parts)[:, 0]
    return Readout(
        vectors=decoded_vectors(networks, params, features),
        images=decoded_images(networks, params, features),
        alive=undiscounted(reward_and_continue(networks, params["world_model"], features)[1], gamma),
        value=actor_critic.value(networks, params["critic"], features),
    )


def _open_loop(
    networks: Networks,
    params: dict[str, Params],
    read: Callable[[jax.Array], T],
    inputs: OpenLoopInputs,
    *,
    context: Array | int,
) -> tuple[jax.Array, T]:
    """The features of the filter [L, E * M, F], and for P steps what `read` makes of those of the prior [E * M, F].

    The prior goes on from the filter's latent after `context` observations.
    """
    length, episodes, dreams, groups = inputs.context_uniform.shape
    flat = episodes * dreams

    def repeated(leaf: Array) -> jax.Array:
        return jnp.repeat(jnp.asarray(leaf), dreams, axis=1)

    is_first = jnp.zeros((length, flat), jnp.bool_).at[0].set(True)
    shown = FilterInputs(jax.tree.map(repeated, inputs.observations), repeated(inputs.previous_action), is_first)
    shown = as_the_model_sees(networks, params["statistics"], shown)
    model, uniform = params["world_model"], jnp.reshape(inputs.context_uniform, (length, flat, groups))
    filtered = observe(networks, model, shown, initial_latent(networks, flat), uniform).latent

    def step(latent: Latent, now: tuple[jax.Array, jax.Array]) -> tuple[Latent, T]:
        new = prior_step(networks, model, latent, *now)
        return new, read(feature(new))

    encoded = encode_action(networks, repeated(inputs.actions))
    projected = apply(networks.rssm, model["rssm"], encoded, method="project_action")
    start: Any = jax.tree.map(lambda leaf: leaf[context - 1], filtered)
    predicted = jax.lax.scan(step, start, (projected, jnp.reshape(inputs.latent_uniform, (-1, flat, groups))))[1]
    return feature(filtered), predicted
