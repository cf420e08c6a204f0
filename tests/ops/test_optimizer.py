"""The chain of the optimiser and its links against naive float64 NumPy and their invariants."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dreamerjax.ops import optimizer
from tests.ops.references import float32s, with_and_without_jit

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


def clipped(updates: Any, params: Any, clip: float | jax.Array) -> Any:
    """The updates after `clip_by_tensor_norm`, which has no state."""
    link = optimizer.clip_by_tensor_norm(clip)
    return link.update(updates, link.init(params), params)[0]


def numpy_agc(update: np.ndarray, param: np.ndarray, clip: float, floor: float) -> np.ndarray:
    update, param = update.astype(np.float64), param.astype(np.float64)
    limit = clip * max(floor, float(np.sqrt((param**2).sum())))
    norm = float(np.sqrt((update**2).sum()))
    return update * (limit / norm) if norm > limit else update


@given(tensors, tensors, st.floats(0.01, 10.0))
@settings(deadline=None, max_examples=60)
def test_agc_bounds_the_norm_keeps_the_direction_and_is_idempotent(update: np.ndarray, param: np.ndarray, clip: float) -> None:
    once = np.asarray(clipped(jnp.asarray(update), jnp.asarray(param), jnp.float32(clip)), np.float64)
    limit = clip * max(1e-3, float(np.linalg.norm(param.astype(np.float64))))
    assert np.linalg.norm(once) <= limit * (1 + 1e-5)
    if np.linalg.norm(update.astype(np.float64)) <= limit * (1 - 1e-5):
        np.testing.assert_array_equal(once, update)
    parallel = np.linalg.norm(once) * np.linalg.norm(update.astype(np.float64))
    np.testing.assert_allclose((once * update).sum(), parallel, rtol=1e-4, atol=1e-20)
    again = clipped(jnp.asarray(once, jnp.float32), jnp.asarray(param), jnp.float32(clip))
    np.testing.assert_allclose(again, once, rtol=1e-5)


def test_agc_of_zero_and_of_nan() -> None:
    zeros = jnp.zeros(3)
    np.testing.assert_array_equal(clipped(zeros, zeros, 0.3), zeros)
    np.testing.assert_array_equal(clipped(jnp.ones(3), zeros, 0.0), zeros)
    assert jnp.isnan(clipped(jnp.array([1.0, jnp.nan]), jnp.ones(2), 0.3)).any()


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


class FormulasTest(chex.TestCase):
    """Compiled and operation by operation."""

    @with_and_without_jit
    @parameterized.product(scale=[1e-4, 1.0, 1e4])
    def test_agc_matches_numpy(self, scale: float) -> None:
        updates, params = random_tree(0, scale), random_tree(1)
        updates["dense"]["bias"] += np.float32(scale)
        actual = self.variant(clipped)(updates, params, jnp.float32(0.3))
        expected = jax.tree.map(lambda update, param: numpy_agc(update, param, 0.3, 1e-3), updates, params)
        chex.assert_trees_all_close(actual, expected, rtol=1e-5, atol=1e-12)

    @with_and_without_jit
    @parameterized.named_parameters(
        ("default", 0.9, 0.999), ("no_momentum", 0.0, 0.9), ("no_memory", 0.9, 0.0), ("long_memory", 0.5, 0.99999)
    )
    def test_laprop_matches_numpy(self, beta1: float, beta2: float) -> None:
        update = self.variant(
            lambda gradients, state, beta1, beta2: optimizer.scale_by_laprop(beta1, beta2).update(gradients, state)
        )
        rng = np.random.default_rng(0)
        gradients = [(rng.normal(size=6) * 10.0 ** rng.integers(-3, 3)).astype(np.float32) for _ in range(8)]
        expected = numpy_laprop(gradients, float(np.float32(beta1)), float(np.float32(beta2)), 1e-20)
        state = optimizer.scale_by_laprop().init({"w": np.zeros(6, np.float32)})
        for step, gradient in enumerate(gradients):
            updates, state = update({"w": gradient}, state, jnp.float32(beta1), jnp.float32(beta2))
            np.testing.assert_allclose(updates["w"], expected[step], rtol=2e-4, atol=1e-6)
            assert int(state[3].count) == step + 1

    @with_and_without_jit
    def test_warm_up_is_linear_positive_and_ends_at_one(self) -> None:
        multiplier, steps = self.variant(optimizer.linear_warmup), np.arange(30)
        actual = [float(multiplier(step, 10)) for step in steps]
        np.testing.assert_allclose(actual, [min(1.0, (step + 1) / 10) for step in steps], rtol=1e-6)
        assert float(multiplier(0, 0)) == 1.0
        assert float(multiplier(jnp.int32(0), jnp.float32(1000))) == pytest.approx(1e-3)


def test_laprop_with_python_betas_matches_numpy() -> None:
    gradients = list(np.array([[0.5, -2.0], [1.0, 3.0], [-4.0, 0.1]], np.float32))
    laprop = optimizer.scale_by_laprop()
    state = laprop.init(jnp.zeros(2))
    for gradient, expected in zip(gradients, numpy_laprop(gradients, 0.9, 0.999, 1e-20), strict=True):
        updates, state = laprop.update(jnp.asarray(gradient), state)
        np.testing.assert_allclose(updates, expected, rtol=1e-5)


def test_the_first_laprop_update_is_the_sign_of_the_gradient_at_any_scale() -> None:
    gradient = jnp.array([1e-15, -1e-8, 1.0, -1e8, 0.0])
    laprop = optimizer.scale_by_laprop()
    updates, _ = laprop.update(gradient, laprop.init(gradient))
    np.testing.assert_allclose(updates, [1, -1, 1, -1, 0], rtol=1e-5)


@pytest.mark.parametrize("size", [1e-18, 1e-10, 1.0])
def test_a_constant_gradient_gives_a_constant_update_even_when_its_square_underflows(size: float) -> None:
    gradient = jnp.full(2, size)
    laprop = optimizer.scale_by_laprop()
    state = laprop.init(gradient)
    for _ in range(5):
        updates, state = laprop.update(gradient, state)
        np.testing.assert_allclose(updates, size / (size + 1e-20), rtol=1e-4)


@given(
    hnp.arrays(np.float32, (5, 4), elements=float32s(-10, 10)),
    st.sampled_from([2.0**-8, 4.0, 2.0**10]),
)
@settings(deadline=None, max_examples=40)
def test_laprop_does_not_depend_on_the_scale_of_the_gradients(history: np.ndarray, scale: float) -> None:
    history = np.where(np.abs(history) < 1e-6, 0, history).astype(np.float32)
    laprop = optimizer.scale_by_laprop()
    small, large = laprop.init(jnp.zeros(4)), laprop.init(jnp.zeros(4))
    for gradient in history:
        first, small = laprop.update(jnp.asarray(gradient), small)
        second, large = laprop.update(jnp.asarray(gradient) * scale, large)
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


def test_the_first_state_has_a_buffer_of_its_own_for_every_leaf() -> None:
    params = jax.tree.map(jnp.asarray, random_tree(0))
    state = optimizer.laprop_init(params)
    pointers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((params, state))]
    assert len(set(pointers)) == len(pointers)
    _, (_, second_moment, _, momentum, _), _ = state
    numbers = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert second_moment.nu.shape == momentum.ema.shape == (numbers,)


def test_the_chain_minimises_a_quadratic() -> None:
    target = jnp.array([3.0, -2.0, 0.5])
    chain = optimizer.laprop(0.02, warmup=50, beta2=0.99)

    def step(carry: tuple[jax.Array, Any], _: None) -> tuple[tuple[jax.Array, Any], None]:
        params, state = carry
        updates, state = chain.update(2 * (params - target), state, params)
        return (params + updates, state), None

    params, _ = jax.lax.scan(step, (jnp.ones(3), chain.init(jnp.ones(3))), None, length=2000)[0]
    np.testing.assert_allclose(params, target, atol=0.05)


UPDATES, WARMUP = 50, 20
SHAPES = {"kernel": (7, 5), "bias": (5,), "convolution": (3, 3, 2, 4), "scale": (1,), "number": ()}
NUMBERS = {"clip": 0.3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-20}


class Trajectory:
    """Gradients of sizes 1e-8 to 1e2 for tensors of several shapes, and a learning rate that changes."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.params = {name: np.asarray(rng.normal(size=shape), np.float32) for name, shape in SHAPES.items()}
        self.params["bias"] *= 0
        self.gradients = [
            {name: np.asarray(10 ** rng.uniform(-8, 2) * rng.normal(size=shape), np.float32) for name, shape in SHAPES.items()}
            for _ in range(UPDATES)
        ]
        self.rates = (10 ** rng.uniform(-4, -2, UPDATES)).astype(np.float32)
        self.numbers = {name: np.float32(value) for name, value in NUMBERS.items()}


