"""Between an environment's own spaces and the agent's; faults become one line, and an episode can be played again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from dreamerjax.core.errors import EnvironmentFault, warn_once
from dreamerjax.core.types import Arrays
from dreamerjax.envs import descriptions, spaces
from dreamerjax.envs.boundary import NotAcceptedError, fault, faults, flag, number
from dreamerjax.envs.image_view import ImageView
from dreamerjax.envs.surroundings import foreign


@dataclass(frozen=True)
class Snapshot:
    """An episode in progress, as whoever steps the environment has seen it."""

    seed: int  # of its reset
    actions: np.ndarray  # [steps since the reset, *action shape]
    observation: Arrays  # the newest
    return_: float  # rewards since the reset, summed in order


class Adapter(gym.Wrapper[Arrays, np.ndarray, Any, Any]):
    """Observations become a dict of flat named arrays; actions come as ActionSpec says and are translated back.

    Images are shown as `view` says. Before an episode's first frame lie copies of it.
    Whatever the environment returns is copied, checked and taken as its space says, or it becomes an EnvironmentFault, as
    does whatever it raises; in `close`, that is a warning. `restore` plays an episode again to its snapshot. `remarks` are
    about its spaces. `watch` is called with each observation as the environment has it.

    `info` dictionaries end here: nothing reads them, and a vector environment fails on those that differ between
    streams. Assign `pending` first and call `restore` afterwards: vector environments can pass each stream its own
    attribute, but not its own argument.
    """

    def __init__(self, env: gym.Env[Any, Any], name: str, view: ImageView) -> None:
        """`name` is what faults call the environment. Raises UserError if a space is not supported."""
        super().__init__(env)
        self._name, self._view = name, view
        self._spaces = env.observation_space, env.action_space
        self._spec = spec = spaces.env_spec(*self._spaces, view)
        self._leaves = spaces.leaves(self._spaces[0], view)
        self.remarks = list(descriptions.remarks(self._leaves, self._spaces[1]))
        images = [name for name, entry in spec.observations.items() if entry.is_image and view.frames > 1]
        self._frames: dict[str, deque[np.ndarray]] = {name: deque(maxlen=view.frames) for name in images}
        self.to_env = spaces.action_converter(self._spaces[1])
        self.observation_space: gym.Space[Any] = spaces.observation_space(spec)
        self.action_space: gym.Space[Any] = spaces.action_space(spec.action)
        self.pending: Snapshot | None = None
        self.watch: Callable[[Any], None] = lambda observation: None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Arrays, dict[str, Any]]:
        try:
            with foreign():
                observation, _ = self.env.reset(seed=seed, options=options or None)
            self._require_same_spaces()
            self.begin()
            self.watch(observation)
            return self.flatten(observation), {}
        except BaseException as error:
            raise fault(self._name, "reset", error) from error

    def step(self, action: np.ndarray) -> tuple[Arrays, float, bool, bool, dict[str, Any]]:
        try:
            with foreign():
                observation, reward, terminated, truncated, _ = self.env.step(self.to_env(action))
            self.watch(observation)
            ends = flag("terminated", terminated), flag("truncated", truncated)
            return self.flatten(observation), number("reward", reward), *ends, {}
        except BaseException as error:
            raise fault(self._name, "step", error) from error

    def render(self) -> Any:
        with faults(self._name, "render"):
            return self.env.render()

    def close(self) -> None:
        close_quietly(self.env, self._name)

    def begin(self) -> None:
        """Forget the frames of the episode before."""
        for frames in self._frames.values():
            frames.clear()

    def flatten(self, observation: Any) -> Arrays:
        """The environment's own newest observation as flat named arrays, without a batch axis.

        Raises NotAcceptedError for one that does not fit its space, is not finite, or has a class that there is not.
        """
        flat = {leaf.name: leaf.convert(leaf.inside(observation)) for leaf in self._leaves}
        for name, frames in self._frames.items():
            frames.extend([flat[name]] * max(1, self._view.frames - len(frames)))
            flat[name] = np.concatenate(frames, axis=-1)
        return flat

    def restore(self) -> str:
        """Reset with the pending snapshot's seed and repeat its actions.

        Returns "" if that led to the same observation and return, otherwise in a few words what differs: the
        environment is then not deterministic given its seed and actions, and in no defined state until the next reset.
        """
        assert self.pending is not None
        snapshot, self.pending = self.pending, None
        count, return_ = len(snapshot.actions), 0.0
        try:
            observation, _ = self.reset(seed=snapshot.seed)
            for index, action in enumerate(snapshot.actions):
                observation, reward, terminated, truncated, _ = self.step(action)
                return_ += reward
                if terminated or truncated:
                    return f"the episode ended after {index + 1} of the same {count} actions"
        except EnvironmentFault as error:
            return str(error)
        for name, expected in snapshot.observation.items():
            if not np.array_equal(observation[name], expected):
                return f"observation {name!r} differs after the same seed and {count} actions"
        return "" if return_ == snapshot.return_ else f"the return differs after the same seed and {count} actions"

    def _require_same_spaces(self) -> None:
        """Other bounds of observations are accepted: nothing depends on them."""
        (observation, action), now = self._spaces, (self.env.observation_space, self.env.action_space)
        if now[1] is not action and now[1] != action:
            raise NotAcceptedError(f"its action space is now {now[1]}, it was {action}")
        if now[0] is not observation and now[0] != observation and spaces.env_spec(*now, self._view) != self._spec:
            raise NotAcceptedError(f"its observation space is now {now[0]}, it was {observation}")


def close_quietly(env: gym.Env[Any, Any], name: str) -> None:
    """End an environment; what it raises then is a warning, for nothing that was learned depends on it."""
    try:
        with foreign():
            env.close()
    except BaseException as error:
        warn_once(str(fault(name, "close", error)))
