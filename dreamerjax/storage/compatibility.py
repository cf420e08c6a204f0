"""The family of a model: what fixes its parameters' meaning. Checkpoints load only within a family."""

from __future__ import annotations

from typing import Any

from dreamerjax.config.flat import flatten
from dreamerjax.config.schema import Config
from dreamerjax.core.errors import UserError
from dreamerjax.core.files import plain
from dreamerjax.core.formatting import differences
from dreamerjax.core.types import EnvSpec


def fingerprint(config: Config, spec: EnvSpec) -> dict[str, Any]:
    """JSON-able: environment, spaces and architecture as flat dotted keys. Training dynamics stay out of it, and so does what
    products are computed in: the parameters are float32 in any case."""
    env = {name: getattr(config.env, name) for name in ("id", "kwargs", "action_repeat", "crop")}
    parts = {"env": env, "observations": spec.observations, "action": spec.action, "model": config.model}
    return {key: plain(value) for key, value in flatten(parts).items() if key != "model.compute_dtype"}


def require_same(saved: dict[str, Any], here: dict[str, Any], path: str) -> None:
    """Raise UserError, naming each key that differs, unless both are one family."""
    # A key that came later: what was saved before has what is its default now.
    saved = {f"model.{key}": plain(value) for key, value in flatten(Config().model).items() if f"model.{key}" in here} | saved
    if different := [f"{key} is {there} there and {now} here" for key, (there, now) in differences(saved, here).items()]:
        raise UserError(f"{path} is of another model family: {'; '.join(different)}")
