"""Episodes: their seeds, and what has happened so far in those that are being played for training."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from dreamerjax.core.types import ActionSpec, Arrays
from dreamerjax.envs.adapter import Snapshot


class Purpose(IntEnum):
    """Keeps the episodes of training and evaluation apart."""

    training = 0
    evaluation = 1


def episode_seed(seed: int, purpose: Purpose, stream: int, episode: int) -> int:
    """The reset seed (31 bits) of one episode of one stream: always the same, whatever else the run does."""
    sequence = np.random.SeedSequence((seed, int(purpose), stream, episode))
    return int(sequence.generate_state(1)[0] >> 1)


class Progress:
    """Seed, actions, return and length of the episode that each of n streams is in: enough to play it again.

    Kept here rather than in the environments, so that it outlives an environment that fails.
    """

    def __init__(self, n: int, action: ActionSpec, seed: int) -> None:
        self._action, self._seed = action, seed
        self.number = np.zeros(n, np.int64)  # episodes that each stream has left behind
        self.seeds = [self._seed_of(i) for i in range(n)]
        self.return_ = np.zeros(n)  # float64 [n]
        self.length = np.zeros(n, np.int64)
        self._actions = [bytearray() for _ in range(n)]

    def next_seeds(self, ended: np.ndarray) -> list[int]:
        """The reset seed of every stream once those in the mask `ended` [n] are in their next episode."""
        return [self._seed_of(i, ahead=1) if over else self.seeds[i] for i, over in enumerate(ended.tolist())]

    def advance(self, action: np.ndarray, reward: np.ndarray) -> None:
        """One step of every stream: actions [n, ...] and rewards [n]."""
        self.return_ = self.return_ + reward
        self.length = self.length + 1
        for row, tape in zip(action, self._actions, strict=True):
            tape += row.tobytes()

    def begin(self, streams: np.ndarray) -> None:
        """The streams [k] enter their next episode."""
        self.number[streams] += 1
        self.return_[streams], self.length[streams] = 0.0, 0
        for i in streams.tolist():
            self._actions[i] = bytearray()
            self.seeds[i] = self._seed_of(i)

    def snapshots(self, observations: Arrays) -> list[Snapshot]:
        """One per stream, given the newest observations [n, ...]."""
        return [
            Snapshot(
                seed=self.seeds[i],
                actions=self._decode(tape),
                observation={name: values[i] for name, values in observations.items()},
                return_=float(self.return_[i]),
            )
            for i, tape in enumerate(self._actions)
        ]

    def state_dict(self) -> Arrays:
        """Flat arrays, copies."""
        return {
            "number": self.number.copy(),
            "seed": np.array(self.seeds, np.int64),
            "actions": self._decode(b"".join(self._actions)).copy(),
            "return": self.return_.copy(),
            "length": self.length.copy(),
        }

    def load_state_dict(self, arrays: Arrays) -> None:
        """Take over what `state_dict` gave."""
        self.number, self.seeds = np.array(arrays["number"]), arrays["seed"].tolist()
        self.return_, self.length = np.array(arrays["return"]), np.array(arrays["length"])
        tapes = np.split(arrays["actions"], np.cumsum(self.length)[:-1])
        self._actions = [bytearray(tape.tobytes()) for tape in tapes]

    def _seed_of(self, stream: int, ahead: int = 0) -> int:
        return episode_seed(self._seed, Purpose.training, stream, int(self.number[stream]) + ahead)

    def _decode(self, tape: bytes | bytearray) -> np.ndarray:
        return np.frombuffer(tape, self._action.dtype).reshape(-1, *self._action.shape)
