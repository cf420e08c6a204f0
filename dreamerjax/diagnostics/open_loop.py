"""Dreams that follow an episode's own actions: what the agent expects to see, and what it thinks of it. No gradients.

Two instruments share them. The open loops of a calibration (`OpenLoopPredictor`) are scored; a dream beside reality
(`DreamWatcher`) is shown. Everything is time-major, and randomness comes in as uniform numbers. Legend: L observed steps, E
episodes, M dreams of each, P predicted steps, K pictures. Pictures are decoded after the scan over steps, and only those that
are wanted: convolutions inside a scan are slow on CPU, and all that could be decoded would not fit into memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

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
from dreamerjax.core.errors import UserError
from dreamerjax.core.types import Array, Arrays
from dreamerjax.data.playing import PlayedEpisode, pad
from dreamerjax.diagnostics import model_bias
from dreamerjax.diagnostics.belief import as_the_model_sees
from dreamerjax.networks.build import Networks
from dreamerjax.networks.layers import apply

T = TypeVar("T")

CONTEXT = 5  # observations that an open loop starts from
DREAM_CONTEXT = 20  # observations that a dream to be shown starts from; of a shorter episode, half of them
PREDICTED = 100  # steps that either goes on for at most
SCORED = 15  # the predicted step whose error is the metric
DREAMS = 8  # of each open loop; images are decoded of the first one


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


@dataclass(frozen=True)
class OpenLoop:
    """One episode's observations, real and predicted from its actions alone."""

    real: Arrays  # {name: [CONTEXT + P, size]} vectors
    dreams: Arrays  # {name: [P, DREAMS, size]}, from observation CONTEXT on
    real_images: Arrays = field(default_factory=dict)  # {name: [P, H, W, C]} uint8, from observation CONTEXT on
    dreamed_images: Arrays = field(default_factory=dict)  # {name: [P, H, W, C]} of one dream, within [0, 1]


class OpenLoopPredictor:
    """Compiled once for a number of episodes; their lengths and the parameters may change from call to call."""

    def __init__(self, networks: Networks) -> None:
        """Nothing is compiled yet."""
        self._networks = networks
        self._predict = jax.jit(partial(predict, networks))

    def __call__(
        self, params: dict[str, Params], episodes: Sequence[PlayedEpisode], rng: np.random.Generator
    ) -> tuple[OpenLoop | None, dict[str, float]]:
        """The open loop of one episode, to be shown, and the errors of all of them, `gap/open_loop_*` of docs/metrics.md.

        The episode is the first that goes on for SCORED predicted steps, or else the longest. None and no errors where
        neither vectors nor images are observed, or every episode is too short to predict anything.
        """
        counts = np.array([min(PREDICTED, len(episode) + 1 - CONTEXT) for episode in episodes])
        if counts.max() < 1 or all(spec.is_discrete for spec in self._networks.spec.observations.values()):
            return None, {}
        scored, shown = np.clip(counts, 1, SCORED) - 1, int(np.argmax(np.minimum(counts, SCORED)))
        vectors, images = self._predicted(params, episodes, rng, scored, shown)
        errors: dict[str, list[float]] = {f"gap/open_loop_{name}": [] for name in ("error", "unchanged", "image_error")}
        for index in (counts > 0).nonzero()[0].tolist():
            for error, unchanged in _vector_errors(vectors, episodes[index], index, scored[index]):
                errors["gap/open_loop_error"].append(error)
                errors["gap/open_loop_unchanged"].append(unchanged)
            for name, drawn in images.items():
                seen = episodes[index].observations[name]
                error = model_bias.image_error(drawn[index], seen[CONTEXT + scored[index]], seen)
                errors["gap/open_loop_image_error"].append(error)
        known = {name: np.array(found)[np.isfinite(found)] for name, found in errors.items()}
        metrics = {name: float(found.mean()) for name, found in known.items() if found.size}
        pictures = {name: drawn[len(episodes) :] for name, drawn in images.items()}
        return _shown(vectors, pictures, episodes[shown], shown, counts[shown]), metrics

    def _predicted(
        self,
        params: dict[str, Params],
        episodes: Sequence[PlayedEpisode],
        rng: np.random.Generator,
        scored: np.ndarray,
        shown: int,
    ) -> tuple[Arrays, Arrays]:
        """Vectors {name: [PREDICTED, E, DREAMS, size]} and images {name: [E + PREDICTED, H, W, C]}.

        The images are of every episode its `scored` step [E], and then every step of the episode `shown`.
        """
        groups = self._networks.rssm.groups
        context_uniform, latent_uniform = (
            rng.random((length, len(episodes), DREAMS, groups), np.float32) for length in (CONTEXT, PREDICTED)
        )
        steps = np.concatenate([scored, np.arange(PREDICTED)])
        of = np.concatenate([np.arange(len(episodes)), np.full(PREDICTED, shown)])
        _, actions = pad(episodes, CONTEXT, PREDICTED)
        inputs = OpenLoopInputs(*pad(episodes, 0, CONTEXT), actions, context_uniform, latent_uniform)
        vectors, images = jax.tree.map(np.asarray, self._predict(params, inputs, (steps, of)))
        return vectors, images


