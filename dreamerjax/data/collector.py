"""Stepping a vector environment with a policy, into the replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dreamerjax.core.errors import UserError
from dreamerjax.core.stopping import Stop
from dreamerjax.core.types import ActFunction, Arrays, EnvSpec
from dreamerjax.data.replay import Field, Replay
from dreamerjax.envs import Envs, Progress, Stepper


@dataclass(frozen=True)
class Episode:
    """A finished training episode."""

    stream: int
    return_: float  # sum of rewards
    length: int  # environment steps
    env_step: int  # of the whole run, after the tick in which it ended


def record_fields(spec: EnvSpec, latents: Mapping[str, Field]) -> dict[str, Field]:
    """The fields of a replay record (shape, dtype): observations, reward, action, flags, and the policy's latents."""
    fields: dict[str, Field] = {name: (entry.shape, entry.dtype) for name, entry in spec.observations.items()}
    fields |= {"reward": ((), np.float32), "action": (spec.action.shape, spec.action.dtype)}
    fields |= dict.fromkeys(("is_first", "is_last", "is_terminal"), ((), np.bool_))
    return fields | dict(latents)


class Collector:
    """Steps all streams of a vector environment with a policy and writes their steps to the replay.

    A replay record holds obs_t, the reward that came with it, the action taken at it, is_first, is_last, is_terminal
    and the policy's latents. An episode that ends gets its final record at once (zero action and latents; a time limit
    is is_last without is_terminal) and the stream begins the next one, with a seed that depends only on the run's seed,
    the stream and the episode's number: there is no random state here.

    A tick is all or nothing: if an environment raises or yields an invalid number, nothing of that tick is written or
    counted, and `state_dict` still describes the run as it was before. No further tick is possible then.
    """

    def __init__(
        self, envs: Envs, spec: EnvSpec, replay: Replay, seed: int, *, stop: Stop | None = None, processes: int = 1
    ) -> None:
        """`stop` says whether the run is to end, which turns a fault into Stopped.

        `processes` have a collector each and step at the same time: `env_steps` counts the steps of all, `episodes` its own.
        """
        n = envs.num_envs
        self.env_steps = 0
        self.episodes = 0  # finished
        self._envs, self._spec, self._replay, self._processes = envs, spec, replay, processes
        self._stepper = Stepper(envs, "environment", stop)
        self._blank = {
            name: np.zeros((n, *shape), dtype)
            for name, (shape, dtype) in replay.fields.items()
            if name not in spec.observations
        }
        self._progress = Progress(n, spec.action, seed)
        self._reward = np.zeros(n, np.float32)
        self._is_first = np.ones(n, np.bool_)
        self._observations = self._stepper.reset(self._is_first, self._progress.seeds, 0)

    def collect(self, policy: ActFunction, ticks: int) -> list[Episode]:
        """Make `ticks` steps of every stream; the episodes that ended.

        Latents are stored if the replay has a field for them; a policy without leaves zeros there.

        Raises EnvironmentFault if an environment raises, returns what is not valid, or its process dies.
        """
        finished: list[Episode] = []
        for _ in range(ticks):
            finished += self._tick(policy)
        return finished

    def _tick(self, policy: ActFunction) -> list[Episode]:
        given, latents = policy(self._observations, self._is_first)
        action = np.asarray(given, self._spec.action.dtype)
        final, reward, terminated, truncated = self._stepper.step(action, self.env_steps)
        done = terminated | truncated
        following = final
        if done.any():
            following = self._stepper.reset(done, self._progress.next_seeds(done), self.env_steps + len(done))
        current = {"reward": self._reward, "action": action, "is_first": self._is_first}
        stored = {name: np.asarray(values) for name, values in latents.items() if name in self._blank}
        self._replay.add({**self._blank, **self._observations, **current, **stored})
        self.env_steps += len(done) * self._processes
        self._progress.advance(action, reward)
        self._reward = reward.astype(np.float32)
        self._observations, self._is_first = following, done
        if not done.any():
            return []
        ended = done.nonzero()[0]
        returns, lengths = self._progress.return_[ended].tolist(), self._progress.length[ended].tolist()
        self._end(ended, final, terminated)
        self.episodes += len(ended)
        return [Episode(*entry, self.env_steps) for entry in zip(ended.tolist(), returns, lengths, strict=True)]

    def _end(self, streams: np.ndarray, final: Arrays, is_terminal: np.ndarray) -> None:
        """Write the final records of `streams`, given observations and is_terminal of all; enter the next episodes."""
        record = {name: values[streams] for name, values in {**self._blank, **final}.items()}
        last = {"reward": self._reward[streams], "is_last": np.ones(len(streams), np.bool_)}
        self._replay.add({**record, **last, "is_terminal": is_terminal[streams]}, streams)
        self._progress.begin(streams)
        self._reward[streams] = 0.0

    def begin_again(self) -> None:
        """Leave the present episodes, which are truncated in the replay, and begin the next: somebody used the environments."""
        self._abandon(np.ones(self._envs.num_envs, np.bool_))

    def state_dict(self) -> tuple[Arrays, dict[str, Any]]:
        """Flat arrays, and what goes into JSON. The environments are described by their seeds and actions.

        Does not call the environments, so that it works after one has failed.
        """
        arrays = {f"observation.{name}": values.copy() for name, values in self._observations.items()}
        arrays |= {"reward": self._reward.copy(), "is_first": self._is_first.copy(), **self._progress.state_dict()}
        return arrays, {"env_steps": self.env_steps, "episodes": self.episodes}

    def load_state_dict(self, arrays: Arrays, info: dict[str, Any]) -> tuple[bool, str]:
        """Continue where `state_dict` was taken: (whether every stream was restored exactly, "" or why not).

        Episodes are played again up to where they were. A stream whose environment does not get there begins a new
        episode, and its old one is ended in the replay as truncated; so load the replay first.

        Raises UserError if the number of streams differs, EnvironmentFault if an environment cannot be reset.
        """
        if len(arrays["number"]) != self._envs.num_envs:
            saved = len(arrays["number"])
            raise UserError(f"env.num_envs={self._envs.num_envs}, but the saved run has {saved} environment streams")
        self.env_steps, self.episodes = int(info["env_steps"]), int(info["episodes"])
        self._reward, self._is_first = np.array(arrays["reward"]), np.array(arrays["is_first"])
        self._observations = {name: np.array(arrays[f"observation.{name}"]) for name in self._spec.observations}
        self._progress.load_state_dict(arrays)
        self._stepper.reset(np.ones_like(self._is_first), self._progress.seeds, self.env_steps)
        self._envs.set_attr("pending", self._progress.snapshots(self._observations))
        reasons = self._envs.call("restore")
        lost = np.array([bool(reason) for reason in reasons])
        if lost.any():
            self._abandon(lost)
        return not lost.any(), "; ".join(f"stream {i}: {reason}" for i, reason in enumerate(reasons) if reason)

    def _abandon(self, lost: np.ndarray) -> None:
        """Truncate the current episodes of the streams in the mask `lost` and begin the next ones."""
        self._end((lost & ~self._is_first).nonzero()[0], self._observations, np.zeros_like(lost))
        self._progress.begin((lost & self._is_first).nonzero()[0])
        fresh = self._stepper.reset(lost, self._progress.seeds, self.env_steps)
        for name, values in fresh.items():
            self._observations[name][lost] = values[lost]
        self._is_first = self._is_first | lost
