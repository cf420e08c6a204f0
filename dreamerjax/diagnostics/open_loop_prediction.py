"""The open loops of a calibration: what an agent sees coming when it knows nothing but what is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import jax
import numpy as np

from dreamerjax.agent.state import Params
from dreamerjax.core.types import Arrays
from dreamerjax.data.episodes import PlayedEpisode, pad
from dreamerjax.diagnostics import model_bias, open_loop
from dreamerjax.networks.build import Networks

CONTEXT = 5  # observations that an open loop starts from
PREDICTED = 100  # steps that it goes on for at most
SCORED = 15  # the predicted step whose error is the metric
DREAMS = 8  # of each open loop; images are decoded of the first one


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
        self._predict = jax.jit(partial(open_loop.predict, networks))

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
            errors["gap/open_loop_image_error"] += _image_errors(images, episodes[index], index, scored[index])
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
        inputs = open_loop.OpenLoopInputs(*pad(episodes, 0, CONTEXT), actions, context_uniform, latent_uniform)
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


def _image_errors(images: Arrays, episode: PlayedEpisode, index: int, step: int) -> Iterator[float]:
    """One error of each image."""
    for name, drawn in images.items():
        seen = episode.observations[name]
        yield model_bias.image_error(drawn[index], seen[CONTEXT + step], seen)
