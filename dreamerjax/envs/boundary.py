"""Around a foreign environment: what comes out of it is taken for what it stands for, or becomes one line that names it."""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dreamerjax.core.errors import EnvironmentFault, Interrupt, UserError
from dreamerjax.envs.surroundings import foreign

LONGEST = 500  # letters of an exception's text
LARGEST = float(np.finfo(np.float32).max)
RETURNS = {"reset": "observation, info", "step": "observation, reward, terminated, truncated, info"}


class NotAcceptedError(UserError):
    """What an environment returned cannot be taken for what it should be; the message says what it is."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=1)


@contextmanager
def faults(name: str, method: str) -> Iterator[None]:
    """Whatever a call into the environment `name` raises becomes its fault."""
    try:
        with foreign():
            yield
    except BaseException as error:
        raise fault(name, method, error) from error


@contextmanager
def construction(env_id: str) -> Iterator[None]:
    """Whatever is raised while an environment is imported and made, SystemExit included, becomes one UserError."""
    try:
        with foreign(made=True):
            yield
    except UserError:
        raise
    except BaseException as error:
        _let_pass(error)
        raise UserError(f"env.id={env_id}: {type(error).__name__}: {_text(error)}") from error


def fault(name: str, method: str, error: BaseException) -> EnvironmentFault:
    """The fault that an exception from `method` of environment `name` stands for, with the line that raised it.

    Raises what is not the environment's: an interruption by the user, or a fault that has its words already.
    """
    _let_pass(error)
    if isinstance(error, EnvironmentFault):
        raise error
    if isinstance(error, NotAcceptedError):
        return EnvironmentFault(f"environment {name} in {method}: {error}")
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{Path(frame.filename).name}, line {frame.lineno}"
    text = _text(error)
    if "unpack" in text and method in RETURNS:  # Python says how many values it wanted, not which
        text += f"; {method} must return {RETURNS[method]}"
    return EnvironmentFault(
        f"environment {name} raised {type(error).__name__} in {method} ({where}){': ' if text else ''}{text}"
    )


def number(name: str, value: Any) -> float:
    """A reward: any real number that is finite as float32, also as an array of one."""
    if type(value) is not float and type(value) is not int:
        array = as_array(value)
        if array.size != 1 or array.dtype.kind not in "biuf":
            raise NotAcceptedError(f"{name} must be a number, is {described(value)}")
        value = array.item()
    if not -LARGEST <= value <= LARGEST:
        raise NotAcceptedError(f"{name} must be finite, is {value!r:.40}")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """An end of an episode: a bool, or what is one as a number or as an array of one."""
    if value is True or value is False:
        return bool(value)
    array = as_array(value)
    if array.size != 1 or array.dtype.kind not in "biu":
        raise NotAcceptedError(f"{name} must be true or false, is {described(value)}")
    return bool(array.item())


def as_array(value: Any) -> np.ndarray:
    """A value as an array; one of no shape and no number where it is none, such as lists of unequal lengths."""
    try:
        return np.asarray(value)
    except ValueError:
        return np.asarray(None)


def described(value: Any) -> str:
    """What a value is, in a few words."""
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    return f"{value!r:.40}" if isinstance(value, str | bytes | float | int | None) else f"of type {type(value).__name__}"


def _let_pass(error: BaseException) -> None:
    """Raise an interruption that comes from the user's keyboard and not from the environment."""
    if not isinstance(error, KeyboardInterrupt):
        return
    by_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if isinstance(error, Interrupt) or (by_default and threading.current_thread() is threading.main_thread()):
        raise error


def _text(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())[:LONGEST]
    except Exception:
        return "(its text cannot be had)"
