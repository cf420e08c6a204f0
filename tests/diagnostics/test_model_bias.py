"""The gap's statistics against brute force, on episodes whose every return is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import rankdata

from dreamerjax.diagnostics import model_bias
from dreamerjax.diagnostics.model_bias import Calibration, States

GAMMA = 0.9
RNG = np.random.default_rng(0)
LENGTHS = np.array([4, 12, 1, 9])
TERMINATED = np.array([True, False, True, False])
REWARDS = [RNG.normal(size=length) for length in LENGTHS]
VALUES = np.array([100.0, 5.0, 100.0, -3.0])
EVERY = States(np.repeat(np.arange(4), LENGTHS), np.concatenate([np.arange(length) for length in LENGTHS]))


def brute_force_return(episode: int, step: int) -> float:
    total, weight = 0.0, 1.0
    for reward in REWARDS[episode][step:]:
        total, weight = total + weight * reward, weight * GAMMA
    return total if TERMINATED[episode] else total + weight * VALUES[episode]


def test_real_returns_bootstrap_only_at_a_time_limit() -> None:
    returns = model_bias.real_returns(REWARDS, TERMINATED, VALUES, EVERY, GAMMA)
    expected = [brute_force_return(int(e), int(t)) for e, t in zip(*EVERY, strict=True)]
    np.testing.assert_allclose(returns, expected, rtol=1e-12)
    np.testing.assert_allclose(model_bias.discounted_returns(np.ones(50), 1.0, 0.0), np.arange(50, 0, -1))


def test_bootstrap_weights() -> None:
    weights = model_bias.bootstrap_weights(LENGTHS, TERMINATED, EVERY, GAMMA)
    expected = [0.0 if TERMINATED[e] else GAMMA ** (LENGTHS[e] - t) for e, t in zip(*EVERY, strict=True)]
    np.testing.assert_allclose(weights, expected)


def test_states_that_the_critic_decides_are_avoided() -> None:
    states = model_bias.choose_states(LENGTHS, TERMINATED, GAMMA, 100, RNG)
    weights = model_bias.bootstrap_weights(LENGTHS, TERMINATED, EVERY, GAMMA)
    wanted = [pair for pair, weight in zip(zip(*EVERY, strict=True), weights, strict=True) if weight <= 0.5]
    assert list(zip(*states, strict=True)) == wanted  # each once, in order: 0.9^7 is the first power of at most 0.5
    assert len(wanted) == 4 + (12 - 6) + 1 + (9 - 6)


def test_states_without_a_choice_are_all() -> None:
    states = model_bias.choose_states(np.array([3, 2]), np.array([False, False]), GAMMA, 100, RNG)
    assert list(zip(*states, strict=True)) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


def test_states_are_a_seeded_uniform_draw() -> None:
    counts = np.zeros(50)
    for seed in range(400):
        states = model_bias.choose_states(np.array([50]), np.array([True]), GAMMA, 10, np.random.default_rng(seed))
        assert len(set(states.step.tolist())) == 10
        counts[states.step] += 1
    np.testing.assert_allclose(counts, 80, atol=4.5 * np.sqrt(80 * 0.8))
    draws = [model_bias.choose_states(LENGTHS, TERMINATED, GAMMA, 5, np.random.default_rng(3)).step for _ in range(2)]
    np.testing.assert_array_equal(draws[0], draws[1])


def test_steps_after_an_end_and_after_a_time_limit() -> None:
    rewards = [np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])]
    states = States(np.array([0, 0, 1, 1]), np.array([0, 2, 0, 2]))
    real = model_bias.real_steps(rewards, np.array([True, False]), states, 4)
    np.testing.assert_array_equal(real.reward.T, [[1, 2, 3, 0], [3, 0, 0, 0], [4, 5, 6, 0], [6, 0, 0, 0]])
    np.testing.assert_array_equal(real.alive[:, :2].T, [[1, 1, 0, 0], [0, 0, 0, 0]])  # the end's own reward counted
    np.testing.assert_array_equal(real.known.T, [[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0]])
    assert real.alive[real.known][real.reward[real.known] >= 4].all()


def test_real_steps_of_many_states_are_a_loop() -> None:
    real = model_bias.real_steps(REWARDS, TERMINATED, EVERY, 6)
    for n, (e, t) in enumerate(zip(*EVERY, strict=True)):
        for k in range(1, 7):
            reached = t + k <= LENGTHS[e]
            assert real.known[k - 1, n] == (reached or TERMINATED[e])
            assert real.reward[k - 1, n] == (REWARDS[e][t + k - 1] if reached else 0.0)
            if real.known[k - 1, n]:
                assert real.alive[k - 1, n] == (t + k < LENGTHS[e] if TERMINATED[e] else 1.0)


def test_what_is_unknown_never_counts() -> None:
    values = np.array([[1.0, 3.0, np.nan], [np.inf, 7.0, np.nan], [np.nan, np.nan, np.nan]])
    known = np.array([[True, True, False], [False, True, False], [False, False, False]])
    np.testing.assert_array_equal(model_bias.known_mean(values, known), [2.0, 7.0, np.nan])


def test_rank_correlation() -> None:
    left, right = RNG.normal(size=200), RNG.normal(size=200)
    right = np.round(right + left)  # with ties
    expected = np.corrcoef(rankdata(left), rankdata(right))[0, 1]
    assert model_bias.rank_correlation(left, right) == pytest.approx(expected)
    assert model_bias.rank_correlation(left, np.exp(left)) == pytest.approx(1.0)
    assert model_bias.rank_correlation(left, -left) == pytest.approx(-1.0)
    broken = np.where(np.arange(200) % 7 == 0, np.nan, right)
    whole = np.isfinite(broken)
    assert model_bias.rank_correlation(left, broken) == model_bias.rank_correlation(left[whole], right[whole])


@pytest.mark.parametrize("values", [np.ones(9), np.full(9, np.nan), np.arange(9.0) * np.nan, np.array([3.0]), np.zeros(0)])
def test_rank_correlation_without_an_order(values: np.ndarray) -> None:
    assert model_bias.rank_correlation(values, np.arange(float(len(values)))) == 0.0
    assert model_bias.rank_correlation(np.arange(float(len(values))), values) == 0.0


def calibration(**changes: Any) -> Calibration:
    """Three states, three steps, the last of which is unknown."""
    parts = {
        "return_imagined": np.array([1.0, 2.0, 6.0]),
        "return_real": np.array([2.0, 4.0, 3.0]),
        "bootstrap": np.array([0.0, 0.3, 0.0]),
        "reward_imagined": np.array([1.0, 0.25, np.nan]),
        "reward_real": np.array([0.5, 1.0, np.nan]),
        "alive_imagined": np.array([0.75, 0.5, np.nan]),
        "alive_real": np.array([1.0, 0.125, np.nan]),
    }
    return Calibration(**{**parts, **changes})


def test_metrics() -> None:
    assert model_bias.gap_metrics(calibration(), np.array([1.0, 2.0, 6.0])) == {
        "gap/states": 3.0,
        "gap/bootstrap": pytest.approx(0.1),
        "gap/return_imagined": 3.0,
        "gap/return_real": 3.0,
        "gap/return_bias": 0.0,
        "gap/return_error": 2.0,
        "gap/return_ratio": 1.0,
        "gap/return_rank": pytest.approx(0.5),
        "gap/kl": 3.0,
        "gap/reward_bias/01": 0.5,
        "gap/reward_bias/02": -0.75,
        "gap/continue_bias/01": -0.25,
        "gap/continue_bias/02": 0.375,
        "gap/worst_step": 2.0,
    }


def test_metrics_without_any_reward() -> None:
    metrics = model_bias.gap_metrics(calibration(return_real=np.zeros(3)), np.ones(3))
    assert (metrics["gap/return_ratio"], metrics["gap/return_rank"]) == (0.0, 0.0)


def test_open_loop_error_is_in_standard_deviations() -> None:
    dreams = np.array([[1.0, 10.0, 5.0], [3.0, 30.0, 5.0]])
    assert model_bias.open_loop_error(dreams, np.array([0.0, 0.0, 0.0]), np.array([2.0, 20.0, 0.0])) == 1.0
    assert np.isnan(model_bias.open_loop_error(dreams, np.zeros(3), np.zeros(3)))


def test_the_mean_image_is_off_by_one_on_average() -> None:
    episode = np.random.default_rng(0).integers(0, 256, (50, 4, 6, 3), dtype=np.uint8)
    episode[:, 0] = 7  # pixels that never change count as any other
    errors = [model_bias.image_error(episode.mean(axis=0) / 255, one, episode) for one in episode]
    assert np.sqrt(np.square(errors).mean()) == pytest.approx(1.0)
    assert model_bias.image_error(episode[3] / 255, episode[3], episode) == pytest.approx(0.0, abs=1e-6)
    assert np.isnan(model_bias.image_error(np.zeros((4, 6, 3)), episode[0], np.repeat(episode[:1], 9, axis=0)))