def _shown(vectors: Arrays, pictures: Arrays, episode: PlayedEpisode, index: int, count: int) -> OpenLoop:
    seen = episode.observations
    return OpenLoop(
        real={name: seen[name][: CONTEXT + count] for name in vectors},
        dreams={name: values[:count, index] for name, values in vectors.items()},
        real_images={name: seen[name][CONTEXT : CONTEXT + count] for name in pictures},
        dreamed_images={name: drawn[:count] for name, drawn in pictures.items()},
    )


def _vector_errors(vectors: Arrays, episode: PlayedEpisode, index: int, step: int) -> Iterator[tuple[float, float]]:
    """One error over all vector observations, if there are any, and that of the last observation of the context."""
    if names := list(vectors):
        dreams = np.concatenate([vectors[name][step, index] for name in names], axis=-1)
        last, real = (
            np.concatenate([episode.observations[name][at] for name in names]) for at in (CONTEXT - 1, CONTEXT + step)
        )
        std = np.concatenate([episode.observations[name].std(axis=0) for name in names])
        yield model_bias.open_loop_error(dreams, real, std), model_bias.open_loop_error(last[None], real, std)


@dataclass(frozen=True)
class DreamRollout:
    """L observed and P imagined steps of one episode."""

    context: int  # L
    real: Arrays  # {name: [L + P, size]} vector observations
    real_images: Arrays  # {name: [L + P, H, W, C]} uint8
    seen: Readout  # NumPy; what the agent reads from its latents: of the filter for L steps, of the prior for P


class DreamWatcher:
    """Compiled once; the length of the episode and the parameters may change from call to call."""

    def __init__(self, networks: Networks, gamma: float) -> None:
        """`gamma` is the discount, which the continue head carries. Nothing is compiled yet."""
        self._networks, self._gamma = networks, np.float32(gamma)
        self._device = jax.local_devices()[0]
        self._watch = jax.jit(partial(watch, networks))

    def __call__(self, params: dict[str, Params], episode: PlayedEpisode, seed: int) -> DreamRollout:
        """Dream a held-out episode after its first DREAM_CONTEXT observations, for up to PREDICTED steps, with its own actions.

        `params` are an agent's, without a device axis; the actor is not used. `seed` is the dream's.

        Raises UserError: the agent observes neither vectors nor images.
        """
        observed = self._networks.spec.observations
        if all(spec.is_discrete for spec in observed.values()):
            raise UserError("dream=true: the environment has no vector or image observation, and nothing else can be drawn yet")
        context = max(1, min(DREAM_CONTEXT, len(episode) // 2))
        steps = context + min(PREDICTED, len(episode) + 1 - context)
        rng = np.random.Generator(np.random.PCG64(seed))
        groups = self._networks.rssm.groups
        uniforms = (rng.random((length, 1, 1, groups), np.float32) for length in (DREAM_CONTEXT, PREDICTED))
        parts = jax.device_put({name: params[name] for name in ("world_model", "critic", "statistics")}, self._device)
        actions = pad([episode], context, PREDICTED)[1]
        inputs = OpenLoopInputs(*pad([episode], 0, DREAM_CONTEXT), actions, *uniforms)
        watched = self._watch(parts, inputs, context=np.int32(context), gamma=self._gamma)
        dreamed = np.r_[:context, DREAM_CONTEXT : DREAM_CONTEXT + steps - context]  # what lies between is not part of the dream
        return DreamRollout(
            context,
            real={name: episode.observations[name][:steps] for name, spec in observed.items() if spec.is_vector},
            real_images={name: episode.observations[name][:steps] for name, spec in observed.items() if spec.is_image},
            seen=jax.tree.map(lambda leaf: np.asarray(leaf)[dreamed], watched),
        )
