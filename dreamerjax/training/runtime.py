"""The process around a run: JAX's start-up, its profiler and time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import jax

from dreamerjax.config.schema import Config
from dreamerjax.core.machine import cores, process_seconds


def prepare(config: Config) -> None:
    """Set up JAX before its first use: virtual CPU devices, and the cache of compiled programs.

    The CPU client's thread pool keeps its size, one thread a core: a larger one makes updates half as slow again. Loops
    of collectives that never block can hang with it, so the training loop waits for each update before it sends the next.

    Where JAX is in use already, its devices are what there is.
    """
    single_precision()
    with suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", max(config.parallel.devices, len(cores())))
    if config.compilation_cache:
        keep_programs()


def single_precision() -> None:
    """Everything here is float32, whatever JAX_ENABLE_X64 says."""
    jax.config.update("jax_enable_x64", False)


def keep_programs() -> None:
    """Keep compiled programs between processes.

    They lie in `$XDG_CACHE_HOME/dreamerjax` (`~/.cache/dreamerjax`), or where JAX_COMPILATION_CACHE_DIR says.
    """
    if (directory := os.environ.get("JAX_COMPILATION_CACHE_DIR")) is None:
        try:
            home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        except RuntimeError:  # nobody's home: nothing is kept
            return
        directory = str(home / "dreamerjax" / "xla")
    jax.config.update("jax_compilation_cache_dir", directory)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


class Stopwatch:
    """How much of the wall time since the first update (which compiles) was spent on anything but updates."""

    def __init__(self) -> None:
        self.first_update: float | None = None  # seconds since the process started
        self._since = 0.0
        self._busy = 0.0

    def update(self, started: float) -> None:
        """An update that was started at this time.monotonic() has just been received."""
        now = time.monotonic()
        if self.first_update is None:
            self.first_update, self._since = process_seconds(), now
        else:
            self._busy += now - started

    @property
    def overhead(self) -> float:
        """Share of the wall time in [0, 1]: sampling, logging, evaluations, and collection that no update hid."""
        total = time.monotonic() - self._since
        return 1.0 - self._busy / total if self._busy else 0.0


class Trace:
    """A jax.profiler trace of the updates in [first, after); an empty range makes none."""

    def __init__(self, directory: Path, first: int, after: int, say: Callable[[str], None]) -> None:
        """Writes below `directory`, and says so when it has."""
        self._directory, self._first, self._after, self._say = directory, first, after, say
        self._running = False

    def before(self, update: int, count: int) -> None:
        """Call when `count` updates from number `update` on are about to start and those before are done."""
        if self._running and update >= self._after:
            self.close()
        elif not self._running and update < self._after and update + count > self._first:
            jax.profiler.start_trace(str(self._directory))
            self._running = True

    def close(self) -> None:
        """Write what there is: also when the run ends within the range."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            self._say(f"trace written below {self._directory}")
