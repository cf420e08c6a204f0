"""The process around a run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from dreamerjax.agent.learner import choose_devices
from dreamerjax.config.composition import load_config
from dreamerjax.core.errors import UserError
from dreamerjax.core.machine import memory_mb, process_seconds
from dreamerjax.training.runtime import Stopwatch, Trace
from dreamerjax.training.world import most_records

PREPARED = """
import jax
from dreamerjax.config.composition import load_config
from dreamerjax.training.runtime import prepare
prepare(load_config(["parallel.devices=4"]))
jax.jit(lambda x: x + 1)(1.0)
print(jax.local_device_count(), jax.config.jax_compilation_cache_dir)
"""


def test_prepared_process_has_devices_and_a_cache_of_programs(tmp_path: Path) -> None:
    hidden = ("JAX_COMPILATION_CACHE_DIR", "PJRT_NPROC")
    environment = {key: value for key, value in os.environ.items() if key not in hidden} | {"XDG_CACHE_HOME": str(tmp_path)}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", PREPARED], env=environment, capture_output=True, text=True, check=True)
    cache = tmp_path / "dreamerjax" / "xla"
    assert done.stdout == f"4 {cache}\n"
    assert list(cache.iterdir())


def test_process_seconds_go_on_and_began_before_this_test() -> None:
    first = process_seconds()
    time.sleep(0.05)
    assert 0.0 < first < process_seconds()


def test_memory_is_that_of_this_process() -> None:
    before = memory_mb()
    kept = np.ones(25_000_000)  # 200 MB
    assert 100 < memory_mb() - before < 400
    assert len(kept)


def test_overhead_is_what_is_left_of_the_wall_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    watch = Stopwatch()
    watch.update(started=90.0)  # compiles, and is not counted
    assert watch.first_update is not None
    assert watch.overhead == 0.0
    now = 105.0
    watch.update(started=102.0)
    now = 110.0
    watch.update(started=105.0)
    assert watch.overhead == pytest.approx(1 - (3.0 + 5.0) / 10.0)


@pytest.mark.parametrize(
    ("first", "after", "count", "started", "stopped"),
    [
        (13, 15, 1, 13, 15),
        (10, 11, 1, 10, 11),
        (13, 15, 4, 10, 18),  # a call of four updates is traced if one of them is wanted
        (15, 16, 4, 14, 18),
        (18, 100, 1, 18, 30),  # the run ends first
        (8, 12, 1, 10, 12),  # the run was resumed in the middle
        (3, 5, 1, None, None),
        (0, 0, 1, None, None),
        (100, 105, 1, None, None),
    ],
)
def test_trace_covers_the_range(
    monkeypatch: pytest.MonkeyPatch, first: int, after: int, count: int, started: int | None, stopped: int | None
) -> None:
    """Of a process that makes updates 10 to 29."""
    now, events, said = 0, [], list[str]()
    monkeypatch.setattr(jax.profiler, "start_trace", lambda directory: events.append((directory, now)))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: events.append(("", now)))
    trace = Trace(Path("profile"), first, after, said.append)
    for now in range(10, 30, count):
        trace.before(now, count)
    now = 30
    trace.close()
    trace.close()
    assert events == ([] if started is None else [("profile", started), ("", stopped)])
    assert said == ([] if started is None else ["trace written below profile"])


def test_a_platform_that_there_is_not_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> list[Any]:
        raise RuntimeError("Unable to initialize backend 'rocm'\n: no such thing")

    monkeypatch.setattr(jax, "local_devices", none)
    monkeypatch.setenv("JAX_PLATFORMS", "rocm")
    with pytest.raises(
        UserError, match=r"^JAX_PLATFORMS=rocm: no device can be used: Unable to initialize backend 'rocm' : no"
    ):
        choose_devices(0, 8)


def test_the_replay_holds_what_the_run_can_fill() -> None:
    config = load_config(["train.steps=600", "env.num_envs=4"])
    assert most_records(config) == 4 * (2 * 150 + config.train.batch_length + 1)
    config.replay.capacity = 700
    assert most_records(config) == 700
    config.train.steps = 10**9
    config.replay.capacity = 1_000_000
    assert most_records(config) == 1_000_000
