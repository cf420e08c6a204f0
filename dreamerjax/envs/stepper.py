"""Masked resets and steps of a vector environment, with nothing invalid let through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from dreamerjax.core.errors import EnvironmentFault, UserError
from dreamerjax.core.types import Arrays, EnvSpec
from dreamerjax.envs.vector import Envs

LARGEST_REWARD = float(np.finfo(np.float32).max)
SHOWN = 8  # numbers of an invalid observation that an error shows


class Stepper:
    """A vector environment whose results are checked and copied.

    `env_step` is the number of environment steps before the call; errors name it.
    """

    def __init__(self, envs: Envs, spec: EnvSpec) -> None:
        self.envs, self.spec = envs, spec

    def reset(self, mask: np.ndarray, seeds: list[int], env_step: int) -> Arrays:
        """Begin the next episode of the streams in `mask`; observations [n, ...] of all.

        Raises EnvironmentFault if an environment raises, UserError for an observation that is not valid.
        """
        chosen: list[int | None] = [seed if masked else None for seed, masked in zip(seeds, mask, strict=True)]
        with _faults_name(env_step):
            observations, _ = self.envs.reset(seed=chosen, options={"reset_mask": mask.copy()})
        return self._checked(observations, env_step)

    def step(self, action: np.ndarray, env_step: int) -> tuple[Arrays, np.ndarray, np.ndarray, np.ndarray]:
        """Observations [n, ...], reward float64 [n], terminated [n] and truncated [n] after actions [n, ...].

        Raises EnvironmentFault if an environment raises, UserError for an observation or reward that is not valid.
        """
        with _faults_name(env_step):
            observations, reward, terminated, truncated, _ = self.envs.step(action)
        require_finite_reward(reward, env_step)
        return self._checked(observations, env_step), reward, terminated, truncated

    def _checked(self, observations: Arrays, env_step: int) -> Arrays:
        require_valid(self.spec, observations, env_step)
        return {name: values.copy() for name, values in observations.items()}


@contextmanager
def _faults_name(env_step: int) -> Iterator[None]:
    try:
        yield
    except EnvironmentFault as fault:
        fault.args = (f"after environment step {env_step}: {fault}",)
        raise


def require_valid(spec: EnvSpec, observations: Arrays, env_step: int) -> None:
    """Raise UserError unless every vector is finite and every discrete component below its number of classes.

    Arrays are [n, ...], one row per stream; `env_step` is the number of environment steps before this one.
    """
    for name, entry in spec.observations.items():
        if entry.is_image:
            continue
        values = observations[name]
        limit = np.array(entry.classes, np.uint32)
        valid = np.all(values.view(np.uint32) < limit if entry.is_discrete else np.isfinite(values), axis=1)
        if not valid.all():
            wanted = f"below {entry.classes} and not negative" if entry.is_discrete else "finite"
            found = values[np.argmin(valid)]
            shown = ", ".join(map(str, found[:SHOWN])) + ", ..." * (len(found) > SHOWN)
            raise _invalid(valid, env_step, f"observation {name!r} must be {wanted}, is [{shown}]")


def require_finite_reward(reward: np.ndarray, env_step: int) -> None:
    """Raise UserError unless every reward [n] is finite as float32."""
    valid = np.abs(reward) <= LARGEST_REWARD
    if not valid.all():
        raise _invalid(valid, env_step, f"reward must be finite, is {reward[np.argmin(valid)]}")


def _invalid(valid: np.ndarray, env_step: int, words: str) -> UserError:
    """About the first stream that is not in the mask `valid` [n]."""
    stream = int(np.argmin(valid))
    return UserError(f"environment step {env_step + stream + 1}, stream {stream}: {words}", exit_code=1)
