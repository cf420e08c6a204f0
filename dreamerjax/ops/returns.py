"""Lambda returns over imagined and replayed trajectories. Time leads every shape; `...` is any trailing shape.

Source: DreamerV3 (arXiv 2301.04104), section "Critic learning"; V at t+1, not at t (findings_of_the_log.md#01-02).
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def lambda_returns(
    rewards: jax.Array,
    continues: jax.Array,
    values: jax.Array,
    bootstrap: jax.Array,
    lam: float | jax.Array,
    *,
    unroll: int = 1,
) -> jax.Array:
    """R_t = r_{t+1} + c_{t+1} ((1 - lam) v_{t+1} + lam R_{t+1}), R_H = bootstrap, for t = 0 .. H-1.

    Args:
        rewards: [H, ...] r_1 .. r_H.
        continues: [H, ...] c_1 .. c_H, the discount included.
        values: [H, ...] v_1 .. v_H.
        bootstrap: [...] the return from step H on, in the plain case v_H.
        lam: scalar in [0, 1], may be traced.
        unroll: steps in one turn of the compiled loop; 0: no loop.

    Returns:
        [H, ...] R_0 .. R_{H-1}. Differentiable; callers stop the gradient where a target must not have one.
    """
    chex.assert_equal_shape([rewards, continues, values], custom_message="rewards, continues, values")
    _assert_steps(rewards)
    chex.assert_shape(bootstrap, rewards.shape[1:], custom_message="bootstrap [...] of rewards [H, ...]")
    chex.assert_rank(lam, 0, custom_message="lam is one number")
    return _backward_recursion(rewards + continues * (1 - lam) * values, continues * lam, bootstrap, unroll)


def replay_lambda_returns(
    rewards: jax.Array,
    is_last: jax.Array,
    is_terminal: jax.Array,
    bootstrap: jax.Array,
    *,
    discount: float | jax.Array,
    lam: float | jax.Array,
    unroll: int = 1,
) -> jax.Array:
    """Lambda returns over real rewards, for t = 0 .. T-2.

    live_t = (1 - is_terminal_{t+1}) discount, carry_t = (1 - is_last_{t+1}) lam,
    R_t = r_{t+1} + live_t ((1 - carry_t) b_{t+1} + carry_t R_{t+1}), R_{T-1} = b_{T-1}: an episode's end cuts the
    return, a time limit (is_last without is_terminal) is bootstrapped.

    Args:
        rewards: [T, ...]; r_t came with observation t.
        is_last: [T, ...] boolean, or 0 and 1.
        is_terminal: the same.
        bootstrap: [T, ...] the estimated return from each state.
        discount: scalar in [0, 1], may be traced.
        lam: the same.
        unroll: steps in one turn of the compiled loop; 0: no loop.

    Returns:
        [T-1, ...]. An entry whose own step is_last spans two episodes: callers give it weight 0.
    """
    chex.assert_equal_shape(
        [rewards, is_last, is_terminal, bootstrap], custom_message="rewards, is_last, is_terminal, bootstrap"
    )
    _assert_steps(rewards)
    chex.assert_rank([discount, lam], 0, custom_message="discount, lam")
    live = (1 - is_terminal[1:].astype(rewards.dtype)) * discount
    carry = (1 - is_last[1:].astype(rewards.dtype)) * lam
    one_step = rewards[1:] + (1 - carry) * live * bootstrap[1:]
    return _backward_recursion(one_step, live * carry, bootstrap[-1], unroll)


def _assert_steps(array: jax.Array) -> None:
    chex.assert_axis_dimension_gt(array, 0, 0, custom_message="time leads, at least one step")


def _backward_recursion(constants: jax.Array, factors: jax.Array, final: jax.Array, unroll: int) -> jax.Array:
    """x_t = constants_t + factors_t x_{t+1} with x_H = final: [H, ...], [H, ...], [...] -> [H, ...]."""

    def step(following: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        constant, factor = inputs
        current = constant + factor * following
        return current, current

    return jax.lax.scan(step, final.astype(constants.dtype), (constants, factors), reverse=True, unroll=unroll)[1]


def step_weights(continues: jax.Array) -> jax.Array:
    """w_t = prod_{k <= t} c_k, how much of imagined step t still happens: [H+1, ...] -> [H+1, ...], without gradient.

    `continues[0]` belongs to the start itself and is the caller's: 1, or 0 for a start that had already ended.
    """
    _assert_steps(continues)
    return jnp.cumprod(jax.lax.stop_gradient(continues), 0)
