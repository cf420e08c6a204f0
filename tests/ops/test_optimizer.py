"""AGC, LaProp and warm-up against naive float64 NumPy and their invariants."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dreamerjax.ops import optimizer

variants = pytest.mark.parametrize("compiled", [jax.jit, lambda function: function], ids=["jit", "eager"])
Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]
float32s = partial(st.floats, width=32, allow_subnormal=False)
tensors = hnp.arrays(
    np.float32,
    (3, 4),
    elements=float32s(-100, 100).filter(lambda x: x == 0 or abs(x) > 1e-6),
)


def random_tree(seed: int, scale: float = 1.0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "dense": {"kernel": (scale * rng.normal(size=(5, 3))).astype(np.float32), "bias": np.zeros(3, np.float32)},
        "scale": (scale * rng.normal(size=4)).astype(np.float32),
    }


def numpy_agc(update: np.ndarray, param: np.ndarray, clip: float, floor: float) -> np.ndarray:
    update, param = update.astype(np.float64), param.astype(np.float64)
    limit = clip * max(floor, float(np.sqrt((param**2).sum())))
    norm = float(np.sqrt((update**2).sum()))
    return update * (limit / norm) if norm > limit else update


@variants
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_agc_matches_numpy(compiled: Compiler, scale: float) -> None:
    updates, params = random_tree(0, scale), random_tree(1)
    updates["dense"]["bias"] += np.float32(scale)
    actual = compiled(optimizer.agc)(updates, params, jnp.float32(0.3), 1e-3)
    expected = jax.tree.map(lambda update, param: numpy_agc(update, param, 0.3, 1e-3), updates, params)
    for ours, theirs in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-12)


@given(tensors, tensors, st.floats(0.01, 10.0))
@settings(deadline=None, max_examples=60)
def test_agc_bounds_the_norm_keeps_the_direction_and_is_idempotent(update: np.ndarray, param: np.ndarray, clip: float) -> None:
    clipped = np.asarray(optimizer.agc(jnp.asarray(update), jnp.asarray(param), jnp.float32(clip)), np.float64)
    limit = clip * max(1e-3, float(np.linalg.norm(param.astype(np.float64))))
    assert np.linalg.norm(clipped) <= limit * (1 + 1e-5)
    if np.linalg.norm(update.astype(np.float64)) <= limit * (1 - 1e-5):
        np.testing.assert_array_equal(clipped, update)
    parallel = np.linalg.norm(clipped) * np.linalg.norm(update.astype(np.float64))
    np.testing.assert_allclose((clipped * update).sum(), parallel, rtol=1e-4, atol=1e-20)
    again = optimizer.agc(jnp.asarray(clipped, jnp.float32), jnp.asarray(param), jnp.float32(clip))
    np.testing.assert_allclose(again, clipped, rtol=1e-5)


def test_agc_of_zero_and_of_nan() -> None:
    zeros = jnp.zeros(3)
    np.testing.assert_array_equal(optimizer.agc(zeros, zeros, 0.3), zeros)
    np.testing.assert_array_equal(optimizer.agc(jnp.ones(3), zeros, 0.0), zeros)
    assert jnp.isnan(optimizer.agc(jnp.array([1.0, jnp.nan]), jnp.ones(2), 0.3)).any()


def numpy_laprop(gradients: list[np.ndarray], beta1: float, beta2: float, eps: float) -> list[np.ndarray]:
    """Each update from the whole history, with explicit sums in place of running moments."""
    updates, normalised = [], []
    for t in range(1, len(gradients) + 1):
        squares = [(1 - beta2) * beta2 ** (t - 1 - i) * gradients[i].astype(np.float64) ** 2 for i in range(t)]
        root = np.sqrt(np.sum(squares, 0) / (1 - beta2**t))
        normalised.append(gradients[t - 1].astype(np.float64) / (root + eps))
        moments = [(1 - beta1) * beta1 ** (t - 1 - i) * normalised[i] for i in range(t)]
        updates.append(np.sum(moments, 0) / (1 - beta1**t))
    return updates


@variants
@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.999), (0.0, 0.9), (0.9, 0.0), (0.5, 0.99999)])
def test_laprop_matches_numpy(compiled: Compiler, beta1: float, beta2: float) -> None:
    update = compiled(
        lambda gradients, state, beta1, beta2: optimizer.laprop_update(gradients, state, beta1=beta1, beta2=beta2)
    )
    rng = np.random.default_rng(0)
    gradients = [(rng.normal(size=6) * 10.0 ** rng.integers(-3, 3)).astype(np.float32) for _ in range(8)]
    expected = numpy_laprop(gradients, float(np.float32(beta1)), float(np.float32(beta2)), 1e-20)
    state = optimizer.laprop_init({"w": np.zeros(6, np.float32)})
    for step, gradient in enumerate(gradients):
        updates, state = update({"w": gradient}, state, jnp.float32(beta1), jnp.float32(beta2))
        np.testing.assert_allclose(updates["w"], expected[step], rtol=2e-4, atol=1e-6)
        assert int(state.step) == step + 1


def test_laprop_with_python_betas_matches_numpy() -> None:
    gradients = list(np.array([[0.5, -2.0], [1.0, 3.0], [-4.0, 0.1]], np.float32))
    state = optimizer.laprop_init(jnp.zeros(2))
    for gradient, expected in zip(gradients, numpy_laprop(gradients, 0.9, 0.999, 1e-20), strict=True):
        updates, state = optimizer.laprop_update(jnp.asarray(gradient), state)
        np.testing.assert_allclose(updates, expected, rtol=1e-5)


def test_the_first_laprop_update_is_the_sign_of_the_gradient_at_any_scale() -> None:
    gradient = jnp.array([1e-15, -1e-8, 1.0, -1e8, 0.0])
    updates, _ = optimizer.laprop_update(gradient, optimizer.laprop_init(gradient))
    np.testing.assert_allclose(updates, [1, -1, 1, -1, 0], rtol=1e-5)


@pytest.mark.parametrize("size", [1e-18, 1e-10, 1.0])
def test_a_constant_gradient_gives_a_constant_update_even_when_its_square_underflows(size: float) -> None:
    gradient = jnp.full(2, size)
    state = optimizer.laprop_init(gradient)
    for _ in range(5):
        updates, state = optimizer.laprop_update(gradient, state)
        np.testing.assert_allclose(updates, size / (size + 1e-20), rtol=1e-4)


@given(
    hnp.arrays(np.float32, (5, 4), elements=float32s(-10, 10)),
    st.sampled_from([2.0**-8, 4.0, 2.0**10]),
)
@settings(deadline=None, max_examples=40)
def test_laprop_does_not_depend_on_the_scale_of_the_gradients(history: np.ndarray, scale: float) -> None:
    history = np.where(np.abs(history) < 1e-6, 0, history).astype(np.float32)
    small, large = optimizer.laprop_init(jnp.zeros(4)), optimizer.laprop_init(jnp.zeros(4))
    for gradient in history:
        first, small = optimizer.laprop_update(jnp.asarray(gradient), small)
        second, large = optimizer.laprop_update(jnp.asarray(gradient) * scale, large)
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


def test_laprop_init_has_a_buffer_of_its_own_for_every_leaf() -> None:
    params = jax.tree.map(jnp.asarray, random_tree(0))
    state = optimizer.laprop_init(params)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((params, state))]
    assert len(set(pointers)) == len(pointers)
    jax.tree.map(lambda moment, param: np.testing.assert_array_equal(moment.shape, param.shape), state.momentum, params)


@variants
def test_warm_up_is_linear_positive_and_ends_at_one(compiled: Compiler) -> None:
    steps = np.arange(30)
    actual = [float(compiled(optimizer.linear_warmup)(step, 10)) for step in steps]
    np.testing.assert_allclose(actual, [min(1.0, (step + 1) / 10) for step in steps], rtol=1e-6)
    assert float(compiled(optimizer.linear_warmup)(0, 0)) == 1.0
    assert float(compiled(optimizer.linear_warmup)(jnp.int32(0), jnp.float32(1000))) == pytest.approx(1e-3)


def test_agc_laprop_and_warm_up_together_minimise_a_quadratic() -> None:
    target = jnp.array([3.0, -2.0, 0.5])

    def step(carry: tuple[jax.Array, optimizer.LaPropState], _: None) -> tuple[tuple[jax.Array, optimizer.LaPropState], None]:
        params, state = carry
        gradients = optimizer.agc(2 * (params - target), params, 0.3)
        rate = 0.02 * optimizer.linear_warmup(state.step, 50)
        updates, state = optimizer.laprop_update(gradients, state, beta2=0.99)
        return (params - rate * updates, state), None

    params, _ = jax.lax.scan(step, (jnp.ones(3), optimizer.laprop_init(jnp.ones(3))), None, length=2000)[0]
    np.testing.assert_allclose(params, target, atol=0.05)
