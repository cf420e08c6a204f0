"""Surprise against averages computed by hand, and what counts as a component."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamerjax.diagnostics.surprise import SurpriseState, components, measure

LOSSES = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=60)


def fold(values: list[float], beta: float) -> list[dict[str, float]]:
    state, records = SurpriseState(), []
    for value in values:
        state, metrics = measure(state, {"reward": value, "total": 2 * value}, beta)
        records.append(metrics)
    return records


@given(LOSSES, st.sampled_from([0.5, 0.8, 0.9]))
def test_the_log_ratio_is_to_the_weighted_mean_of_all_losses_before(values: list[float], beta: float) -> None:
    for n, metrics in enumerate(fold(values, beta)):
        if n < 1 / (1 - beta):
            assert metrics["wm/surprise/ready"] == metrics["wm/surprise/reward_log_ratio"] == 0.0
            continue
        weights = beta ** np.arange(n)[::-1]
        expected = math.log(values[n] / (weights @ np.array(values[:n]) / weights.sum()))
        assert metrics["wm/surprise/ready"] == 1.0
        assert metrics["wm/surprise/reward_log_ratio"] == pytest.approx(expected, abs=1e-4)
        assert metrics["wm/surprise/total_log_ratio"] == pytest.approx(expected, abs=1e-4)


def test_a_constant_loss_surprises_nobody_and_a_doubled_one_by_log_2() -> None:
    *_, before, last = fold([0.3] * 150 + [0.6], 0.99)
    assert before["wm/surprise/total_log_ratio"] == pytest.approx(0.0, abs=1e-9)
    assert last["wm/surprise/total_log_ratio"] == pytest.approx(math.log(2), abs=1e-6)


def test_with_the_default_average_it_is_ready_after_a_hundred_updates() -> None:
    assert [metrics["wm/surprise/ready"] for metrics in fold([1.0] * 102, 0.99)] == [0.0] * 100 + [1.0] * 2


def test_the_largest_component_is_not_the_total() -> None:
    state = SurpriseState({"reward": 1.0, "state": 1.0, "total": 1.0}, 5000)
    _, metrics = measure(state, {"reward": 0.5, "state": 2.0, "total": 8.0}, 0.99)
    assert metrics["wm/surprise/max_component_log_ratio"] == pytest.approx(math.log(2), abs=1e-4)
    assert metrics["wm/surprise/total_log_ratio"] == pytest.approx(math.log(8), abs=1e-4)


def test_a_loss_of_zero_is_finite() -> None:
    state = SurpriseState({"state": 0.0, "total": 1.0}, 5000)
    _, metrics = measure(state, {"state": 0.0, "total": 0.0}, 0.99)
    assert metrics["wm/surprise/state_log_ratio"] == 0.0
    assert metrics["wm/surprise/total_log_ratio"] < -10
    assert all(math.isfinite(value) for value in metrics.values())


def test_components_are_those_of_the_log() -> None:
    metrics = {
        "loss/reward": 1.0,
        "loss/continue_": 2.0,
        "loss/decoder": 9.0,
        "model/kl": 3.0,
        "model/decoder/camera": 4.0,
        "model/decoder/joints": 2.5,
        "model/decoder/speed": 2.5,
    }
    common = {"reward": 1.0, "continue": 2.0, "kl_dyn": 3.0, "kl_rep": 3.0}
    assert components(metrics) == {**common, "state": 9.0}
    assert components(metrics, frozenset({"camera"})) == {**common, "pixel": 4.0, "state": 5.0}
