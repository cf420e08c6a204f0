"""Examine an agent on held-out episodes: does it get what it believes, and does it see what comes?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from dreamerjax import dreams, policy
from dreamerjax.episodes import PlayedEpisode
from dreamerjax.monitor import gap
from dreamerjax.monitor.gap import Calibration, States
from dreamerjax.networks.build import Networks
from dreamerjax.pytrees import Params
from dreamerjax.types import Arrays
from dreamerjax.world_model import Latent, initial_latent

EPISODES = 16  # to record for an examination; fewer do
STATES = 256  # at most so many states are dreamed from
DREAMS = 8  # from each state, and of each open loop
PIECE = 64  # steps that are filtered in one compiled call
CONTEXT = 5  # observations that an open loop starts from
PREDICTED = 100  # steps that it goes on for at most
SCORED = 15  # the predicted step whose error is the metric


@dataclass(frozen=True)
class OpenLoop:
    """One episode's vector observations, real and predicted from its actions alone."""

    real: Arrays  # {name: [CONTEXT + P, size]}
    dreams: Arrays  # {name: [P, DREAMS, size]}, from observation CONTEXT on


@dataclass(frozen=True)
class Examination:
    """What was found; `gap/*` is described in docs/metrics.md."""

    metrics: dict[str, float]
    calibration: Calibration
    open_loop: OpenLoop | None  # None: no vector observation, or no episode of more than CONTEXT steps


class _Filtered(NamedTuple):
    start: Latent  # [N, ...] at the states, NumPy
    kl: np.ndarray  # [N]
    last_values: np.ndarray  # [E] the critic's, at the final observations


