"""Return scale and moving averages against float64 NumPy and their fixed points."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dreamerjax.ops import normalization
from tests.ops.references import float32s, with_and_without_jit


def numpy_percentile(values: np.ndarray, percentile: float) -> float:
    """Linear interpolation between the two nearest ranks."""
    ordered = np.sort(values.astype(np.float64).ravel())
    position = percentile / 100 * (len(ordered) - 1)
    below = int(np.floor(position))
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def test_one_update_already_gives_the_batch_spread() -> None:
    batch = jnp.linspace(0.0, 100.0, 101)
    state = normalization.return_scale_update(normalization.return_scale_init(), batch)
    np.testing.assert_allclose(normalization.return_scale(state), 90.0, rtol=1e-5)
    np.testing.assert_allclose(state.low / state.correction, 5.0, rtol=1e-4)


def test_return_scale_is_limited_from_below_also_before_any_update() -> None:
    start = normalization.return_scale_init()
    assert float(normalization.return_scale(start)) == 1.0
    assert float(normalization.return_scale(start, limit=0.25)) == 0.25
    small = normalization.return_scale_update(start, jnp.full((4, 5), 3.0))
    assert float(normalization.return_scale(small)) == 1.0


@given(st.floats(0.001, 1.0), st.integers(1, 20))
@settings(deadline=None, max_examples=20)
def test_a_constant_distribution_has_its_own_spread_at_every_step(rate: float, steps: int) -> None:
    batch = jnp.linspace(-20.0, 20.0, 41)
    state = normalization.return_scale_init()
    update = jax.jit(lambda state, rate: normalization.return_scale_update(state, batch, rate=rate))
    for _ in range(steps):
        state = update(state, jnp.float32(rate))
    np.testing.assert_allclose(normalization.return_scale(state), 36.0, rtol=1e-4)


def test_update_can_be_carried_through_a_scan_and_stops_gradients() -> None:
    batches = jax.random.normal(jax.random.key(0), (6, 30)) * 10
    carried, _ = jax.lax.scan(
        lambda state, batch: (normalization.return_scale_update(state, batch), None), normalization.return_scale_init(), batches
    )
    looped = normalization.return_scale_init()
    for batch in batches:
        looped = normalization.return_scale_update(looped, batch)
    chex.assert_trees_all_close(carried, looped, rtol=1e-5)

    def scale(batch: jax.Array) -> jax.Array:
        return normalization.return_scale(normalization.return_scale_update(normalization.return_scale_init(), batch))

    np.testing.assert_array_equal(jax.grad(scale)(batches[0]), 0.0)


def test_percentiles_are_those_of_all_devices_together() -> None:
    """vmap with an axis name runs the same collective as pmap, without needing several devices."""
    halves = jnp.stack([jnp.arange(0.0, 50.0), jnp.arange(50.0, 100.0)])
    start = normalization.return_scale_init()
    gathered = jax.vmap(lambda x: normalization.return_scale_update(start, x, axis_name="devices"), axis_name="devices")
    alone = normalization.return_scale_update(start, halves)
    chex.assert_trees_all_close(gathered(halves), jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), alone), rtol=1e-6)


@given(hnp.arrays(np.float32, 6, elements=float32s(-1e6, 1e6)))
@settings(deadline=None, max_examples=30)
def test_ema_rate_zero_keeps_and_rate_one_replaces_exactly(x: np.ndarray) -> None:
    old, new = jnp.asarray(x), jnp.asarray(x[::-1] * 3)
    np.testing.assert_array_equal(normalization.ema_update(old, new, 0.0), old)
    np.testing.assert_array_equal(normalization.ema_update(old, new, 1.0), new)


class NormalizationTest(chex.TestCase):
    """Compiled and operation by operation."""

    @with_and_without_jit
    @parameterized.product(
        [{"low": 5.0, "high": 95.0}, {"low": 0.0, "high": 100.0}, {"low": 25.0, "high": 60.0}], rate=[0.01, 0.3, 1.0]
    )
    def test_return_scale_matches_a_debiased_average(self, rate: float, low: float, high: float) -> None:
        update = self.variant(
            lambda state, returns, rate, low, high: normalization.return_scale_update(
                state, returns, rate=rate, percentile_low=low, percentile_high=high
            )
        )
        rng = np.random.default_rng(0)
        state, spreads = normalization.return_scale_init(), []
        for step in range(1, 8):
            batch = (rng.normal(size=(15, 16)) * 3**step).astype(np.float32)
            state = update(state, batch, jnp.float32(rate), jnp.float32(low), jnp.float32(high))
            spreads.append(numpy_percentile(batch, high) - numpy_percentile(batch, low))
            weights = [rate * (1 - rate) ** age for age in range(step)][::-1]
            expected = sum(w * s for w, s in zip(weights, spreads, strict=True)) / (1 - (1 - rate) ** step)
            np.testing.assert_allclose(self.variant(normalization.return_scale)(state), max(1.0, expected), rtol=1e-4)

    @with_and_without_jit
    def test_ema_update_matches_the_formula_on_a_tree(self) -> None:
        rng = np.random.default_rng(0)
        old = {"layer": {"kernel": rng.normal(size=(3, 2)).astype(np.float32)}, "bias": np.array([1.0, 2.0], np.float32)}
        new = jax.tree.map(lambda x: (x * -2 + 1).astype(np.float32), old)
        averaged = self.variant(normalization.ema_update)(old, new, jnp.float32(0.02))
        expected = jax.tree.map(lambda before, after: 0.98 * before.astype(np.float64) + 0.02 * after, old, new)
        chex.assert_trees_all_close(averaged, expected, rtol=1e-5, atol=1e-6)
