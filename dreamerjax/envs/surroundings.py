"""What foreign code may change of the process that it runs in, and the rest of the program relies on."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from dreamerjax.core.child_process import SIGNALS

WARNINGS = 2  # the place of their filters in what `_look` returns


class _Own(threading.local):
    """Of each thread, for each member of a population has one."""

    def __init__(self) -> None:
        self.theirs: dict[int, Any] = {}  # what differs from ours, by its place in what `_look` returns
        self.inside = False


_own = _Own()


def forget() -> None:
    """What earlier environments changed no longer holds for anything: another run begins."""
    _own.theirs.clear()


@contextmanager
def foreign(*, made: bool = False) -> Iterator[None]:
    """Around calls into environments: what these change holds for their calls, and only for them.

    That is the working directory, NumPy's handling of errors, the configuration of logging, the standard streams and JAX's
    precision; filters of warnings hold for one call alone. An environment that is `made` begins with what is ours. Handlers
    of SIGINT, SIGTERM and SIGHUP are put back for later calls too: a signal may come during one. Random states of the process
    are left alone, since nothing here draws from them.
    """
    if _own.inside:
        yield
        return
    handlers, ours, _own.inside = _handlers(), _look(), True
    if not made:
        for place, value in _own.theirs.items():
            _put(place, value)
    try:
        yield
    finally:
        _own.inside = False
        changed = {place: value for place, value in enumerate(_look()) if value != ours[place]}
        for place in changed:
            _put(place, ours[place])
        changed.pop(WARNINGS, None)
        if not made:
            _own.theirs.clear()
        _own.theirs.update(changed)
        if _handlers() != handlers and threading.current_thread() is threading.main_thread():
            for number, handler in zip(SIGNALS, handlers, strict=True):
                signal.signal(number, handler)


def _handlers() -> list[Any]:
    return [_signal.getsignal(number) for number in SIGNALS]  # signal.getsignal takes as long as a step of CartPole


def _look() -> tuple[Any, ...]:
    root = logging.root
    try:
        folder: str | None = os.getcwd()
    except OSError:  # it was removed
        folder = None
    return (
        folder,
        np.geterr(),
        warnings.filters[:],
        (root.level, root.handlers[:], root.manager.disable),
        sys.stdout,
        sys.stderr,
        _double_precision(),
    )


def _double_precision() -> bool:
    """Whether JAX, where it is in use, computes in float64 too, which an environment written in JAX may ask for."""
    jax = sys.modules.get("jax")
    return bool(jax and jax.config.jax_enable_x64)


def _put(place: int, value: Any) -> None:
    match place:
        case 0:
            with suppress(OSError):
                os.chdir(value or os.curdir)
        case 1:
            np.seterr(**value)
        case _ if place == WARNINGS:
            warnings.filters[:] = value  # type: ignore[index]
            warnings._filters_mutated()  # type: ignore[attr-defined]
        case 3:
            level, logging.root.handlers[:], logging.root.manager.disable = value
            logging.root.setLevel(level)
        case 4:
            sys.stdout = value
        case 5:
            sys.stderr = value
        case 6 if value != _double_precision():
            sys.modules["jax"].config.update("jax_enable_x64", value)
