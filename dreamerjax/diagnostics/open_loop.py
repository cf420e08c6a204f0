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
from dreamerjax.agent.observation_normalization import own_units
from dreamerjax.agent.state import Array, Params
from dreamerjax.agent.world_model import Latent, encode_action, feature, initial_latent, observe, sample_stoch
from dreamerjax.networks.build import Networks
from dreamerjax.networks.layers import apply

T = TypeVar("T")


class Predicted(NamedTuple):
    """Decoded observations of an open loop; discrete ones are left out."""

    vectors: dict[str, jax.Array]  # {name: [P, E, M, size]} in their own units
    images: dict[str, jax.Array]  # {name: [K, H, W, C]} within [0, 1], of the first dream at the chosen steps


class Watched(NamedTuple):
    """What the agent reads from its latents while it observes for L steps and then imagines P."""

    vectors: dict[str, jax.Array]  # {name: [L + P, size]} decoded observations, in their own units
    images: dict[str, jax.Array]  # {name: [L + P, H, W, C]} decoded, within [0, 1]
    alive: jax.Array  # [L + P] probability that the episode goes on after the step
    value: jax.Array  # [L + P] the critic's


def predict(
    networks: Networks,
    model_params: Params,
    observations: dict[str, Array],
    previous_action: Array,
    actions: Array,
    context_uniform: Array,
    latent_uniform: Array,
    chosen: tuple[Array, Array],
) -> Predicted:
    """Open loop: filter the first L observations of E episodes, then let the prior run on the real actions.

    Args:
        networks: of the agent.
        model_params: of the world model.
        observations: [L, E, ...] from the start of the episodes.
        previous_action: [L, E, C] before each of them.
        actions: [P, E, C] from the last of these observations on.
        context_uniform: [L, E, M, S] draws the posterior's stochastic states, M times.
        latent_uniform: [P, E, M, S] draws the prior's.
        chosen: predicted step [K], from 0, and episode [K] of each picture that is decoded.
    """
    length, episodes, dreams = context_uniform.shape[:3]
    has_images = any(spec.is_image for spec in networks.spec.observations.values())

    def read(features: jax.Array) -> tuple[dict[str, jax.Array], jax.Array | None]:
        by_dream = features.reshape(episodes, dreams, -1)
        return vectors(networks, model_params, by_dream), by_dream[:, 0] if has_images else None

    inputs = (observations, previous_action, actions, context_uniform, latent_uniform)
    numbers, first_dreams = _open_loop(networks, model_params, read, *inputs, context=length)[1]
    drawn = {} if first_dreams is None else images(networks, model_params, first_dreams[chosen])
    return Predicted(numbers, drawn)


def watch(
    networks: Networks,
    params: dict[str, Params],
    observations: dict[str, Array],
    previous_action: Array,
    actions: Array,
    context_uniform: Array,
    latent_uniform: Array,
    *,
    context: Array,
    gamma: Array,
) -> Watched:
    """What the agent sees of one episode (E = 1) while it is shown observations, and in P steps of one dream (M = 1) after.

    The arguments are those of `predict`, with all parameters. Only the first `context` of the L observations count: the dream
    starts there, and what is returned of the other L - context means nothing. The continue head carries the discount; here it
    is divided out.
    """
    model = params["world_model"]
    inputs = (observations, previous_action, actions, context_uniform, latent_uniform)
    parts = _open_loop(networks, model, lambda features: features, *inputs, context=context)
    features = jnp.concatenate(parts)[:, 0]
    continues = jax.nn.sigmoid(apply(networks.continue_, model["continue"], features)[..., 0])
    return Watched(
        vectors=vectors(networks, model, features),
        images=images(networks, model, features),
        alive=jnp.minimum(continues / gamma, 1.0),
        value=actor_critic.value(networks, params["critic"], features),
    )


def vectors(networks: Networks, model_params: Params, features: jax.Array) -> dict[str, jax.Array]:
    """The decoded vector observations {name: [..., size]} of features [..., F], in their own units."""
    decoded = apply(networks.decoder, model_params["decoder"], features)
    specs = networks.spec.observations
    return {name: own_units(model_params, name, decoded[name]) for name, spec in specs.items() if spec.is_vector}


def images(networks: Networks, model_params: Params, features: jax.Array) -> dict[str, jax.Array]:
    """The decoded images {name: [..., H, W, C]} of features [..., F], within [0, 1]."""
    decoded = apply(networks.decoder, model_params["decoder"], features)
    return {name: decoded[name] for name, spec in networks.spec.observations.items() if spec.is_image}


def _open_loop(
    networks: Networks,
    model_params: Params,
    read: Callable[[jax.Array], T],
    observations: dict[str, Array],
    previous_action: Array,
    actions: Array,
    context_uniform: Array,
    latent_uniform: Array,
    *,
    context: Array | int,
) -> tuple[jax.Array, T]:
    """The features of the filter [L, E * M, F], and for P steps what `read` makes of those of the prior [E * M, F].

    The prior goes on from the filter's latent after `context` observations.
    """
    length, episodes, dreams, groups = context_uniform.shape

    def repeated(leaf: Array) -> jax.Array:
        return jnp.repeat(jnp.asarray(leaf), dreams, axis=1)

    def encoded(action: Array) -> jax.Array:
        return encode_action(networks, repeated(action))

    flat = episodes * dreams
    is_first = jnp.zeros((length, flat), jnp.bool_).at[0].set(True)
    filtered = observe(
        networks, model_params, jax.tree.map(repeated, observations), encoded(previous_action), is_first,
        initial_latent(networks, flat), jnp.reshape(context_uniform, (length, flat, groups)),
    ).latent  # fmt: skip
    rssm = model_params["rssm"]

    def step(latent: Latent, inputs: tuple[jax.Array, jax.Array]) -> tuple[Latent, T]:
        deter = apply(networks.rssm, rssm, latent.deter, latent.stoch, inputs[0], method="recurrent")
        logits = apply(networks.rssm, rssm, deter, method="prior")
        new = Latent(deter, sample_stoch(logits, inputs[1]))
        return new, read(feature(new))

    projected = apply(networks.rssm, rssm, encoded(actions), method="project_action")
    start: Any = jax.tree.map(lambda leaf: leaf[context - 1], filtered)
    predicted = jax.lax.scan(step, start, (projected, jnp.reshape(latent_uniform, (-1, flat, groups))))[1]
    return feature(filtered), predicted