def numpy_optimizer(given: Trajectory) -> list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """The updates and the parameters after them, in float64."""
    clip, beta1, beta2, eps = (float(given.numbers[name]) for name in NUMBERS)
    params = {name: value.astype(np.float64) for name, value in given.params.items()}
    history: dict[str, list[np.ndarray]] = {name: [] for name in params}
    trajectory = []
    for t, (gradients, rate) in enumerate(zip(given.gradients, given.rates, strict=True)):
        updates = {}
        for name, gradient in gradients.items():
            history[name].append(numpy_agc(gradient, params[name], clip, 1e-3))
            direction = numpy_laprop(history[name], beta1, beta2, eps)[-1]
            updates[name] = -float(rate) * min(1.0, (t + 1) / WARMUP) * direction
        params = {name: value + updates[name] for name, value in params.items()}
        trajectory.append((updates, params))
    return trajectory


def test_fifty_updates_of_the_chain_are_those_of_numpy_and_no_traced_number_compiles_again() -> None:
    """To a millionth of the learning rate, the size of a LaProp step: a tensor's own update may cancel to nothing."""
    given = Trajectory()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def update(rate: jax.Array, warmup: jax.Array, numbers: Any, gradients: Any, state: Any, params: Any) -> Any:
        updates, state = optimizer.laprop(rate, warmup, **numbers).update(gradients, state, params)
        return updates, optax.apply_updates(params, updates), state

    params: Any = given.params
    state = optimizer.laprop_init(params)
    for t, expected in enumerate(numpy_optimizer(given)):
        updates, params, state = update(given.rates[t], np.float32(WARMUP), given.numbers, given.gradients[t], state, params)
        for name in SHAPES:
            step, after = expected[0][name], expected[1][name]
            learning_rate = given.rates[t] * min(1.0, (t + 1) / WARMUP)
            np.testing.assert_allclose(updates[name], step, rtol=0, atol=1e-6 * learning_rate, err_msg=f"{name} {t}")
            np.testing.assert_allclose(params[name], after, rtol=0, atol=1e-6 * np.abs(after).max(), err_msg=f"{name} {t}")
    assert int(state[-1].count) == UPDATES
    for name, value in {"clip": 0.1, "beta1": 0.5, "beta2": 0.9, "eps": 1e-3}.items():
        changed, _, _ = update(
            given.rates[0], np.float32(0), given.numbers | {name: np.float32(value)}, given.gradients[0], state, params
        )
        same, _, _ = update(given.rates[0], np.float32(0), given.numbers, given.gradients[0], state, params)
        assert any(np.any(changed[tensor] != same[tensor]) for tensor in SHAPES), name
