"""Numbers, durations and times in words, tables of them, and how two sets of values differ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

NOT_KNOWN = "not known"


def number(value: float) -> str:
    """Four significant digits, thousands in groups; what rounding leaves of a sum that is 0 is 0."""
    if math.isnan(value):
        return "n/a"
    if abs(value) < 1e-12:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def amount(value: Any) -> str:
    """A number to read, without decimals from 1,000 on; what is none, as it is."""
    if value is None:
        return NOT_KNOWN
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return number(value) if math.isfinite(value) else str(value)


def whole(value: Any) -> str:
    """A count, such as of steps."""
    return f"{value:,.0f}" if isinstance(value, int | float) and math.isfinite(value) else amount(value)


def at_step(value: Any, step: Any) -> str:
    """A number and when it was measured."""
    return "none" if value is None else f"{amount(value)} at step {whole(step)}"


def duration(seconds: Any) -> str:
    """Hours, minutes and seconds, without those that are 0 in front."""
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return NOT_KNOWN
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def moment(text: Any) -> str:
    """A time of meta.json, to the second."""
    try:
        return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M:%S %z}".strip()
    except (TypeError, ValueError):
        return NOT_KNOWN


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The keys whose values differ, in order, with both values; "absent" is that of a key that one of them lacks."""
    pairs = {key: (one.get(key, "absent"), other.get(key, "absent")) for key in sorted(one.keys() | other.keys())}
    return {key: (left, right) for key, (left, right) in pairs.items() if left != right}


def markdown_table(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    """The lines of a Markdown table."""
    return ["| " + " | ".join(map(str, cells)) + " |" for cells in (header, ["---"] * len(header), *rows)]
