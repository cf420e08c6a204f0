"""One environment from its configuration."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec as Registration
from gymnasium.wrappers import AddRenderObservation, RepeatAction, TimeLimit

from dreamerjax.config.schema import EnvConfig, Pixels
from dreamerjax.core.errors import UserError
from dreamerjax.core.run_directory import run_around
from dreamerjax.envs import extras
from dreamerjax.envs.adapter import Adapter, close_quietly
from dreamerjax.envs.boundary import construction
from dreamerjax.envs.given import Given, require_registered
from dreamerjax.envs.image_view import ImageView

Source = Registration | Given  # what makes an environment, where the id does not say it


def find_registration(env_id: str) -> Registration:
    """Gymnasium's entry of `env_id`, after importing MODULE of a `MODULE:ID`, or what an id of an extra needs.

    Raises UserError if the module cannot be imported, a package of the extra is missing, the id is unknown, or it is that of
    an environment given from Python.
    """
    require_registered(env_id)
    module, _, name = env_id.rpartition(":")
    with construction(env_id):
        extras.register(env_id)
        if module:
            _require_from_outside(env_id, module)
            importlib.import_module(module)
        try:
            return gym.spec(name)
        except gym.error.NameNotFound as error:
            own = "" if module or "/" in name else f" One of your own needs its module: env.id=module:{name}"
            raise gym.error.NameNotFound(f"{error}{own}") from error


def solved_return(env_id: str, source: Source | None = None) -> float | None:
    """The mean return that gymnasium's registration counts as solved; None where there is no such number."""
    if isinstance(source, Given):
        return None
    return (source or find_registration(env_id)).reward_threshold


def time_limit(config: EnvConfig, source: Source | None = None) -> int | None:
    """Steps after which an episode is truncated, before repeating; None where nobody says so."""
    if config.time_limit or isinstance(source, Given):
        return config.time_limit or None
    return (source or find_registration(config.id)).max_episode_steps


def _require_from_outside(env_id: str, module: str) -> None:
    """Raise UserError for code that lies in a run's folder: to look at a run must not run what it brings."""
    package = module.partition(".")[0]
    found = None if package in sys.modules else importlib.util.find_spec(package)
    for place in [] if found is None else [found.origin, *(found.submodule_search_locations or ())]:
        if place and (run := run_around(Path(place) / "_")) is not None:
            raise UserError(
                f"env.id={env_id}: module {package} lies in the folder of a run, {run}: code that comes with a run is not run"
            )


def make_env(
    config: EnvConfig, render_mode: str | None = None, source: Source | None = None, stream: int | None = None
) -> Adapter:
    """The environment of the configuration, with observations and actions as its `env_spec` says.

    `action_repeat` sums the rewards of the repeats; `time_limit` replaces the environment's own limit and, like it,
    counts steps before repeating. `pixels` adds what `render` returns as the observation "image", once per repeated action.
    A `source` takes the place of the id: in a worker process, the id may not be registered. Faults name the `stream`.

    Raises UserError if the id is unknown, the environment cannot be built, or a space is not supported.
    """
    env = gymnasium_env(config, render_mode, source)
    name = config.id if stream is None else f"{config.id} (stream {stream})"
    try:
        with construction(config.id):
            return Adapter(env, name, ImageView.from_config(config))
    except UserError as error:
        close_quietly(env, name)
        prefix = f"env.id={config.id}: "
        raise UserError(prefix + str(error).removeprefix(prefix)) from error


def gymnasium_env(config: EnvConfig, render_mode: str | None = None, source: Source | None = None) -> gym.Env[Any, Any]:
    """`make_env` with the environment's own spaces: time limit, repeated actions and pixels as configured."""
    source = source or find_registration(config.id)
    kwargs: dict[str, Any] = dict(config.kwargs)
    if render_mode is not None or config.pixels is not Pixels.none:
        kwargs["render_mode"] = render_mode or "rgb_array"
    if kwargs.get("render_mode") == "rgb_array":
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame needs no screen to draw into memory
    with construction(config.id):
        if isinstance(source, Given):
            env = source(**kwargs)
            env = TimeLimit(env, config.time_limit) if config.time_limit else env
        else:
            env = gym.make(source, max_episode_steps=config.time_limit or None, **kwargs)
        if config.action_repeat > 1:
            env = RepeatAction(env, config.action_repeat)
        if config.pixels is not Pixels.none:
            env = AddRenderObservation(env, config.pixels is Pixels.only, render_key="image")
    return env
