"""Gymnasium environments as the agent sees them: flat named arrays in, ActionSpec actions out."""

from dreamerjax.core.errors import EnvironmentFault
from dreamerjax.envs.adapter import Adapter, Snapshot
from dreamerjax.envs.factory import Source, make_env, solved_return, time_limit
from dreamerjax.envs.given import Given
from dreamerjax.envs.progress import Progress, Purpose, episode_seed
from dreamerjax.envs.spaces import env_spec
from dreamerjax.envs.vector import Envs, Stepper, make_vector_env

__all__ = [
    "Adapter",
    "EnvironmentFault",
    "Envs",
    "Given",
    "Progress",
    "Purpose",
    "Snapshot",
    "Source",
    "Stepper",
    "env_spec",
    "episode_seed",
    "make_env",
    "make_vector_env",
    "solved_return",
    "time_limit",
]
