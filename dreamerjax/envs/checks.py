"""Seeds of episodes, and what an environment's numbers must be before they are stored."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from dreamerjax.core.errors import UserError
from dreamerjax.core.types import Arrays, EnvSpec


class Purpose(IntEnum):
    """Keeps the episodes of training and evaluation apart."""

    training = 0
    evaluation = 1


LARGEST_REWARD = float(np.finfo(np.float32).max)


def episode_seed(seed: int, purpose: Purpose, stream: int, episode: int) -> int:
    """The reset seed (31 bits) of one episode of one stream: always the same, whatever else the run does."""
    sequence = np.random.SeedSequence((seed, int(purpose), stream, episode))
    return int(sequence.generate_state(1)[0] >> 1)


def require_valid(spec: EnvSpec, observations: Arrays, env_step: int) -> None:
    """Raise UserError unless every vector is finite and every discrete component below its number of classes.

    Arrays are [n, ...], one row per stream; `env_step` is the number of environment steps before this one.
    """
    for name, entry in spec.observations.items():
        if entry.is_image:
            continue
        values = observations[name]
        limit = np.array(entry.classes, np.uint32)
        valid = values.view(np.uint32) < limit if entry.is_discrete else np.isfinite(values)
        if not valid.all():
            stream = int(np.argmin(valid.all(axis=1)))
            wanted = f"below {entry.classes} and not negative" if entry.is_discrete else "finite"
            raise UserError(
                f"environment step {env_step + stream + 1}, stream {stream}: observation {name!r} must be {wanted}, "
                f"is {_excerpt(values[stream])}",
                exit_code=1,
            )


def require_finite_reward(reward: np.ndarray, env_step: int) -> None:
    """Raise UserError unless every reward [n] is finite as float32."""
    valid = np.abs(reward) <= LARGEST_REWARD
    if not valid.all():
        stream = int(np.argmin(valid))
        raise UserError(
            f"environment step {env_step + stream + 1}, stream {stream}: reward must be finite, is {reward[stream]}",
            exit_code=1,
        )


def _excerpt(values: np.ndarray, limit: int = 8) -> str:
    shown = ", ".join(str(value) for value in values[:limit])
    return f"[{shown}{', ...' if len(values) > limit else ''}]"
