"""Numbers, durations and outcomes of a run in words."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from dreamerjax.core.words import number
from dreamerjax.report.reading import IN_PROGRESS, KILLED, Run

NOT_KNOWN = "not known"


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


def outcome_words(run: Run) -> str:
    """How the run ended, or that it has not."""
    steps, solved = run.figures.get("env_steps"), run.figures.get("solved_step")
    at = f"step {whole(steps)}" if steps is not None else "an unknown step"
    if run.outcome == "solved":
        return f"solved at step {whole(solved if solved is not None else steps)}"
    words = {
        "finished": f"finished at {at}",
        "stopped": f"stopped by a KL spike at {at}",
        "interrupted": f"interrupted at {at}",
        "failed": f"failed at {at}",
        IN_PROGRESS: f"in progress, at {at}",
        KILLED: f"killed after {at}",
    }.get(run.outcome, f"{run.outcome} at {at}")
    return words + (f"; solved at step {whole(solved)}" if solved is not None else "")


def megabytes(count: float) -> str:
    """Bytes as MiB."""
    return f"{count / 2**20:g} MiB"