class Examiner:
    """Compiled once for a number of episodes; their lengths and the parameters may change from call to call."""

    def __init__(self, networks: Networks, *, horizon: int, gamma: float, lambda_: float) -> None:
        """Horizon, discount and lambda are those of the training in dreams. Nothing is compiled yet."""
        self._networks, self._horizon, self._gamma = networks, horizon, gamma
        self._device = jax.local_devices()[0]
        numbers = {"gamma": np.float32(gamma), "lambda_": np.float32(lambda_)}
        self._filter = jax.jit(partial(dreams.filter_piece, networks))
        self._believe = partial(jax.jit(partial(dreams.believe, networks)), **numbers)
        self._predict = jax.jit(partial(dreams.predict, networks))

    def __call__(self, params: dict[str, Params], episodes: Sequence[PlayedEpisode], seed: int) -> Examination:
        """Compare dreams with at least one held-out episode that the *sampled* policy of the same parameters played.

        `params` has `world_model`, `actor` and `critic`, without a device axis. `seed` draws states and dreams.
        """
        rng = np.random.Generator(np.random.PCG64(seed))
        parts = {name: params[name] for name in ("world_model", "actor", "critic")}
        params = jax.device_put(parts, self._device)
        calibration, kl = self._calibrate(params, episodes, rng)
        metrics = gap.gap_metrics(calibration, kl)
        open_loops = self._open_loops(params["world_model"], episodes, rng)
        errors = [_scored(loop, episode) for loop, episode in zip(open_loops, episodes, strict=True) if loop is not None]
        if (known := np.array(errors)[np.isfinite(errors)]).size:
            metrics["gap/open_loop_error"] = float(known.mean())
        shown = sorted((loop for loop in open_loops if loop is not None), key=_is_short)  # the first that is long enough
        return Examination(metrics, calibration, shown[0] if shown else None)

    def _calibrate(
        self, params: dict[str, Params], episodes: Sequence[PlayedEpisode], rng: np.random.Generator
    ) -> tuple[Calibration, np.ndarray]:
        lengths = np.array([len(episode) for episode in episodes])
        terminated = np.array([episode.terminated for episode in episodes])
        rewards = [episode.rewards for episode in episodes]
        states = gap.choose_states(lengths, terminated, self._gamma, STATES, rng)
        start, kl, last_values = self._filter_episodes(params, episodes, states, rng)
        returns, reward, alive = self._dream(params, start, len(kl), rng)
        real = gap.real_steps(rewards, terminated, states, self._horizon)
        calibration = Calibration(
            return_imagined=returns,
            return_real=gap.real_returns(rewards, terminated, last_values, states, self._gamma),
            bootstrap=gap.bootstrap_weights(lengths, terminated, states, self._gamma),
            reward_imagined=gap.known_mean(reward, real.known),
            reward_real=gap.known_mean(real.reward, real.known),
            alive_imagined=gap.known_mean(alive, real.known),
            alive_real=gap.known_mean(real.alive, real.known),
        )
        return calibration, kl

    def _filter_episodes(
        self, params: dict[str, Params], episodes: Sequence[PlayedEpisode], states: States, rng: np.random.Generator
    ) -> _Filtered:
        """Piece by piece, so that neither the program nor the memory depends on the episodes' lengths."""
        lengths = np.array([len(episode) for episode in episodes])
        latent = jax.device_put(initial_latent(self._networks, len(episodes)), self._device)
        found = _Filtered(
            jax.tree.map(lambda leaf: np.zeros((STATES, *leaf.shape[1:]), np.float32), latent),
            np.zeros(len(states.step)),
            np.zeros(len(episodes)),
        )
        for begin in range(0, int(lengths.max()) + 1, PIECE):
            observations, previous_action = pad(episodes, begin, PIECE)
            is_first = np.full((PIECE, len(episodes)), False)
            is_first[0] = begin == 0
            uniform = rng.random((PIECE, len(episodes), self._networks.rssm.groups), np.float32)
            piece = self._filter(params, observations, previous_action, is_first, latent, uniform)
            latent = piece.last
            here = (states.step // PIECE == begin // PIECE).nonzero()[0]
            at = states.step[here] - begin, states.episode[here]
            for target, source in zip(found.start, piece.posterior.latent, strict=True):
                target[here] = np.asarray(source)[at]
            found.kl[here] = np.asarray(piece.kl)[at]
            ending = (lengths // PIECE == begin // PIECE).nonzero()[0]
            found.last_values[ending] = np.asarray(piece.value)[lengths[ending] - begin, ending]
        return found

    def _dream(
        self, params: dict[str, Params], start: Latent, count: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Imagined return [count], reward and aliveness [H, count] of the first `count` of the STATES starts."""
        shape = (DREAMS, self._horizon, STATES)
        action_uniform = rng.random((*shape, *policy.noise_shape(self._networks)), np.float32)
        latent_uniform = rng.random((*shape, self._networks.rssm.groups), np.float32)
        belief = self._believe(params, start, action_uniform, latent_uniform)
        returns, reward, alive = (np.asarray(leaf, np.float64)[..., :count] for leaf in belief)
        return returns, reward, alive

    def _open_loops(
        self, model_params: Any, episodes: Sequence[PlayedEpisode], rng: np.random.Generator
    ) -> list[OpenLoop | None]:
        """One per episode; None where it is too short to predict anything."""
        if not any(spec.is_vector for spec in self._networks.spec.observations.values()):
            return [None] * len(episodes)
        groups = self._networks.rssm.groups
        context_uniform, latent_uniform = (
            rng.random((length, len(episodes), DREAMS, groups), np.float32) for length in (CONTEXT, PREDICTED)
        )
        _, actions = pad(episodes, CONTEXT, PREDICTED)
        predicted = self._predict(model_params, *pad(episodes, 0, CONTEXT), actions, context_uniform, latent_uniform)
        predicted = jax.tree.map(np.asarray, predicted)
        return [_open_loop(predicted, index, episode) for index, episode in enumerate(episodes)]


def pad(episodes: Sequence[PlayedEpisode], begin: int, length: int) -> tuple[Arrays, np.ndarray]:
    """Observations {name: [length, E, ...]} from number `begin` on, and the action [length, E, C] before each of them.

    Zeros beyond an episode's end, and before its first observation.
    """

    def cut(values: np.ndarray) -> np.ndarray:
        piece = values[begin : begin + length]
        return np.concatenate([piece, np.zeros((length - len(piece), *values.shape[1:]), values.dtype)])

    names = episodes[0].observations
    observations = {name: np.stack([cut(episode.observations[name]) for episode in episodes], axis=1) for name in names}
    previous = [np.concatenate([np.zeros_like(episode.actions[:1]), episode.actions]) for episode in episodes]
    return observations, np.stack([cut(action) for action in previous], axis=1)


def _open_loop(predicted: Arrays, index: int, episode: PlayedEpisode) -> OpenLoop | None:
    count = min(PREDICTED, len(episode) + 1 - CONTEXT)
    if count < 1:
        return None
    real = {name: episode.observations[name][: CONTEXT + count] for name in predicted}
    return OpenLoop(real, {name: values[:count, index] for name, values in predicted.items()})


def _is_short(loop: OpenLoop) -> bool:
    return min(len(values) for values in loop.dreams.values()) < SCORED


def _scored(loop: OpenLoop, episode: PlayedEpisode) -> float:
    """The error of the last of the first SCORED predicted steps, over all vector observations."""
    steps = [min(SCORED, len(values)) - 1 for values in loop.dreams.values()]
    predicted = np.concatenate([values[k] for k, values in zip(steps, loop.dreams.values(), strict=True)], axis=-1)
    real = np.concatenate([values[CONTEXT + k] for k, values in zip(steps, loop.real.values(), strict=True)])
    std = np.concatenate([episode.observations[name].std(axis=0) for name in loop.real])
    return gap.open_loop_error(predicted, real, std)
