"""The machine and the process, as far as the operating system tells: where it does not, the next best is taken."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import sys
import time
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

try:
    import psutil
except ImportError:  # its own import fails where there is no module resource
    psutil = None

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def cores() -> list[int]:
    """The numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    with suppress(Exception):  # macOS has none
        return sorted(psutil.Process().cpu_affinity())
    return list(range(os.cpu_count() or 1))


def memory_bytes() -> int:
    """Memory that this process may use: the machine's, or less where its control group allows less; a great deal if unknown."""
    limits = [2**63]
    with suppress(Exception):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(Exception):
        limits.append(psutil.virtual_memory().total)
    for path in CGROUP_LIMITS:
        with suppress(OSError, ValueError):
            limits.append(int(Path(path).read_text(encoding="utf-8")))
    return min(limits)


def memory_mb() -> float:
    """Resident memory of this process in MB, or its peak where only that is told; subprocesses are not counted."""
    with suppress(Exception):
        return float(psutil.Process().memory_info().rss) / 1e6
    return peak_memory_mb() * 2**20 / 1e6


def peak_memory_mb() -> float:
    """The most that `memory_mb` was, in MB of 2**20 bytes; NaN where nobody tells."""
    with suppress(ImportError):  # on Windows
        import resource

        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    with suppress(Exception):
        info = psutil.Process().memory_info()
        return float(getattr(info, "peak_wset", info.rss)) / 2**20
    return math.nan


def give_back_memory() -> None:
    """Tell the C library to return what is free: where a compiler has worked, glibc keeps hundreds of megabytes otherwise."""
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def process_seconds() -> float:
    """Seconds since this process was started, imports included; a clock that is set meanwhile changes nothing."""
    return time.monotonic() - _started()


@cache
def _started() -> float:
    """When the process was started, as time.monotonic() has it; where nobody tells, when this module was imported."""
    with suppress(Exception):
        return time.monotonic() - max(0.0, time.time() - psutil.Process().create_time())
    return time.monotonic()


def machine() -> dict[str, Any]:
    """What figures were measured on."""
    models: list[str] = []
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.processor(),
        "cores": len(cores()),
        "jax": version("jax"),
        "python": platform.python_version(),
    }


_started()  # as early as possible: the clock may be set later
