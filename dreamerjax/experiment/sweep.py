"""A grid, or random points, as arms."""

from __future__ import annotations

import math
import re
from itertools import product

import numpy as np

from dreamerjax.config.flat import key_types
from dreamerjax.config.schema import Config
from dreamerjax.experiment.design import Arm
from dreamerjax.experiment.reader import Section

DIGITS = 4  # significant ones of a random number


def expand(sweep: Section) -> tuple[Arm, ...]:
    """The arms of `sweep: {grid: {key: [values]}}` or `sweep: {random: {samples, seed, keys}}`, in the file's order.

    Raises UserError: neither or both; no values; a range that is empty, or logarithmic and not positive.
    """
    if len(sweep.data) != 1:
        raise sweep.error("grid", f"or {sweep.full('random')}: a sweep has one of the two")
    if "grid" in sweep.data:
        return _grid(sweep.section("grid", None))
    return _random(sweep.section("random", ("samples", "seed", "keys")))


def _grid(grid: Section) -> tuple[Arm, ...]:
    values = {key: grid.read(key, tuple[str, ...]) for key in grid.data}
    for key, words in values.items():
        if len(set(words)) < len(words):
            raise grid.error(key, "has a value twice")
    last = [key.rpartition(".")[2] for key in values]
    short = last if len(set(last)) == len(last) else list(values)
    arms = []
    for point in product(*values.values()):
        name = "_".join(f"{key}_{value}" for key, value in zip(short, point, strict=True))
        arms.append(_arm(re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII), dict(zip(values, point, strict=True))))
    return tuple(arms)


def _random(random: Section) -> tuple[Arm, ...]:
    samples = random.read("samples", int)
    seed = random.read("seed", int, 0)
    if samples < 1 or seed < 0:
        raise random.error("samples", "must be at least 1, and seed at least 0")
    keys = random.section("keys", None)
    generator = np.random.default_rng(seed)
    points = [{key: _draw(keys, key, generator) for key in keys.data} for _ in range(samples)]
    width = len(str(samples - 1))
    return tuple(_arm(f"sample{number:0{width}d}", point) for number, point in enumerate(points))


def _draw(keys: Section, key: str, generator: np.random.Generator) -> str:
    """One of the listed values, or a number between low and high: uniform, or with `log` its logarithm is."""
    if not isinstance(keys.data[key], dict):
        words: tuple[str, ...] = keys.read(key, tuple[str, ...])
        return words[generator.integers(len(words))]
    bounds = keys.section(key, ("low", "high", "log"))
    low, high, log = bounds.read("low", float), bounds.read("high", float), bounds.read("log", bool, False)
    if low >= high or (log and low <= 0):
        raise bounds.error("low", f"must be {'above 0 and ' if log else ''}below high ({high:g}), not {low:g}")
    value = math.exp(generator.uniform(math.log(low), math.log(high))) if log else generator.uniform(low, high)
    if key_types(Config).get(key) is int:
        return str(min(max(round(value), math.ceil(low)), math.floor(high)))
    return f"{min(max(float(f'{value:.{DIGITS}g}'), low), high):.12g}"


def _arm(name: str, point: dict[str, str]) -> Arm:
    return Arm(name, tuple(f"{key}={value}" for key, value in point.items()), levels=tuple(point.items()))
