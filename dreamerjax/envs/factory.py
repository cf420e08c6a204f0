"""One environment from its configuration."""

from __future__ import annotations

import importlib
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec as Registration
from gymnasium.wrappers import RepeatAction

from dreamerjax.config import EnvConfig
from dreamerjax.envs import extras
from dreamerjax.envs.adapter import Adapter
from dreamerjax.envs.resumable import Resumable
from dreamerjax.errors import UserError


def find_registration(env_id: str) -> Registration:
    """Gymnasium's entry of `env_id`, after importing MODULE of a `MODULE:ID`, or what an id of an extra needs.

    Raises UserError if the module cannot be imported, a package of the extra is missing, or the id is unknown.
    """
    module, _, name = env_id.rpartition(":")
    try:
        extras.register(env_id)
        if module:
            importlib.import_module(module)
        return gym.spec(name)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"env.id={env_id}: {type(error).__name__}: {error}") from error


def make_env(config: EnvConfig, render_mode: str | None = None) -> Resumable:
    """The environment of the configuration, with observations and actions as its `env_spec` says.

    `action_repeat` sums the rewards of the repeats; `time_limit` replaces the environment's own limit and, like it,
    counts steps before repeating.

    Raises UserError if the id is unknown, the environment cannot be built, or a space is not supported.
    """
    return build_env(find_registration(config.id), config, render_mode)


def build_env(registration: Registration, config: EnvConfig, render_mode: str | None = None) -> Resumable:
    """`make_env` with the registration already found."""
    kwargs: dict[str, Any] = dict(config.kwargs)
    if render_mode is not None:
        kwargs["render_mode"] = render_mode
    try:
        env = gym.make(registration, max_episode_steps=config.time_limit or None, **kwargs)
    except Exception as error:
        raise UserError(f"env.id={config.id}: {type(error).__name__}: {error}") from error
    if config.action_repeat > 1:
        env = RepeatAction(env, config.action_repeat)
    try:
        return Resumable(Adapter(env), config.id)
    except UserError as error:
        env.close()
        raise UserError(f"env.id={config.id}: {error}") from error
