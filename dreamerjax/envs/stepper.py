"""Masked resets and steps of a vector environment, with nothing invalid let through."""

from __future__ import annotations

import numpy as np

from dreamerjax.core.types import Arrays, EnvSpec
from dreamerjax.envs.checks import require_finite_reward, require_valid
from dreamerjax.envs.faults import EnvironmentFault
from dreamerjax.envs.vector import Envs


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
        try:
            observations, _ = self.envs.reset(seed=chosen, options={"reset_mask": mask.copy()})
        except EnvironmentFault as fault:
            raise _at_step(fault, env_step) from fault.__cause__
        return self._checked(observations, env_step)

    def step(self, action: np.ndarray, env_step: int) -> tuple[Arrays, np.ndarray, np.ndarray, np.ndarray]:
        """Observations [n, ...], reward float64 [n], terminated [n] and truncated [n] after actions [n, ...].

        Raises EnvironmentFault if an environment raises, UserError for an observation or reward that is not valid.
        """
        try:
            observations, reward, terminated, truncated, _ = self.envs.step(action)
        except EnvironmentFault as fault:
            raise _at_step(fault, env_step) from fault.__cause__
        require_finite_reward(reward, env_step)
        return self._checked(observations, env_step), reward, terminated, truncated

    def _checked(self, observations: Arrays, env_step: int) -> Arrays:
        require_valid(self.spec, observations, env_step)
        return {name: values.copy() for name, values in observations.items()}


def _at_step(fault: EnvironmentFault, env_step: int) -> EnvironmentFault:
    numbered = EnvironmentFault(f"after environment step {env_step}: {fault}", fault.exit_code)
    for note in getattr(fault, "__notes__", []):
        numbered.add_note(note)
    return numbered
