"""Orbax as `checkpoint.py` uses it: imported late, silent, and patient with damaged files."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np


def orbax() -> Any:
    """The module orbax.checkpoint. Its import takes most of a second, so nothing does it before it is needed."""
    from absl import logging

    module = import_module("orbax.checkpoint")
    logging.set_verbosity(logging.FATAL)  # orbax logs what it also raises, with whole tracebacks
    return module


def array_reader() -> Any:
    """A checkpoint handler for NumPy arrays that fails only when every read has ended.

    Orbax's own fails with the first failing read and closes the event loop under the others, each of which then prints
    a traceback.
    """
    ocp = orbax()
    handler = ocp.type_handlers.NumpyHandler()
    deserialize_together = handler.deserialize

    async def deserialize(infos: Sequence[Any], args: Sequence[Any] | None = None) -> list[np.ndarray]:
        reads = [deserialize_together([info]) for info in infos]
        results: list[Any] = await asyncio.gather(*reads, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return [result[0] for result in results]

    handler.deserialize = deserialize
    registry = ocp.type_handlers.create_type_handler_registry((np.ndarray, handler))
    return ocp.PyTreeCheckpointHandler(type_handler_registry=registry)
