"""Whole episodes: played with a policy for an evaluation, and kept step by step. No replay sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dreamerjax.config.schema import Config
from dreamerjax.core.stopping import Stop
from dreamerjax.core.types import ActFunction, Arrays
from dreamerjax.envs import Envs, Purpose, Source, Stepper, episode_seed, time_limit

SHORTEST, LONGEST = 1_000, 10_000  # steps of an episode without a time limit


@dataclass(frozen=True)
class PlayedEpisode:
    """T steps of one episode, from its reset to its end."""

    observations: Arrays  # {name: [T+1, ...]}, the final one included
    actions: np.ndarray  # [T, C]; actions[t] was taken at observation t
    rewards: np.ndarray  # float64 [T]; rewards[t] came with observation t + 1
    terminated: bool  # False: cut by a time limit

    def __len__(self) -> int:
        return len(self.rewards)


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


class Recorder:
    """Keeps the first `count` episodes of an evaluation, whichever stream of the environments plays them."""

    def __init__(self, count: int) -> None:
        self._steps: list[list[tuple[Arrays, np.ndarray, float]]] = [[] for _ in range(count)]
        self._ends: dict[int, tuple[Arrays, bool]] = {}

    def step(self, numbers: np.ndarray, observations: Arrays, actions: np.ndarray, rewards: np.ndarray) -> None:
        """A step of every stream: the episode that each plays [n], what it saw and did [n, ...], the reward after [n]."""
        for stream in self._recorded(numbers):
            seen = {name: values[stream].copy() for name, values in observations.items()}
            self._steps[numbers[stream]].append((seen, np.array(actions[stream]), float(rewards[stream])))

    def end(self, numbers: np.ndarray, ended: np.ndarray, final: Arrays, terminated: np.ndarray) -> None:
        """The streams in the mask `ended` [n] ended their episodes with observations `final` [n, ...]."""
        for stream in self._recorded(numbers):
            if ended[stream]:
                last = {name: values[stream].copy() for name, values in final.items()}
                self._ends[int(numbers[stream])] = last, bool(terminated[stream])

    def episodes(self) -> tuple[PlayedEpisode, ...]:
        """All that ended, in the order of their numbers."""
        return tuple(_stack(self._steps[number], *self._ends[number]) for number in sorted(self._ends))

    def _recorded(self, numbers: np.ndarray) -> list[int]:
        return (numbers < len(self._steps)).nonzero()[0].tolist()


def _stack(steps: list[tuple[Arrays, np.ndarray, float]], final: Arrays, terminated: bool) -> PlayedEpisode:
    observations = {name: np.stack([*(seen[name] for seen, _, _ in steps), last]) for name, last in final.items()}
    actions, rewards = np.stack([action for _, action, _ in steps]), np.array([reward for _, _, reward in steps])
    return PlayedEpisode(observations, actions, rewards, terminated)


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
