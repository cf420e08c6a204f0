"""Ranges and conditions between keys: each number has a range, and both sides of its ends are told apart."""

from __future__ import annotations

import math
from dataclasses import is_dataclass
from functools import reduce
from typing import Any

import pytest

from dreamerjax.config.flat import key_types, walk
from dreamerjax.config.keys import Range
from dreamerjax.config.schema import BinSpacing, Config
from dreamerjax.config.validation import validate
from dreamerjax.core.errors import UserError

RANGES = {entry.key: entry.range for entry in walk(Config) if entry.range is not None}
ANY = {"train.stop_at_return", "pacing.freeze_at_return"}  # returns, which have no range
UNSET = {*ANY, "parallel.process"}  # by default


def changed(**values: Any) -> Config:
    """The default configuration with some keys changed; `a__b` stands for `a.b`."""
    config = Config()
    for name, value in values.items():
        *sections, last = name.split("__")
        setattr(reduce(getattr, sections, config), last, value)
    return config


def test_defaults_are_valid() -> None:
    validate(Config())


def test_every_number_has_a_range() -> None:
    wanted = {key for key, hint in key_types(Config).items() if hint in (int, float, int | None, float | None)}
    assert wanted == set(RANGES)
    assert {key for key, interval in RANGES.items() if interval == Range()} == ANY
    assert {entry.key for entry in walk(Config()) if entry.range and entry.value is not None} == wanted - UNSET


@pytest.mark.parametrize("key", RANGES)
def test_values_outside_a_range_are_refused(key: str) -> None:
    interval = RANGES[key]
    outside = [math.nan, math.inf, -math.inf]
    if math.isfinite(interval.low):
        outside.append(interval.low if interval.open_low else interval.low - 1)
    if math.isfinite(interval.high):
        outside.append(interval.high if interval.open_high else interval.high + 1)
    for value in outside:
        with pytest.raises(UserError, match=f"^{key} must be (at|above|a finite)"):
            validate(changed(**{key.replace(".", "__"): value}))


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Range(1), "at least 1"),
        (Range(0, 1, open_low=True), "above 0 and at most 1"),
        (Range(0, 1, open_high=True), "at least 0 and below 1"),
        (Range(), "a finite number"),
    ],
)
def test_ranges_in_words(interval: Range, text: str) -> None:
    assert str(interval) == text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model__deter": 100}, r"model.deter must be divisible by model.blocks \(8\): 96 or 104, not 100"),
        ({"model__deter": 4}, r"model.deter must be divisible by model.blocks \(8\): 8, not 4"),
        ({"model__min_std": 2.0}, r"model.min_std \(2\) must be below model.max_std \(1\)"),
        ({"model__bins__low": 30.0}, r"model.bins.low \(30\) must be below model.bins.high \(20\)"),
        ({"model__bins__count": 64}, "model.bins.count must be odd .* 65, not 64"),
        ({"behavior__starts": 250}, r"behavior.starts must be divisible by train.batch_size \(8\).*: 248, not 250"),
        ({"behavior__starts": 513}, r"behavior.starts must be at most .* = 512 \(0: all of them\), not 513"),
        ({"replay__capacity": 259}, r"replay.capacity must be at least .* = 260, not 259"),
        ({"parallel__devices": 3}, r"train.batch_size \(8\) must be divisible by parallel.devices \(3\)"),
        ({"env__id": " "}, "env.id must not be empty"),
        ({"run__root": ""}, "run.root must not be empty"),
        ({"run__name": "a/b"}, "run.name must be letters, digits"),
        ({"run__name": ".."}, "run.name must be letters, digits"),
    ],
)
def test_conditions_between_keys(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate(changed(**values))


@pytest.mark.parametrize(
    "values",
    [
        {"behavior__starts": 512},
        {"replay__capacity": 260},
        {"parallel__devices": 2},
        {"behavior__gamma": 1.0},
        {"optim__actor_lr": 0.0},
        {"train__stop_at_return": -200.0},
        {"model__bins__low": -5.0, "model__bins__high": 6.0, "model__bins__count": 64},
        {"model__bins__spacing": BinSpacing.symlog, "model__bins__count": 64},
    ],
)
def test_the_edge_of_the_possible_is_accepted(values: dict[str, Any]) -> None:
    validate(changed(**values))


def test_key_types_cover_every_leaf() -> None:
    types = key_types(Config)
    assert types["train.stop_at_return"] == float | None
    assert types["env.kwargs"] == dict[str, Any]
    assert is_dataclass(types["model.bins"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image_size": [64, 40]}, r"env.image_size must be \[height, width\], both multiples of 16, not \[64, 40\]"),
        ({"image_size": [64]}, "env.image_size must be"),
        ({"image_size": [0, 16]}, "env.image_size must be"),
        ({"crop": [0.5, 0.5, 0.0, 1.0]}, r"env.crop must be \[top, bottom, left, right\] with .*, not \[0.5, 0.5, 0.0, 1.0\]"),
        ({"crop": [0.0, 1.1, 0.0, 1.0]}, "env.crop must be"),
        ({"crop": [0.0, 1.0]}, "env.crop must be"),
    ],
)
def test_views_of_images(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        validate(changed(**{f"env__{key}": value for key, value in values.items()}))
