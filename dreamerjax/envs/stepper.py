"""Masked resets and steps of a vector environment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from dreamerjax.core.errors import EnvironmentFault
from dreamerjax.core.stopping import Stop, Stopped
from dreamerjax.core.types import Arrays
from dreamerjax.envs.surroundings import foreign
from dreamerjax.envs.vector import Envs

MEANWHILE = 0.3  # seconds by which a signal may reach a process of the environment before it reaches this one


class Stepper:
    """A vector environment whose results are copied.

    `env_step` is the number of environment steps before the call; faults name it, as a step of `during`. A fault while the
    run is to end raises Stopped: what ends the run may have ended a process of the environment too.
    """

    def __init__(self, envs: Envs, during: str = "environment", stop: Stop | None = None) -> None:
        self.envs, self._during, self._stop = envs, during, stop or Stop()

    def reset(self, mask: np.ndarray, seeds: list[int], env_step: int) -> Arrays:
        """Begin the next episode of the streams in `mask`; observations [n, ...] of all.

        Raises EnvironmentFault.
        """
        chosen: list[int | None] = [seed if masked else None for seed, masked in zip(seeds, mask, strict=True)]
        with self._faults_name(env_step):
            observations, _ = self.envs.reset(seed=chosen, options={"reset_mask": mask.copy()})
        return _copied(observations)

    def step(self, action: np.ndarray, env_step: int) -> tuple[Arrays, np.ndarray, np.ndarray, np.ndarray]:
        """Observations [n, ...], reward float64 [n], terminated [n] and truncated [n] after actions [n, ...].

        Raises EnvironmentFault.
        """
        with self._faults_name(env_step):
            observations, reward, terminated, truncated, _ = self.envs.step(action)
        return _copied(observations), reward, terminated, truncated

    @contextmanager
    def _faults_name(self, env_step: int) -> Iterator[None]:
        try:
            with foreign():
                yield
        except EnvironmentFault as fault:
            text = f"after {self._during} step {env_step}: {fault}"
            if self._stop.within(MEANWHILE):
                raise Stopped(text) from fault
            fault.args = (text,)
            raise


def _copied(observations: Arrays) -> Arrays:
    return {name: values.copy() for name, values in observations.items()}
