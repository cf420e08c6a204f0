"""Checkpoints through orbax: asynchronous, atomic, verified leaf by leaf when they are read.

A checkpoint is one directory `save_<number>`, numbered in the order of saving, with up to three items: `state` and
`replay` (each one array, `bytes`) and `info` (JSON: the step, the caller's values, and for every array of the other
items its path, dtype, shape, first byte in `bytes` and CRC-32). The number is not the step: a run that fell back to an
earlier checkpoint reaches the same step again, and must never remove a good checkpoint before its successor is on disk.

Why one array: of many, orbax abandons the rest with the first that it cannot read or write, and each of those then
prints a traceback.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from dreamerjax.core.errors import UserError
from dreamerjax.storage.leaves import CHUNK, DamagedError, flatten, json_crc, pack, unflatten, unpack

PREFIX = "save"
LAYOUT = 3  # of what a checkpoint holds, counted up where an earlier version cannot be read
DIGITS = 6

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restored:
    """What `CheckpointStore.restore` read."""

    step: int  # as given to save
    arrays: dict[str, Any]  # nested dict of NumPy arrays
    replay: dict[str, Any] | None  # None: not saved, or not asked for
    info: dict[str, Any]  # as given to save, through JSON


class CheckpointStore:
    """The newest few checkpoints in one directory. One process saves; any may read meanwhile."""

    def __init__(self, directory: str | Path, keep: int) -> None:
        """Keeps so many of the newest, at least 1. Touches nothing yet: the first save makes the directory."""
        self.directory = Path(directory).absolute()
        self._keep = keep
        self._manager: Any = None  # orbax's CheckpointManager, from the first save on
        self._damaged: set[int] = set()

    def save(self, step: int, arrays: Mapping[str, Any], replay: Mapping[str, Any] | None, info: Mapping[str, Any]) -> None:
        """Copies everything, then writes it in the background; waits first for a save that is still running.

        The caller may change its NumPy arrays and donate its JAX arrays as soon as this returns.

        Args:
            step: what `restore` and `steps` call this checkpoint. It may be saved again: the later one counts.
            arrays: nested dict of arrays and numbers (a number comes back as a 0-d array).
            replay: dict of arrays, large perhaps, that are read only when asked for.
            info: JSON-able values.

        Raises:
            UserError: this checkpoint or the one before could not be written; exit code 1. Earlier ones are intact.
            TypeError: a leaf is not an array or a number, or a key is not a string.
        """
        ocp, alone = _orbax()
        items: dict[str, Any] = {}
        values = json.loads(json.dumps(dict(info)))
        content: dict[str, Any] = {"layout": LAYOUT, "step": int(step), "info": values, "leaves": {}}
        for name, tree in (("state", arrays), ("replay", replay)):
            if tree is None:
                continue
            content["leaves"][name], packed = pack(flatten(tree))
            save_args = {"bytes": ocp.SaveArgs(chunk_byte_size=CHUNK)}
            items[name] = ocp.args.PyTreeSave({"bytes": packed}, save_args)
        items["info"] = ocp.args.JsonSave({**content, "crc32": json_crc(content)})
        with self._write_faults():
            manager = self._open_manager(ocp, alone)
            manager.wait_until_finished()
            number = max([*self._numbers(), *manager.all_steps()], default=0) + 1  # somebody may have removed some
            for damaged in self._damaged.intersection(manager.all_steps()):
                manager.delete(damaged)
            self._damaged.clear()
            manager.save(number, args=ocp.args.Composite(**items), force=True)

    def restore(self, step: int | None = None, with_replay: bool = True) -> Restored:
        """Reads the newest checkpoint, or the newest one of `step`, and verifies all that it reads.

        A damaged checkpoint is named in a logged warning and the one saved before it is used. The next save removes
        the damaged one.

        Raises UserError: there is no checkpoint, none of that step, or none that is undamaged.
        """
        self.wait()
        tried: set[int] = set()
        damaged: list[str] = []
        # Listed anew each time: a trainer may have replaced what this process listed before.
        while numbers := [number for number in self._numbers() if number not in tried]:
            tried.add(number := numbers[-1])
            try:
                content = self._read_info(number)
                if step is None or content["step"] == step:
                    return self._read_items(number, content, with_replay)
            except UserError:
                raise
            except Exception as error:  # damage surfaces as almost any type
                if self._path(number).exists():  # else a trainer removed it while it was being read
                    self._damaged.add(number)
                    damaged.append(str(self._path(number)))
                    log.warning("checkpoint %s is damaged and not used: %s", self._path(number), _one_line(error))
        if damaged:
            raise UserError(f"no undamaged checkpoint{_of(step)}: damaged are {', '.join(damaged)}", exit_code=1)
        raise UserError(f"no checkpoint{_of(step)} in {self.directory}; there are {self.steps() or 'none'}")

    def latest_step(self) -> int | None:
        """The step of the newest checkpoint with a readable info; None if there is none."""
        return next(self._steps_newest_first(), None)

    def steps(self) -> list[int]:
        """The steps of all checkpoints with a readable info, each once, ascending."""
        return sorted(set(self._steps_newest_first()))

    def wait(self) -> None:
        """Waits until what was saved is on disk. Raises UserError: it could not be written; exit code 1."""
        if self._manager is not None:
            with self._write_faults():
                self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits as `wait` does and ends every background thread. Harmless when repeated."""
        if self._manager is not None:
            with self._write_faults():
                self._manager.close()
            self._manager = None

    def _open_manager(self, ocp: Any, alone: dict[str, Any]) -> Any:
        if self._manager is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            options = ocp.CheckpointManagerOptions(
                create=False,
                **alone,
                max_to_keep=self._keep,
                step_prefix=PREFIX,
                step_format_fixed_length=DIGITS,
                cleanup_tmp_directories=True,  # what a killed process was writing
                lightweight_initialize=True,  # else damaged metadata of an old checkpoint would be an error here
            )
            arrays = ocp.type_handlers.NumpyHandler(deepcopy_host_arrays=False)  # pack has copied them
            registry = ocp.type_handlers.create_type_handler_registry((np.ndarray, arrays))
            handlers = {
                name: ocp.PyTreeCheckpointHandler(type_handler_registry=registry, **alone) for name in ("state", "replay")
            }
            handlers["info"] = ocp.JsonCheckpointHandler(**alone)
            self._manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=handlers)
        return self._manager

    @contextmanager
    def _write_faults(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # OSError or, from tensorstore, ValueError and others
            manager, self._manager = self._manager, None
            for _ in range(2):  # the first call may raise the failed save's error again before it ends the threads
                with suppress(Exception):
                    manager.close() if manager is not None else None
            message = f"cannot write a checkpoint in {self.directory}: {_reason(error)}"
            raise UserError(message, exit_code=1) from error

    def _numbers(self) -> list[int]:
        return [int(path.name.removeprefix(f"{PREFIX}_")) for path in saved_in(self.directory)]

    def _path(self, number: int) -> Path:
        return self.directory / f"{PREFIX}_{number:0{DIGITS}d}"

    def _steps_newest_first(self) -> Iterator[int]:
        self.wait()
        for number in reversed(self._numbers()):
            with suppress(Exception):  # restore is where damage is reported
                yield self._read_info(number)["step"]

    def _read_info(self, number: int) -> dict[str, Any]:
        ocp, alone = _orbax()
        with ocp.Checkpointer(ocp.JsonCheckpointHandler(**alone), **alone) as checkpointer:
            info = checkpointer.restore(self._path(number) / "info")
        if "crc32" in info and info.get("layout") != LAYOUT:
            raise UserError(f"{self._path(number)} was written by another version of dreamerjax, which alone can read it")
        content = {key: info[key] for key in ("layout", "step", "info", "leaves")}
        if json_crc(content) != info["crc32"]:
            raise DamagedError("the checksum of its info does not match")
        return content

    def _read_items(self, number: int, content: dict[str, Any], with_replay: bool) -> Restored:
        trees: dict[str, dict[str, Any]] = {}
        ocp, alone = _orbax()
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**alone), **alone) as checkpointer:
            for name, entries in content["leaves"].items():
                if name == "state" or with_replay:
                    trees[name] = unflatten(unpack(entries, checkpointer.restore(self._path(number) / name)["bytes"]))
        return Restored(content["step"], trees["state"], trees.get("replay"), content["info"])


