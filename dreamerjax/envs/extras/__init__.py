"""Environments of the optional extras, one module each: importing it needs the extra, and registers all of its ids."""

from __future__ import annotations

import importlib

from dreamerjax.core.errors import UserError

EXTRAS = ("atari", "crafter", "dmc", "minatar", "minigrid")


def register(env_id: str) -> None:
    """Register the environments of the extra that `env_id`, such as `dmc/cartpole_balance`, belongs to, if it is one's.

    Raises UserError if a package of the extra is missing.
    """
    extra, slash, _ = env_id.partition("/")
    if not slash or extra not in EXTRAS:
        return
    try:
        importlib.import_module(f"dreamerjax.envs.extras.{extra}")
    except ModuleNotFoundError as error:
        package = (error.name or extra).partition(".")[0]
        raise UserError(
            f"env.id={env_id}: the package {package} is missing; install the extra: pip install 'dreamerjax[{extra}]'"
        ) from error
