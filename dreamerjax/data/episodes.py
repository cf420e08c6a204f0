"""Whole episodes as an evaluation played them: held out, for they never enter the replay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dreamerjax.core.types import Arrays


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
