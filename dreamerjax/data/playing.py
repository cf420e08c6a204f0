"""Playing whole episodes with a policy, for an evaluation: no replay sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dreamerjax.config.schema import Config
from dreamerjax.core.stopping import Stop
from dreamerjax.core.types import ActFunction, Arrays
from dreamerjax.data.episodes import PlayedEpisode, Recorder
from dreamerjax.envs import Envs, Purpose, Source, Stepper, episode_seed, time_limit

SHORTEST, LONGEST = 1_000, 10_000  # steps of an episode without a time limit


@dataclass(frozen=True)
class EvaluationResult:
    """One entry per episode, in the order of their seeds."""

    returns: np.ndarray  # float64 [episodes]
    lengths: np.ndarray  # int64 [episodes], environment steps
    played: tuple[PlayedEpisode, ...] = ()  # the first of them, as many as were asked for
    cut: int = 0  # episodes that had not ended

    @property
    def remark(self) -> str:
        """What the returns do not tell: that episodes were cut; "" if none was."""
        if not self.cut:
            return ""
        longest = self.lengths.max()
        return (
            f"{self.cut} of {len(self.lengths)} episodes had not ended after {longest} steps and were cut (train.eval_length)"
        )


def longest_episode(config: Config, source: Source | None = None) -> int:
    """Steps after which an evaluation cuts an episode: `train.eval_length`, by default the environment's time limit.

    Without one, as many as the training has, at least SHORTEST and at most LONGEST.
    """
    if config.train.eval_length:
        return config.train.eval_length
    return time_limit(config.env, source) or min(max(config.train.steps, SHORTEST), LONGEST)


def play_episodes(
    envs: Envs,
    policy: ActFunction,
    episodes: int,
    seed: int,
    *,
    longest: int,
    keep: int = 0,
    stop: Stop | None = None,
) -> EvaluationResult:
    """Run exactly `episodes` episodes. Number i is played by stream i modulo n, and has a seed of its own.

    So that short episodes are not favoured, no stream takes over another's share; one that has finished its own is
    stepped on unrecorded. An episode of `longest` steps is cut there. The first `keep` episodes are returned step by step;
    they are in no replay.
    Raises EnvironmentFault as `Collector.collect` does, and Stopped, between two steps, if `stop` says so.
    """
    n, stop = envs.num_envs, stop or Stop()
    stepper, recorder, cut = Stepper(envs, "evaluation", stop), Recorder(min(keep, episodes)), 0
    returns, lengths = np.zeros(episodes), np.zeros(episodes, np.int64)
    return_, length = np.zeros(n), np.zeros(n, np.int64)
    number, is_first, env_step = np.arange(n), np.ones(n, np.bool_), 0  # number: the episode that each stream plays

    def begin() -> Arrays:
        seeds = [episode_seed(seed, Purpose.evaluation, 0, int(episode)) for episode in number]
        return stepper.reset(is_first, seeds, env_step)

    observations = begin()
    while number.min() < episodes:
        stop.look()
        action = np.asarray(policy(observations, is_first)[0])
        following, reward, terminated, truncated = stepper.step(action, env_step)
        recorder.step(number, observations, action, reward)
        observations = following
        env_step += n
        return_, length = return_ + reward, length + 1
        ended = terminated | truncated
        is_first = ended | (length >= longest)
        if is_first.any():
            recorder.end(number, is_first, observations, terminated)
            counted = is_first & (number < episodes)
            cut += int((counted & ~ended).sum())
            returns[number[counted]], lengths[number[counted]] = return_[counted], length[counted]
            number = number + n * is_first
            return_, length = return_ * ~is_first, length * ~is_first
            observations = begin()
    return EvaluationResult(returns, lengths, recorder.episodes(), cut)
