"""Numbers in words."""

from __future__ import annotations

import math


def number(value: float) -> str:
    """Four significant digits, thousands in groups."""
    if math.isnan(value):
        return "n/a"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value + 0.0:.4g}"
