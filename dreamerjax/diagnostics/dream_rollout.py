"""A dream beside reality, as numbers and images: the agent is shown the beginning of an episode, then imagines on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import numpy as np

from dreamerjax.agent.state import Params
from dreamerjax.core.errors import UserError
from dreamerjax.core.types import Arrays
from dreamerjax.data.episodes import PlayedEpisode, pad
from dreamerjax.diagnostics import open_loop
from dreamerjax.diagnostics.open_loop import OpenLoopInputs, Readout
from dreamerjax.diagnostics.open_loop_prediction import PREDICTED
from dreamerjax.networks.build import Networks

CONTEXT = 20  # observations that a dream starts from; of a shorter episode, half of them


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
        self._watch = jax.jit(partial(open_loop.watch, networks))

    def __call__(self, params: dict[str, Params], episode: PlayedEpisode, seed: int) -> DreamRollout:
        """Dream one episode after its first CONTEXT observations, for up to PREDICTED steps, with its own actions.

        Args:
            params: an agent's, of which the actor is not used; without a device axis.
            episode: a held-out one of at least one step.
            seed: of the dream.

        Raises:
            UserError: the agent observes neither vectors nor images.
        """
        observed = self._networks.spec.observations
        if all(spec.is_discrete for spec in observed.values()):
            raise UserError("dream=true: the environment has no vector or image observation, and nothing else can be drawn yet")
        context = max(1, min(CONTEXT, len(episode) // 2))
        steps = context + min(PREDICTED, len(episode) + 1 - context)
        rng = np.random.Generator(np.random.PCG64(seed))
        groups = self._networks.rssm.groups
        uniforms = (rng.random((length, 1, 1, groups), np.float32) for length in (CONTEXT, PREDICTED))
        parts = jax.device_put({name: params[name] for name in ("world_model", "critic", "statistics")}, self._device)
        actions = pad([episode], context, PREDICTED)[1]
        inputs = OpenLoopInputs(*pad([episode], 0, CONTEXT), actions, *uniforms)
        watched = self._watch(parts, inputs, context=np.int32(context), gamma=self._gamma)
        dreamed = np.r_[:context, CONTEXT : CONTEXT + steps - context]  # what lies between is not part of the dream
        return DreamRollout(
            context,
            real={name: episode.observations[name][:steps] for name, spec in observed.items() if spec.is_vector},
            real_images={name: episode.observations[name][:steps] for name, spec in observed.items() if spec.is_image},
            seen=jax.tree.map(lambda leaf: np.asarray(leaf)[dreamed], watched),
        )
