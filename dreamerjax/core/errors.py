"""Exceptions whose message is meant for the user, and warnings."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from signal import SIGINT

from dreamerjax.core.console import say


class UserError(Exception):
    """A mistake in configuration, files or environment that its one-line message fully explains.

    Entry points print the message without a traceback and exit with `exit_code`: 2 for bad input, 1 for a fault at run time.
    `run` is the directory of the run that it has ended, if it has.
    """

    run: Path | None = None

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(" ".join(message.split()))
        self.exit_code = exit_code


class EnvironmentFault(UserError):
    """An environment raised in `reset` or `step`, or its process died. Entry points exit with 1."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=1)


class Interrupt(KeyboardInterrupt):
    """A signal that ends everything at once: it tells the user's from an environment's own KeyboardInterrupt."""

    def __init__(self, signal: int = SIGINT) -> None:
        super().__init__()
        self.exit_code = 128 + signal


@cache
def warn_once(text: str) -> None:
    """One line on stderr, once per process and text; where nothing can be written, nothing happens."""
    say(f"warning: {text}", sys.stderr)


def exit_code(command: Callable[[], int | None]) -> int:
    """What a command returns; or what ended it: a UserError, which is one line on stderr, or Ctrl-C (130)."""
    try:
        return command() or 0
    except UserError as error:
        say(f"error: {error}", sys.stderr)
        return error.exit_code
    except Interrupt as interrupt:
        return interrupt.exit_code
    except KeyboardInterrupt:
        return 128 + SIGINT
