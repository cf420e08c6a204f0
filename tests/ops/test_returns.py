"""Lambda returns and step weights against naive float64 loops and their closed forms."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamerjax.ops import returns
from tests.ops.references import with_and_without_jit


def numpy_lambda_return(
    rewards: np.ndarray, continues: np.ndarray, values: np.ndarray, bootstrap: np.ndarray, lam: float, t: int
) -> np.ndarray:
    """R_t by recursion on the definition; index t of each array belongs to time t+1."""
    horizon = len(rewards)
    if t == horizon:
        return bootstrap.astype(np.float64)
    following = numpy_lambda_return(rewards, continues, values, bootstrap, lam, t + 1)
    return rewards[t] + continues[t] * ((1 - lam) * values[t].astype(np.float64) + lam * following)


def imagined(seed: int, *shape: int) -> tuple[Any, Any, Any, Any]:
    """rewards, continues, values [H, ...] and bootstrap [...], float32."""
    rng = np.random.default_rng(seed)
    rewards, values = rng.normal(size=(2, *shape)).astype(np.float32)
    continues = rng.uniform(0.5, 1.0, size=shape).astype(np.float32)
    return rewards, continues, values, rng.normal(size=shape[1:]).astype(np.float32)


def test_lambda_zero_is_the_one_step_return() -> None:
    rewards, continues, values, bootstrap = imagined(1, 8, 3)
    actual = returns.lambda_returns(rewards, continues, values, bootstrap, 0.0)
    np.testing.assert_allclose(actual, rewards + continues * values, rtol=1e-6, atol=1e-6)


def test_lambda_one_is_the_discounted_sum_with_the_bootstrap_at_its_end() -> None:
    rewards, continues, values, bootstrap = imagined(2, 8, 3)
    for t in range(8):
        weights = np.cumprod(np.concatenate([np.ones((1, 3)), continues[t:]]), 0)
        expected = (weights[:-1] * rewards[t:]).sum(0) + weights[-1] * bootstrap
        actual = returns.lambda_returns(rewards, continues, values, bootstrap, 1.0)[t]
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@given(st.floats(0, 1), st.floats(0, 0.999), st.integers(1, 12))
@settings(deadline=None, max_examples=40)
def test_true_values_are_a_fixed_point_for_every_lambda(lam: float, discount: float, horizon: int) -> None:
    value = 1 / (1 - discount)
    ones = jnp.ones(horizon)
    constant = ones * value
    actual = returns.lambda_returns(ones, ones * discount, constant, constant[-1], lam)
    np.testing.assert_allclose(actual, constant, rtol=2e-4)


def test_a_zero_continue_hides_all_that_follows() -> None:
    rewards, continues, values, bootstrap = imagined(3, 6, 2)
    continues[2] = 0
    base = returns.lambda_returns(rewards, continues, values, bootstrap, 0.9)
    rewards[3:], values[2:] = 99.0, -99.0
    changed = returns.lambda_returns(rewards, continues, values, bootstrap * 7, 0.9)
    np.testing.assert_array_equal(base[:3], changed[:3])
    assert (np.asarray(base[3:]) != np.asarray(changed[3:])).all()


def test_arrays_of_different_lengths_are_refused() -> None:
    rewards, continues, values, bootstrap = imagined(4, 6, 2)
    with pytest.raises(AssertionError):
        returns.lambda_returns(rewards, continues[1:], values, bootstrap, 0.9)
    with pytest.raises(AssertionError):
        returns.lambda_returns(rewards, continues, values, values, 0.9)


def replayed(seed: int, *shape: int) -> tuple[Any, Any, Any, Any]:
    """rewards, is_last, is_terminal, bootstrap [T, ...]."""
    rng = np.random.default_rng(seed)
    rewards, bootstrap = rng.normal(size=(2, *shape)).astype(np.float32)
    is_last = rng.uniform(size=shape) < 0.2
    return rewards, is_last, is_last & (rng.uniform(size=shape) < 0.5), bootstrap


def numpy_replay_return(
    rewards: np.ndarray,
    is_last: np.ndarray,
    is_terminal: np.ndarray,
    bootstrap: np.ndarray,
    *,
    discount: float,
    lam: float,
    t: int,
) -> float:
    """One environment, one step, by cases on what step t+1 is."""
    if t == len(rewards) - 1:
        return float(bootstrap[t])
    if is_terminal[t + 1]:
        return float(rewards[t + 1])
    if is_last[t + 1]:
        return float(rewards[t + 1]) + discount * float(bootstrap[t + 1])
    following = numpy_replay_return(rewards, is_last, is_terminal, bootstrap, discount=discount, lam=lam, t=t + 1)
    return float(rewards[t + 1]) + discount * ((1 - lam) * float(bootstrap[t + 1]) + lam * following)


def test_replay_returns_without_episode_ends_are_lambda_returns() -> None:
    rewards, _, _, bootstrap = replayed(1, 10, 3)
    never = jnp.zeros((10, 3), bool)
    actual = returns.replay_lambda_returns(rewards, never, never, bootstrap, discount=0.97, lam=0.9)
    continues = jnp.full((9, 3), 0.97)
    expected = returns.lambda_returns(rewards[1:], continues, bootstrap[1:], bootstrap[-1], 0.9)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_step_weights_start_at_the_callers_continue_never_grow_and_have_no_gradient() -> None:
    continues = jnp.array([[1.0, 0.0], [0.9, 0.9], [0.0, 1.0], [0.9, 1.0]])
    weights = returns.step_weights(continues)
    np.testing.assert_allclose(weights, [[1.0, 0.0], [0.9, 0.0], [0.0, 0.0], [0.0, 0.0]])
    gradient = jax.grad(lambda continues: returns.step_weights(continues).sum())(continues)
    np.testing.assert_array_equal(gradient, 0.0)


class ReturnsTest(chex.TestCase):
    """Compiled and operation by operation."""

    @with_and_without_jit
    @parameterized.product(lam=[0.0, 0.5, 0.95, 1.0], shape=[(15,), (15, 4), (6, 3, 2), (1, 5)])
    def test_lambda_returns_match_the_definition(self, shape: tuple[int, ...], lam: float) -> None:
        inputs = imagined(0, *shape)
        expected = np.stack([numpy_lambda_return(*inputs, lam, t) for t in range(shape[0])])
        np.testing.assert_allclose(
            self.variant(returns.lambda_returns)(*inputs, jnp.float32(lam)), expected, rtol=1e-5, atol=1e-5
        )

    @with_and_without_jit
    @parameterized.product(lam=[0.0, 0.95, 1.0], dtype=["bool", "float32"])
    def test_replay_returns_match_the_case_by_case_definition(self, dtype: str, lam: float) -> None:
        rewards, is_last, is_terminal, bootstrap = replayed(0, 20, 8)
        assert is_terminal.any()
        assert (is_last & ~is_terminal).any()
        actual = self.variant(returns.replay_lambda_returns)(
            rewards,
            is_last.astype(dtype),
            is_terminal.astype(dtype),
            bootstrap,
            discount=jnp.float32(0.9),
            lam=jnp.float32(lam),
        )
        expected = np.empty((19, 8))
        for t, b in np.ndindex(19, 8):
            stream = [x[:, b] for x in (rewards, is_last, is_terminal, bootstrap)]
            expected[t, b] = numpy_replay_return(*stream, discount=0.9, lam=lam, t=t)
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)

    @with_and_without_jit
    def test_step_weights_match_a_running_product(self) -> None:
        continues = np.random.default_rng(0).uniform(size=(16, 5)).astype(np.float32)
        expected = np.ones((16, 5))
        for t in range(16):
            expected[t] = continues[t] * (expected[t - 1] if t else 1.0)
        np.testing.assert_allclose(self.variant(returns.step_weights)(continues), expected, rtol=1e-5)
