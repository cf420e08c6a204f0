"""Hours of training with subprocess environments, from vectors and from pixels: does memory grow, does anything leak?"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import trials

HOURS = 2.0  # of each soak
EVERY = 20.0  # seconds between two looks
SETTLED = 0.33  # share of the time after which the replay is full and everything has happened once
MOST_GROWTH = 1.0  # MB an hour
COMMON = (
    *trials.TINY,
    *["train.steps=1000000000", "train.eval_every=2000", "train.checkpoint_every=2000", "monitor.dreams_every=4000"],
    *["env.vectorization=subprocess", "parallel.devices=1"],
)
SOAKS = {
    "CartPole-v1 from vectors": ("env.id=CartPole-v1",),
    "CartPole-v1 from pixels": ("env=cartpole_pixels", "env.image_size=16"),
}


def cases(folder: Path, first: int) -> Iterator[tuple[str, str]]:
    """One case is a task."""
    for name, settings in list(SOAKS.items())[first:]:
        yield f"{name}, {HOURS:g} hours", soak(folder, settings)


def soak(folder: Path, settings: tuple[str, ...]) -> str:
    """Look at a training every so often, and at what grew once it had settled."""
    rows: list[tuple[float, float, int, int]] = []
    log = folder / f"{time.time_ns()}.log"
    command = trials.command("train", *COMMON, *settings, f"run.root={folder / log.stem}")
    with log.open("w") as out, subprocess.Popen(command, env=trials.environment(), stdout=out, stderr=out) as process:
        started = time.monotonic()
        while (now := time.monotonic() - started) < HOURS * 3600 and process.poll() is None:
            family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            memory = sum(member.memory_full_info().uss for member in family) / 2**20
            rows.append((now / 3600, memory, sum(m.num_fds() for m in family), sum(m.num_threads() for m in family)))
            time.sleep(EVERY)
        ended = process.poll() is not None
        process.terminate()
        if ended:
            return f"BROKEN: it ended by itself: {log.read_text()[-200:]!r}"
    hours, memory, descriptors, threads = np.array([row for row in rows if row[0] > SETTLED * HOURS]).T
    slope, error = growth(hours, memory)
    text = (
        f"{memory[0]:.0f} to {memory[-1]:.0f} MB, {slope:+.2f} ± {error:.2f} MB an hour, "
        f"descriptors {descriptors.min():.0f} to {descriptors.max():.0f}, threads {threads.min():.0f} to {threads.max():.0f}"
    )
    leaks = descriptors[-1] > descriptors[0] + 8 or threads[-1] > threads[0] + 8
    return f"BROKEN: {text}" if slope - 2 * error > MOST_GROWTH or leaks else f"steady: {text}"


def growth(hours: np.ndarray, memory: np.ndarray) -> tuple[float, float]:
    """Slope of a straight line and its standard error, MB an hour, from the means of ten parts."""
    hours, memory = (np.array([part.mean() for part in np.array_split(values, 10)]) for values in (hours, memory))
    (slope, _), covariance = np.polyfit(hours, memory, 1, cov=True)
    return float(slope), float(covariance[0, 0] ** 0.5)
