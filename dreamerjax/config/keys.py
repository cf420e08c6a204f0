"""What a key of the configuration says of itself, in the metadata of its dataclass field: meaning, unit, range."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

T = TypeVar("T")
ABOUT = "about"  # the metadata's entry


@dataclass(frozen=True)
class Range:
    """An interval of finite numbers; `open_low` and `open_high` exclude an end."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return math.isfinite(value) and above and below

    def __str__(self) -> str:
        low = f"{'above' if self.open_low else 'at least'} {self.low:.10g}" if math.isfinite(self.low) else ""
        high = f"{'below' if self.open_high else 'at most'} {self.high:.10g}" if math.isfinite(self.high) else ""
        return " and ".join(part for part in (low, high) if part) or "a finite number"


@dataclass(frozen=True)
class About:
    """`range` counts for numbers alone; without a description, the key's enumeration describes it."""

    description: str
    unit: str
    range: Range
    common: bool


def key(
    default: T,
    description: str = "",
    unit: str = "",
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    common: bool = False,
) -> T:
    """A dataclass field that describes itself; `common` ones are what a command's --help shows.

    `least` and `most` belong to the range of a number, `above` and `below` do not; without them it is any finite number.
    """
    low, high = above if least is None else least, below if most is None else most
    interval = Range(
        -math.inf if low is None else low,
        math.inf if high is None else high,
        open_low=above is not None,
        open_high=below is not None,
    )
    metadata = {ABOUT: About(description, unit, interval, common)}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: deepcopy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def written(value: Any) -> str:
    """A value as the command line and the files write it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(written, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{name}:{written(item)}' for name, item in value.items())}}}"
    if isinstance(value, Enum):
        return value.name
    return f"{value:.10g}" if isinstance(value, float) else str(value)
