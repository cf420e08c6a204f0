"""Playing whole episodes with a policy, for an evaluation: no replay sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dreamerjax.core.types import ActFunction, Arrays
from dreamerjax.data.episodes import PlayedEpisode, Recorder
from dreamerjax.envs import Envs, Purpose, Stepper, episode_seed


@dataclass(frozen=True)
class EvaluationResult:
    """One entry per episode, in the order of their seeds."""

    returns: np.ndarray  # float64 [episodes]
    lengths: np.ndarray  # int64 [episodes], environment steps
    played: tuple[PlayedEpisode, ...] = ()  # the first of them, as many as were asked for


def play_episodes(envs: Envs, policy: ActFunction, episodes: int, seed: int, *, keep: int = 0) -> EvaluationResult:
    """Run exactly `episodes` episodes. Number i is played by stream i modulo n, and has a seed of its own.

    So that short episodes are not favoured, no stream takes over another's share; one that has finished its own is
    stepped on unrecorded. The first `keep` episodes are returned step by step; they are in no replay.
    Raises EnvironmentFault as `Collector.collect` does.
    """
    n = envs.num_envs
    stepper, recorder = Stepper(envs, "evaluation"), Recorder(min(keep, episodes))
    returns, lengths = np.zeros(episodes), np.zeros(episodes, np.int64)
    return_, length = np.zeros(n), np.zeros(n, np.int64)
    number, is_first, env_step = np.arange(n), np.ones(n, np.bool_), 0  # number: the episode that each stream plays

    def begin() -> Arrays:
        seeds = [episode_seed(seed, Purpose.evaluation, 0, int(episode)) for episode in number]
        return stepper.reset(is_first, seeds, env_step)

    observations = begin()
    while number.min() < episodes:
        action = np.asarray(policy(observations, is_first)[0])
        following, reward, terminated, truncated = stepper.step(action, env_step)
        recorder.step(number, observations, action, reward)
        observations = following
        env_step += n
        return_, length = return_ + reward, length + 1
        is_first = terminated | truncated
        if is_first.any():
            recorder.end(number, is_first, observations, terminated)
            counted = is_first & (number < episodes)
            returns[number[counted]], lengths[number[counted]] = return_[counted], length[counted]
            number = number + n * is_first
            return_, length = return_ * ~is_first, length * ~is_first
            observations = begin()
    return EvaluationResult(returns, lengths, recorder.episodes())
