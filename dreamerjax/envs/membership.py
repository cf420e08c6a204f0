"""Why an observation is not in the space that its environment declares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import gymnasium as gym
import numpy as np

from dreamerjax.envs.boundary import as_array
from dreamerjax.envs.spaces import BARE_NAME

# What is wrong. `precision`: only the dtype, and the values are in the space once they are converted to it.
Kind = Literal["structure", "shape", "dtype", "range", "precision"]


@dataclass(frozen=True)
class Mismatch:
    """One observation that is not in its space; mismatches of one name and kind are equal."""

    name: str  # flat, as the agent sees it
    kind: Kind
    words: str = field(compare=False)  # what it is and what it should be


def mismatches(space: gym.Space[Any], value: Any, name: str = "") -> Iterator[Mismatch]:
    """What keeps `value` from being in `space`, looked for in every part of a Dict or Tuple; nothing if it is in it."""
    if isinstance(space, gym.spaces.Dict):
        if isinstance(value, dict) and value.keys() == space.spaces.keys():
            for key, inner in space.spaces.items():
                yield from mismatches(inner, value[key], f"{name}.{key}".lstrip("."))
        else:
            found = f"the keys {list(value)}" if isinstance(value, dict) else f"type {type(value).__name__}"
            yield Mismatch(name or BARE_NAME, "structure", f"must be a dict with the keys {list(space.spaces)}, has {found}")
    elif isinstance(space, gym.spaces.Tuple):
        if isinstance(value, tuple) and len(value) == len(space.spaces):
            for index, inner in enumerate(space.spaces):
                yield from mismatches(inner, value[index], f"{name}.{index}".lstrip("."))
        else:
            found = f"{len(value)}" if isinstance(value, tuple) else f"type {type(value).__name__}"
            yield Mismatch(name or BARE_NAME, "structure", f"must be a tuple of {len(space.spaces)}, is {found}")
    elif not space.contains(value):
        yield Mismatch(name or BARE_NAME, *_reason(space, as_array(value)))


def _reason(space: gym.Space[Any], value: np.ndarray) -> tuple[Kind, str]:
    assert space.dtype is not None
    if value.shape != space.shape:
        return "shape", f"has shape {value.shape}, its space {space.shape}"
    if not np.can_cast(value.dtype, space.dtype, "same_kind"):
        return "dtype", f"is {value.dtype}, its space {space.dtype}"
    if space.contains(value.astype(space.dtype)):
        return "precision", f"is {value.dtype}, its space {space.dtype}"
    if isinstance(space, gym.spaces.Box):
        index = np.unravel_index(np.argmin((value >= space.low) & (value <= space.high)), value.shape)
        which = f"component {', '.join(map(str, index))} is" if index else "is"
        return (
            "range",
            f"{which} {_shown(value[index])}, its bounds are {_shown(space.low[index])} and {_shown(space.high[index])}",
        )
    return "range", f"is {value}, its space {space}"


def _shown(number: Any) -> str:
    """As many digits as tell it from its neighbours, without needless ones."""
    return np.format_float_positional(number, trim="-") if 1e-4 <= abs(number) < 1e6 else f"{number}".removesuffix(".0")
