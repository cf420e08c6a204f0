"""Calibration of an agent on held-out episodes: does it get what it believes, and does it see what comes?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from dreamerjax.agent import action_distribution
from dreamerjax.agent.imagination import DreamNoise
from dreamerjax.agent.state import Params
from dreamerjax.agent.world_model import FilterInputs, Latent, initial_latent
from dreamerjax.data.playing import PlayedEpisode, pad
from dreamerjax.diagnostics import belief, model_bias
from dreamerjax.diagnostics.model_bias import Calibration, States
from dreamerjax.diagnostics.open_loop import SCORED, OpenLoop, OpenLoopPredictor
from dreamerjax.networks.build import Networks

EPISODES = 16  # to record for a calibration; fewer do
STATES = 256  # at most so many states are dreamed from
DREAMS = 8  # from each state
PIECE = 64  # steps that are filtered in one compiled call


@dataclass(frozen=True)
class CalibrationReport:
    """What was found; `gap/*` is described in docs/metrics.md."""

    metrics: dict[str, float]
    calibration: Calibration
    open_loop: OpenLoop | None  # None: neither vectors nor images are observed, or no episode is long enough


class _Filtered(NamedTuple):
    start: Latent  # [N, ...] at the states, NumPy
    kl: np.ndarray  # [N]
    last_values: np.ndarray  # [E] the critic's, at the final observations


class Calibrator:
    """Compiled once for a number of episodes; their lengths and the parameters may change from call to call."""

    def __init__(self, networks: Networks, *, horizon: int, gamma: float, lambda_: float) -> None:
        """Horizon, discount and lambda are those of the training in dreams. Nothing is compiled yet."""
        self._networks, self._horizon, self._gamma = networks, horizon, gamma
        self._device = jax.local_devices()[0]
        numbers = {"gamma": np.float32(gamma), "lambda_": np.float32(lambda_)}
        self._filter = jax.jit(partial(belief.filter_piece, networks))
        self._believe = partial(jax.jit(partial(belief.believe, networks)), **numbers)
        self._open_loop = OpenLoopPredictor(networks)

    def __call__(self, params: dict[str, Params], episodes: Sequence[PlayedEpisode], seed: int) -> CalibrationReport:
        """Compare dreams with at least one held-out episode that the *sampled* policy of the same parameters played.

        `params` are an agent's, without a device axis. `seed` draws states and dreams.
        """
        rng = np.random.Generator(np.random.PCG64(seed))
        parts = {name: params[name] for name in ("world_model", "actor", "critic", "statistics")}
        params = jax.device_put(parts, self._device)
        calibration, kl = self._calibrate(params, episodes, rng)
        open_loop, errors = self._open_loop(params, episodes, rng)
        return CalibrationReport(model_bias.gap_metrics(calibration, kl) | errors, calibration, open_loop)

    def _calibrate(
        self, params: dict[str, Params], episodes: Sequence[PlayedEpisode], rng: np.random.Generator
    ) -> tuple[Calibration, np.ndarray]:
        lengths = np.array([len(episode) for episode in episodes])
        terminated = np.array([episode.terminated for episode in episodes])
        rewards = [episode.rewards for episode in episodes]
        states = model_bias.choose_states(lengths, terminated, self._gamma, STATES, rng)
        start, kl, last_values = self._filter_episodes(params, episodes, states, rng)
        returns, reward, alive = self._dream(params, start, len(kl), rng)
        real = model_bias.real_steps(rewards, terminated, states, self._horizon)
        calibration = Calibration(
            return_imagined=returns,
            return_real=model_bias.real_returns(rewards, terminated, last_values, states, self._gamma),
            bootstrap=model_bias.bootstrap_weights(lengths, terminated, states, self._gamma),
            reward_imagined=model_bias.known_mean(reward, real.known),
            reward_real=model_bias.known_mean(real.reward, real.known),
            alive_imagined=model_bias.known_mean(alive, real.known),
            alive_real=model_bias.known_mean(real.alive, real.known),
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
            piece = self._filter(params, FilterInputs(observations, previous_action, is_first), latent, uniform)
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
        action_uniform = rng.random((*shape, *action_distribution.noise_shape(self._networks)), np.float32)
        latent_uniform = rng.random((*shape, self._networks.rssm.groups), np.float32)
        believed = self._believe(params, start, DreamNoise(action_uniform, latent_uniform))
        returns, reward, alive = (np.asarray(leaf, np.float64)[..., :count] for leaf in believed)
        return returns, reward, alive


def words(report: CalibrationReport, episodes: int, *, extra: bool) -> str:
    """What was found, in a few lines."""
    gap = {name.removeprefix("gap/"): value for name, value in report.metrics.items()}
    worst = int(gap["worst_step"])
    lines = [
        f"dreams against reality: {gap['states']:.0f} states of {episodes} {'extra ' if extra else ''}episodes of the sampled "
        "policy, which is the one that dreams follow",
        f"return: imagined {gap['return_imagined']:.2f}, real {gap['return_real']:.2f} (bias {gap['return_bias']:+.2f}, "
        f"ratio {gap['return_ratio']:.2f}), rank correlation {gap['return_rank']:.2f}"
        + (f"; the critic's value has {gap['bootstrap']:.0%} of the real weight" if gap["bootstrap"] else ""),
        f"worst step {worst}: reward bias {gap[f'reward_bias/{worst:02d}']:+.4f}, "
        f"continue bias {gap[f'continue_bias/{worst:02d}']:+.4f}; KL {gap['kl']:.3f} nats",
    ]
    if "open_loop_error" in gap:
        lines.append(
            f"open loop: error {gap['open_loop_error']:.2f} standard deviations after {SCORED} steps; "
            f"if nothing changed, {gap['open_loop_unchanged']:.2f}"
        )
    if "open_loop_image_error" in gap:
        error = gap["open_loop_image_error"]
        lines.append(f"open loop of images: error {error:.2f} of that of the episode's mean image after {SCORED} steps")
    return "\n".join(lines)