def saved_in(directory: Path) -> list[Path]:
    """The checkpoints in a store's directory in the order of saving, damaged ones too; empty where there is no directory."""
    name = re.compile(rf"{PREFIX}_\d{{{DIGITS},}}")
    paths = [path for path in directory.iterdir() if name.fullmatch(path.name)] if directory.is_dir() else []
    return sorted(paths, key=lambda path: int(path.name.removeprefix(f"{PREFIX}_")))


def _orbax() -> tuple[Any, dict[str, Any]]:
    """The module orbax.checkpoint, and what everything in it is told: each of several processes saves and reads by itself.

    Else they would wait for each other. The import takes most of a second, so nothing does it before it is needed.
    """
    import jax
    from absl import logging as absl_logging

    module = import_module("orbax.checkpoint")
    absl_logging.set_verbosity(absl_logging.FATAL)  # orbax logs what it also raises, with whole tracebacks
    if jax.process_count() > 1:
        _make_independent()
    own = jax.process_index()
    return module, {"multiprocessing_options": module.options.MultiprocessingOptions(own, {own}, f"process_{own}")}


@cache
def _make_independent() -> None:
    """Each process writes checkpoints of its own, which orbax has no public way for.

    It lets the first process alone write NumPy arrays, since they would be the same in all. And it numbers its operations in
    each process, and tells their progress by these numbers in JAX's store: the processes would take each other's for theirs,
    and wait for ever.
    """
    handlers: Any = import_module("orbax.checkpoint._src.serialization.type_handlers")
    handlers.multihost = SimpleNamespace(process_index=lambda: 0)
    signals: Any = import_module("orbax.checkpoint._src.futures.signaling_client")
    own = signals.ThreadSafeKeyValueSignalingClient()
    signals.get_signaling_client = lambda: own


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _reason(error: Exception) -> str:
    """The operating system's words for a failed write, which tensorstore hides at the end of a long message."""
    known = [os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS)]
    chain: BaseException | None = error
    while chain is not None:  # cleaning up after the failed write may have failed too, and hidden it
        if found := next((reason for reason in known if reason in str(chain)), None):
            return found
        chain = chain.__cause__ or chain.__context__
    return _one_line(error)


def _of(step: int | None) -> str:
    return "" if step is None else f" of step {step}"
