"""Other systems, small machines, and outputs that nobody reads."""

from __future__ import annotations

import ctypes
import io
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from dreamerjax.core import console, machine


def test_cores_where_there_is_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.cores()
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert machine.cores() == sorted(psutil.Process().cpu_affinity())
    monkeypatch.delattr(psutil.Process, "cpu_affinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert machine.cores() == [0, 1, 2]
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.cores() == [0]


@pytest.mark.parametrize(("limit", "expected"), [("1048576\n", 1 << 20), ("max\n", None), ("", None)])
def test_a_control_group_limits_memory(limit: str, expected: int | None, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "memory.max").write_text(limit)
    monkeypatch.setattr(machine, "CGROUP_LIMITS", (str(tmp_path / "memory.max"), str(tmp_path / "missing")))
    assert machine.memory_bytes() == (expected or psutil.virtual_memory().total)


def test_memory_that_is_free_is_given_back() -> None:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        pytest.skip("not glibc")
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [libc.malloc(10_000) for _ in range(10_000)]
    for block in blocks:
        ctypes.memset(block, 1, 10_000)
    for block in blocks[:-1]:  # the last one keeps the heap from shrinking by itself
        libc.free(ctypes.c_void_p(block))
    held = machine.memory_mb()
    machine.give_back_memory()
    assert held - machine.memory_mb() > 80.0
    libc.free(ctypes.c_void_p(blocks[-1]))


def test_a_clock_that_is_set_changes_no_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    before = machine.process_seconds()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 0.0 <= machine.process_seconds() - before < 60.0


def test_memory_without_the_module_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.peak_memory_mb() > 1.0
    monkeypatch.setitem(sys.modules, "resource", None)
    assert machine.peak_memory_mb() > 1.0
    assert machine.memory_mb() > 1.0
    assert machine.machine()["cores"] >= 1


def test_where_nobody_tells_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """No /proc, no psutil, no resource."""
    for module in (None, _Silent()):
        monkeypatch.setattr(machine, "psutil", module)
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        assert machine.cores() == list(range(os.cpu_count() or 1))
        assert machine.memory_bytes() > 1 << 20
        assert machine.memory_mb() > 1.0
        assert machine._started.__wrapped__() <= time.monotonic()
    monkeypatch.setitem(sys.modules, "resource", None)
    assert np.isnan(machine.memory_mb())


class _Silent:
    """psutil where /proc cannot be read."""

    def __getattr__(self, name: str) -> Any:
        raise FileNotFoundError("/proc/stat")


def test_a_closed_pipe_ends_nothing() -> None:
    program = "from dreamerjax.core.console import say\nfor _ in range(99): say('x' * 9999)\n"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_no_output_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = (tmp_path / "log").open("w")
    file.close()
    assert not console.say("x", file)
    monkeypatch.setattr(sys, "stdout", None)
    assert console.say("x") in (True, False)


def test_letters_that_an_output_does_not_have() -> None:
    """One such line must not silence those that follow."""
    stream = io.TextIOWrapper(io.BytesIO(), "ascii", newline="\n")
    assert console.say("größe", stream)
    assert console.say("then", stream)
    assert stream.buffer.getvalue() == b"gr??e\nthen\n"
