"""The machine and the process, as far as the operating system tells."""

from __future__ import annotations

import os
import platform
import sys
import time
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def cores() -> list[int]:
    """The numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    with suppress(AttributeError, psutil.Error):  # macOS has none
        return sorted(psutil.Process().cpu_affinity())
    return list(range(os.cpu_count() or 1))


def memory_bytes() -> int:
    """Memory that this process may use: the machine's, or less where its control group allows less."""
    limits = [psutil.virtual_memory().total]
    for path in CGROUP_LIMITS:
        with suppress(OSError, ValueError):
            limits.append(int(Path(path).read_text(encoding="utf-8")))
    return min(limits)


def memory_mb() -> float:
    """Resident memory of this process in MB; subprocesses are not counted."""
    return float(psutil.Process().memory_info().rss) / 1e6


def peak_memory_mb() -> float:
    """The most that `memory_mb` was, in MB of 2**20 bytes."""
    try:
        import resource
    except ImportError:  # Windows
        info = psutil.Process().memory_info()
        return float(getattr(info, "peak_wset", info.rss)) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def process_seconds() -> float:
    """Seconds since this process was started, imports included; a clock that is set meanwhile changes nothing."""
    return time.monotonic() - _started()


@cache
def _started() -> float:
    """When the process was started, as time.monotonic() has it."""
    return time.monotonic() - max(0.0, time.time() - psutil.Process().create_time())


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
