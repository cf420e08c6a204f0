"""Orbax as `checkpoint.py` uses it: imported late, silent, and patient with damaged files."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np


def orbax() -> Any:
    """The module orbax.checkpoint. Its import takes most of a second, so nothing does it before it is needed."""
    from absl import logging

    module = import_module("orbax.checkpoint")
    logging.set_verbosity(logging.FATAL)  # orbax logs what it also raises, with whole tracebacks
    return module


def array_handler() -> Any:
    """A checkpoint handler for NumPy arrays that fails only when every read or write has ended.

    Orbax's own fails with the first one that does and closes the event loop under the others, each of which then prints
    a traceback.
    """
    ocp = orbax()
    handler = ocp.type_handlers.NumpyHandler()
    handler.deserialize = _patient(handler.deserialize)
    handler._background_serialize = _patient(handler._background_serialize)
    registry = ocp.type_handlers.create_type_handler_registry((np.ndarray, handler))
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)


def _patient(method: Callable[..., Awaitable[Sequence[Any] | None]]) -> Callable[..., Awaitable[list[Any]]]:
    """A method on lists of equal length, called for each row of them by itself; raises when the last has ended."""

    async def for_each(*lists: Sequence[Any] | None) -> list[Any]:
        rows = zip(*(values for values in lists if values is not None), strict=True)
        calls = (method(*([value] for value in row)) for row in rows)
        results: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [item for result in results for item in result or ()]

    return for_each
