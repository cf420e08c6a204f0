"""Sweeps: the product of a grid, and random points that are reproducible, in range and distributed as asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from dreamerjax.core.errors import UserError
from dreamerjax.experiment.design import Arm
from dreamerjax.experiment.reader import Section
from dreamerjax.experiment.sweep import expand


def expanded(sweep: dict[str, Any]) -> tuple[Arm, ...]:
    """The arms of `sweep`, as the file reader gives it: text at the leaves."""
    return expand(Section(Path("file"), "sweep", sweep, ("grid", "random")))


def drawn(samples: int, seed: str, keys: dict[str, Any]) -> list[dict[str, str]]:
    """The points of a random sweep."""
    return [dict(arm.levels) for arm in expanded({"random": {"samples": str(samples), "seed": seed, "keys": keys}})]


def test_a_grid_is_the_product_in_the_order_of_the_file() -> None:
    arms = expanded({"grid": {"optim.actor_lr": ["1e-5", "3e-5"], "behavior.entropy": ["0.1", "0", "a b"]}})
    assert [arm.name for arm in arms] == [
        "actor_lr_1e-5_entropy_0.1",
        "actor_lr_1e-5_entropy_0",
        "actor_lr_1e-5_entropy_a-b",
        "actor_lr_3e-5_entropy_0.1",
        "actor_lr_3e-5_entropy_0",
        "actor_lr_3e-5_entropy_a-b",
    ]
    assert arms[3].levels == (("optim.actor_lr", "3e-5"), ("behavior.entropy", "0.1"))
    assert arms[3].overrides == ("optim.actor_lr=3e-5", "behavior.entropy=0.1")


def test_keys_that_end_alike_are_told_apart_in_names() -> None:
    arms = expanded({"grid": {"a.x": ["1"], "b.x": ["2", "3"]}})
    assert [arm.name for arm in arms] == ["a.x_1_b.x_2", "a.x_1_b.x_3"]


LOG = {"optim.actor_lr": {"low": "1e-5", "high": "1e-3", "log": "true"}}


def test_random_points_depend_on_the_seed_alone() -> None:
    assert drawn(5, "0", LOG) == drawn(5, "0", LOG)
    assert drawn(5, "0", LOG) != drawn(5, "1", LOG)
    assert drawn(9, "0", LOG)[:5] == drawn(5, "0", LOG)


@pytest.mark.parametrize(("log", "transform"), [("true", np.log), ("false", lambda values: values)])
def test_random_numbers_are_uniform_within_their_range(log: str, transform: Any) -> None:
    bounds = {"low": "1e-5", "high": "1e-3", "log": log}
    values = np.array([float(point["x"]) for point in drawn(400, "0", {"x": bounds})])
    assert ((values >= 1e-5) & (values <= 1e-3)).all()
    low, high = transform(np.array([1e-5, 1e-3]))
    assert stats.kstest((transform(values) - low) / (high - low), "uniform").pvalue > 0.01


def test_whole_keys_get_whole_numbers_and_lists_their_own_values() -> None:
    points = drawn(200, "0", {"train.batch_size": {"low": "8", "high": "11"}, "loss.free_bits": ["clip", "straight_through"]})
    assert {point["train.batch_size"] for point in points} == {"8", "9", "10", "11"}
    assert {point["loss.free_bits"] for point in points} == {"clip", "straight_through"}


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ({}, "sweep.grid or sweep.random: a sweep has one of the two"),
        ({"grid": {"a": ["1"]}, "random": {}}, "sweep.grid or sweep.random: a sweep has one of the two"),
        ({"grid": {"a": "1"}}, "sweep.grid.a must be a list of text"),
        ({"random": {"samples": "0", "keys": LOG}}, "sweep.random.samples must be at least 1"),
        ({"random": {"samples": "2"}}, "sweep.random.keys is missing"),
        (
            {"random": {"samples": "2", "keys": {"a": {"low": "2", "high": "1"}}}},
            "sweep.random.keys.a.low must be below high (1), not 2",
        ),
        (
            {"random": {"samples": "2", "keys": {"a": {"low": "0", "high": "1", "log": "true"}}}},
            "sweep.random.keys.a.low must be above 0 and below high (1), not 0",
        ),
        (
            {"random": {"samples": "2", "keys": {"a": {"low": "0", "hi": "1"}}}},
            "unknown key sweep.random.keys.a.hi; did you mean high?",
        ),
    ],
)
def test_a_sweep_without_points_is_refused(sweep: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        expanded(sweep)
    assert str(caught.value).startswith(f"file: {words}")
