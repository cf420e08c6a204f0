"""The dream-reality gap: what an agent imagines from a state against what the same policy then really got.

Pure NumPy. Legend: E episodes of T_e steps, N states, K imagined steps. Observation t of an episode is 0 .. T_e; reward
t (from 0) came with observation t + 1. A state is an observation at which an action was taken: 0 .. T_e - 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

BOOTSTRAP_LIMIT = 0.5  # preferred states have at most this weight on the critic's value where a time limit cut the episode


class States(NamedTuple):
    """Where states lie in their episodes."""

    episode: np.ndarray  # int [N]
    step: np.ndarray  # int [N]


class RealSteps(NamedTuple):
    """What really followed each state. After a real end the reward is 0; beyond a time limit nothing is known."""

    reward: np.ndarray  # [K, N]
    alive: np.ndarray  # [K, N] 1 if the episode had not ended with this step
    known: np.ndarray  # bool [K, N]


@dataclass(frozen=True)
class Calibration:
    """Belief and reality side by side. A step of which nothing is known is NaN."""

    return_imagined: np.ndarray  # [N] lambda return at the state, mean over its dreams
    return_real: np.ndarray  # [N] discounted return to the episode's end
    bootstrap: np.ndarray  # [N] weight of the critic's value in `return_real`
    reward_imagined: np.ndarray  # [K] mean reward of step k, 0 after an end
    reward_real: np.ndarray  # [K]
    alive_imagined: np.ndarray  # [K] probability of going on after step k
    alive_real: np.ndarray  # [K]


def bootstrap_weights(lengths: np.ndarray, terminated: np.ndarray, states: States, gamma: float) -> np.ndarray:
    """gamma^(steps left) of states in episodes that a time limit cut, 0 in those that ended: [N]."""
    left = lengths[states.episode] - states.step
    return np.where(terminated[states.episode], 0.0, gamma ** left.astype(np.float64))


def choose_states(lengths: np.ndarray, terminated: np.ndarray, gamma: float, count: int, rng: np.random.Generator) -> States:
    """Up to `count` different states of episodes of `lengths` [E], drawn uniformly, in their order.

    From those whose bootstrap weight is at most `BOOTSTRAP_LIMIT`; from all if there are none.
    """
    episode = np.repeat(np.arange(len(lengths)), lengths)
    step = np.concatenate([np.arange(length) for length in lengths])
    preferred = bootstrap_weights(lengths, terminated, States(episode, step), gamma) <= BOOTSTRAP_LIMIT
    candidates = preferred.nonzero()[0] if preferred.any() else np.arange(len(step))
    chosen = np.sort(rng.choice(candidates, min(count, len(candidates)), replace=False))
    return States(episode[chosen], step[chosen])


def discounted_returns(rewards: np.ndarray, gamma: float, bootstrap: float) -> np.ndarray:
    """G_t = sum_{k >= 0} gamma^k r_{t+k} + gamma^(T-t) bootstrap of rewards [T]: [T]."""
    from scipy.signal import lfilter  # slow to import

    backwards = np.concatenate([[bootstrap], rewards[::-1]])
    return np.asarray(lfilter([1.0], [1.0, -gamma], backwards)[:0:-1])


def real_returns(
    rewards: Sequence[np.ndarray], terminated: np.ndarray, last_values: np.ndarray, states: States, gamma: float
) -> np.ndarray:
    """The return from each state to its episode's end [N]; where a time limit cut it, the critic's `last_values` [E] add."""
    bootstraps = np.where(terminated, 0.0, last_values)
    per_episode = [discounted_returns(rewards[i], gamma, bootstraps[i]) for i in range(len(rewards))]
    return np.array([per_episode[episode][step] for episode, step in zip(*states, strict=True)])


def real_steps(rewards: Sequence[np.ndarray], terminated: np.ndarray, states: States, horizon: int) -> RealSteps:
    """The `horizon` steps after each state."""
    lengths = np.array([len(values) for values in rewards])[states.episode]
    index = states.step + np.arange(horizon)[:, None]  # of the reward, [K, N]
    inside = index < lengths
    table = np.zeros((len(rewards), int(lengths.max())))
    for row, values in zip(table, rewards, strict=True):
        row[: len(values)] = values[: len(row)]
    ended = terminated[states.episode]
    reward = np.where(inside, table[states.episode, np.minimum(index, lengths - 1)], 0.0)
    alive = np.where(ended, index + 1 < lengths, inside)
    return RealSteps(reward, alive.astype(np.float64), inside | ended)


def known_mean(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Mean over the known states of each step, [K, N] -> [K]; NaN where there is none."""
    counts = known.sum(axis=1)
    sums = np.where(known, values, 0.0).sum(axis=1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def rank_correlation(left: np.ndarray, right: np.ndarray) -> float:
    """Spearman's rank correlation of [N] and [N]; 0 where either is constant. Pairs with a non-finite number are left out."""
    from scipy.stats import spearmanr  # slow to import

    finite = np.isfinite(left) & np.isfinite(right)
    left, right = left[finite], right[finite]
    if len(left) < 2 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return 0.0
    return float(spearmanr(left, right).statistic)


def gap_metrics(calibration: Calibration, kl: np.ndarray) -> dict[str, float]:
    """`gap/*` of docs/metrics.md; `kl` [N] is KL(posterior, prior) at the states.

    Steps of which nothing is known are left out.
    """
    imagined, real = calibration.return_imagined, calibration.return_real
    mean_real = float(real.mean())
    metrics = {
        "states": float(len(real)),
        "bootstrap": float(calibration.bootstrap.mean()),
        "return_imagined": float(imagined.mean()),
        "return_real": mean_real,
        "return_bias": float((imagined - real).mean()),
        "return_error": float(np.abs(imagined - real).mean()),
        "return_ratio": float(imagined.mean()) / mean_real if mean_real else 0.0,
        "return_rank": rank_correlation(imagined, real),
        "kl": float(kl.mean()),
    }
    reward_bias = calibration.reward_imagined - calibration.reward_real
    continue_bias = calibration.alive_imagined - calibration.alive_real
    for k in np.isfinite(calibration.reward_real).nonzero()[0].tolist():
        metrics[f"reward_bias/{k + 1:02d}"] = float(reward_bias[k])
        metrics[f"continue_bias/{k + 1:02d}"] = float(continue_bias[k])
    metrics["worst_step"] = 1.0 + float(np.argmax(np.nan_to_num(np.abs(reward_bias), nan=-1.0)))
    return {f"gap/{name}": value for name, value in metrics.items()}


def open_loop_error(dreams: np.ndarray, real: np.ndarray, std: np.ndarray) -> float:
    """Mean absolute error of dreams [M, S] of real numbers [S], in units of `std` [S]; NaN if all numbers are constant."""
    varying = std > 0
    if not varying.any():
        return float("nan")
    return float((np.abs(dreams - real)[:, varying] / std[varying]).mean())


def image_error(dreamed: np.ndarray, real: np.ndarray, episode: np.ndarray) -> float:
    """How far a dreamed image is off, in units of how far an episode's images are off their mean; NaN if none ever changes.

    Both are root mean squares over pixels, channels, and for the episode over its images. A share of each pixel's own spread
    would be decided by pixels that hardly ever change.

    Args:
        dreamed: [H, W, C] within [0, 1].
        real: uint8 [H, W, C], what was to be dreamed.
        episode: uint8 [T, H, W, C], every image of the episode.
    """
    spread = np.sqrt(episode.var(axis=0, dtype=np.float32).mean())
    return float(np.sqrt(np.square(255.0 * dreamed - real).mean()) / spread) if spread else float("nan")
