"""An environment that is given as a Python object: a gymnasium class, or a function that makes environments."""

from __future__ import annotations

import re
from typing import Any
from weakref import WeakValueDictionary

import gymnasium as gym

from dreamerjax.core.errors import UserError

PREFIX = "python/"  # what the ids of such environments begin with: no registry knows them


class Given:
    """Makes an environment at each call; `id` is what the configuration calls it. It can be sent to another process."""

    def __init__(self, make: Any) -> None:
        """Raises UserError for what cannot be called, and for an environment itself: several are needed."""
        if isinstance(make, gym.Env):
            raise UserError(
                f"env is one {type(make).__name__}, but several are needed: give the class, or a function such as "
                f"lambda: {type(make).__name__}(...)"
            )
        if not callable(make):
            raise UserError(f"env must be an id, a gymnasium.Env class or a function that makes one, not {make!r}")
        name = f"{getattr(make, '__module__', '')}.{getattr(make, '__qualname__', type(make).__name__)}"
        self.id = PREFIX + re.sub(r"[^\w.]+", "", name).strip(".")
        self._make = make
        self._made: WeakValueDictionary[int, gym.Env[Any, Any]] = WeakValueDictionary()  # by id: they may call each other equal

    def __call__(self, **kwargs: Any) -> gym.Env[Any, Any]:
        """A new environment. Raises UserError for anything else, whatever the function itself raises."""
        env = self._make(**kwargs)
        if not isinstance(env, gym.Env):
            raise UserError(f"env.id={self.id}: it made {type(env).__name__}, which is no gymnasium.Env")
        if self._made.get(id(env)) is env:
            raise UserError(f"env.id={self.id}: it made the same environment twice, and each stream needs its own")
        self._made[id(env)] = env
        return env

    def __reduce__(self) -> tuple[Any, ...]:
        return Given, (self._make,)


def require_registered(env_id: str) -> None:
    """Raise UserError for an id of an environment that only its Python object can make."""
    if env_id.startswith(PREFIX):
        raise UserError(
            f"env.id={env_id}: this environment was given from Python, which alone can make it again: "
            "dreamerjax.learn(env, resume=run) or Agent.load(run, env=env), with the same class or function"
        )


def source_of(env: Any, env_id: str, path: str) -> Given | None:
    """What makes the environment of the run at `path`, whose `env.id` is `env_id`, when a program says that it is `env`.

    None where the id alone makes it. Raises UserError where `env` is another one.
    """
    if env is None or isinstance(env, str):
        if env not in (None, env_id):
            raise UserError(f"{path} is of the environment {env_id}, not {env}")
        require_registered(env_id)
        return None
    given = Given(env)
    if not env_id.startswith(PREFIX):
        raise UserError(f"{path} is of the environment {env_id}, not {given.id}")
    return given
