"""Other places that a run's scalars go to, when asked for: which ones, and how they are kept from ending the run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from dreamerjax.config.schema import Config
from dreamerjax.core.errors import UserError
from dreamerjax.storage.trackers import MlflowSink, WandbSink


class Sink(Protocol):
    """A place for scalars. Made by a call with the run's directory."""

    def scalars(self, step: int, numbers: Mapping[str, float], update: int) -> None:
        """Takes the numbers of one line of metrics.jsonl."""

    def close(self) -> None:
        """Writes what is left and ends every process and thread of its own."""


def chosen_sinks(config: Config) -> dict[str, Callable[[Path], Sink]]:
    """The sinks that the configuration asks for, by name; call one with the run's directory to open it.

    Call it before a run directory is made, since the package of a sink may be missing.

    Raises:
        UserError: the package is not installed.
    """
    chosen: dict[str, Callable[[Path], Sink]] = {}
    if config.run.mlflow:
        _require("mlflow")
        chosen["MLflow"] = lambda directory: MlflowSink(config, directory)
    if config.run.wandb:
        _require("wandb")
        chosen["Weights & Biases"] = lambda directory: WandbSink(config, directory)
    return chosen


class FanOut:
    """Hands scalars to every sink. They are opened with the first scalars; one that fails is dropped with a message."""

    def __init__(self, sinks: Mapping[str, Callable[[Path], Sink]], directory: Path, say: Callable[[str], None]) -> None:
        """Opens nothing yet. `directory` is the run's, `say` shows a line."""
        self._waiting = dict(sinks)
        self._open: dict[str, Sink] = {}
        self._directory = directory
        self._say = say

    def scalars(self, step: int, numbers: Mapping[str, float], update: int) -> None:
        """Hands one line of metrics to the sinks that still work. Raises nothing of theirs."""
        for name in [*self._waiting, *self._open]:
            try:
                if name in self._waiting:
                    self._open[name] = self._waiting.pop(name)(self._directory)
                self._open[name].scalars(step, numbers, update)
            except Exception as error:
                self._drop(name, error)

    def close(self) -> None:
        """Closes the sinks that were opened. Harmless when repeated; raises nothing of theirs."""
        self._waiting = {}
        for name in list(self._open):
            try:
                self._open[name].close()
                del self._open[name]
            except Exception as error:
                self._drop(name, error)

    def _drop(self, name: str, error: Exception) -> None:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        self._say(f"{name} gets no more metrics of this run, which goes on without it: {reason}")
        sink = self._open.pop(name, None)
        if sink is not None:
            with suppress(Exception):  # already reported
                sink.close()


def _require(package: str) -> None:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:  # without origin it is a mere folder of that name, as wandb makes one
        raise UserError(f"run.{package}=true needs a package that is not installed: pip install 'dreamerjax[{package}]'")
