"""Environments that misbehave at random, in every way that tests/e2e/test_wild_environments.py knows."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

from test_wild_environments import play

from dreamerjax.core.stopping import stop_on_signals
from experiments.reliability.trial import numbered

HANG = 60  # seconds that an environment of sixty steps never takes


def cases(_folder: Path, first: int) -> Iterator[tuple[str, str]]:
    """One case is an environment: it ends in one line, or is played to the end."""
    signal.signal(signal.SIGALRM, _hangs)
    warnings.simplefilter("ignore", UserWarning)  # gymnasium's, on what it finds odd
    for seed in numbered(first):
        here = Path.cwd()
        signal.alarm(HANG)
        try:
            with stop_on_signals():
                steps, fault = play(seed)
            outcome = "one line" if fault else "played to the end"
            if "\n" in fault or (fault and "Wild" not in fault) or Path.cwd() != here:
                outcome = f"BROKEN: {fault!r}"
            yield f"environment {seed}, {steps} steps", outcome
        except Exception as error:  # a promise broken in any way
            yield f"environment {seed}", f"BROKEN: {type(error).__name__}: {error}"
        finally:
            signal.alarm(0)


def _hangs(*_: object) -> None:
    raise TimeoutError(f"not done after {HANG} s")
