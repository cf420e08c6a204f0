"""A configuration as flat dotted keys."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys and values of a (nested) dataclass or dictionary; a member of an enumeration is its name."""
    if is_dataclass(node):
        node = {item.name: getattr(node, item.name) for item in fields(node)}
    flat: dict[str, Any] = {}
    for name, value in node.items():
        if is_dataclass(value) or isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value.name if isinstance(value, Enum) else value
    return flat
