"""The family of a model: what fixes its parameters' meaning. Checkpoints load only within a family."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from dreamerjax.config.schema import Config
from dreamerjax.core.errors import UserError
from dreamerjax.core.files import plain
from dreamerjax.core.types import EnvSpec


def fingerprint(config: Config, spec: EnvSpec) -> dict[str, Any]:
    """JSON-able: environment, spaces and architecture as flat dotted keys. Training dynamics stay out of it."""
    spaces = {
        "env": {
            "id": config.env.id,
            "kwargs": config.env.kwargs,
            "action_repeat": config.env.action_repeat,
            "crop": config.env.crop,
        },
        "observations": {name: asdict(entry) for name, entry in spec.observations.items()},
        "action": asdict(spec.action),
        "model": asdict(config.model),
    }
    flat: dict[str, Any] = {}

    def walk(prefix: str, node: Any) -> None:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                walk(f"{prefix}.{key}" if prefix else str(key), value)
        else:
            flat[prefix] = plain(getattr(node, "name", node))

    walk("", spaces)
    return flat


def require_same(saved: dict[str, Any], here: dict[str, Any], path: str) -> None:
    """Raise UserError, naming each key that differs, unless both are one family."""
    missing = "absent"
    differences = [
        f"{key} is {saved.get(key, missing)} there and {here.get(key, missing)} here"
        for key in sorted(saved.keys() | here.keys())
        if saved.get(key, missing) != here.get(key, missing)
    ]
    if differences:
        raise UserError(f"{path} is of another model family: {'; '.join(differences)}")
