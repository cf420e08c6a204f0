"""Actions from the actor's outputs, and a policy that remembers its latents."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from absl.testing import parameterized

from dreamerjax.agent import action_distribution
from dreamerjax.agent.policy import Policy, Seen, act, initial_policy_state
from dreamerjax.agent.state import acting_params
from dreamerjax.core.types import Arrays, EnvSpec
from tests.helpers import CONTINUOUS, MIXED, VECTOR, make_networks, observations, random_agent
from tests.networks import numpy_model
from tests.ops.references import with_and_without_jit

GRID = 2000
STRATA: Any = (np.arange(GRID, dtype=np.float32) + 0.5) / GRID  # evenly spread uniforms: frequencies without sampling error
ENVS = 64
SPECS = {"discrete": VECTOR, "multi-discrete": MIXED, "continuous": CONTINUOUS}


def outputs(spec: EnvSpec, rows: int = 1) -> Any:
    size = spec.action.encoded_size if spec.action.is_discrete else 2 * spec.action.dimensions
    return np.random.default_rng(0).normal(size=(rows, size)).astype(np.float32)


def component_log_probs(spec: EnvSpec, rows: np.ndarray) -> list[np.ndarray]:
    """Unimixed log-probabilities [rows, size] of each component."""
    edges = np.cumsum(spec.action.sizes)[:-1]
    return [numpy_model.unimix(part, 0.01) for part in np.split(rows.astype(np.float64), edges, axis=-1)]


def normal_parameters(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean tanh(x), standard deviation between 0.1 and 1."""
    mean, std = np.split(rows.astype(np.float64), 2, axis=-1)
    return np.tanh(mean), 0.1 + 0.9 * numpy_model.sigmoid(std + 2.0)


class ActionDistributionTest(chex.TestCase):
    """Compiled and operation by operation."""

    def of(self, function: Callable[..., Any], spec: EnvSpec) -> Any:
        return self.variant(partial(function, make_networks(spec)))

    @with_and_without_jit
    @parameterized.product(name=["discrete", "multi-discrete"])
    def test_choices_are_as_frequent_as_their_probabilities(self, name: str) -> None:
        spec = SPECS[name]
        rows = outputs(spec)
        uniform: Any = np.stack([np.roll(STRATA, 37 * i) for i in range(len(spec.action.sizes))], axis=-1)
        drawn = np.asarray(self.of(action_distribution.sample, spec)(jnp.tile(rows, (GRID, 1)), jnp.asarray(uniform)))
        assert drawn.dtype == np.int32
        for i, log_probs in enumerate(component_log_probs(spec, rows)):
            frequencies = np.bincount(drawn[:, i], minlength=spec.action.sizes[i]) / GRID
            np.testing.assert_allclose(frequencies, np.exp(log_probs[0]), atol=1.5 / GRID)

    @with_and_without_jit
    def test_a_continuous_action_is_normal(self) -> None:
        rows = outputs(CONTINUOUS)
        uniform: Any = np.stack([STRATA, STRATA[::-1]], axis=-1)
        drawn = np.asarray(self.of(action_distribution.sample, CONTINUOUS)(jnp.tile(rows, (GRID, 1)), jnp.asarray(uniform)))
        mean, std = normal_parameters(rows)
        np.testing.assert_allclose(drawn, scipy.stats.norm.ppf(uniform.astype(np.float64), mean, std), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(drawn.mean(axis=0), mean[0], atol=1e-3)
        np.testing.assert_allclose(drawn.std(axis=0), std[0], rtol=0.01)

    @with_and_without_jit
    def test_the_ends_of_the_uniform_range_stay_finite(self) -> None:
        sample = self.of(action_distribution.sample, CONTINUOUS)
        for end in (0.0, 1.0):
            assert np.isfinite(sample(outputs(CONTINUOUS), jnp.full((1, 2), end))).all()

    @with_and_without_jit
    @parameterized.product(name=list(SPECS))
    def test_the_mode_is_the_likeliest_action(self, name: str) -> None:
        spec = SPECS[name]
        rows = outputs(spec, 20)
        judge, sample = self.of(action_distribution.log_prob_and_entropy, spec), self.of(action_distribution.sample, spec)
        mode = self.of(action_distribution.mode, spec)(rows)
        assert mode.shape == (20, *spec.action.shape)
        assert mode.dtype == spec.action.dtype
        best, _ = judge(rows, mode)
        for seed in range(10):
            uniform: Any = np.random.default_rng(seed).uniform(size=mode.shape).astype(np.float32)
            other, _ = judge(rows, sample(rows, uniform))
            assert (np.asarray(other) <= np.asarray(best) + 1e-6).all()

    @with_and_without_jit
    @parameterized.product(name=list(SPECS))
    def test_log_probability_and_entropy(self, name: str) -> None:
        spec = SPECS[name]
        rows = outputs(spec, 20)
        uniform: Any = np.random.default_rng(1).uniform(size=(20, *spec.action.shape)).astype(np.float32)
        action: Any = np.asarray(self.of(action_distribution.sample, spec)(rows, uniform))
        log_prob, entropy = self.of(action_distribution.log_prob_and_entropy, spec)(rows, action)
        if spec.action.is_discrete:
            parts = component_log_probs(spec, rows)
            expected = sum(np.take_along_axis(p, action[:, [i]], -1)[:, 0] for i, p in enumerate(parts))
            expected_entropy = sum(scipy.stats.entropy(np.exp(p), axis=-1) for p in parts)
        else:
            normal = scipy.stats.norm(*normal_parameters(rows))
            expected, expected_entropy = normal.logpdf(action).sum(axis=-1), normal.entropy().sum(axis=-1)
        np.testing.assert_allclose(log_prob, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(entropy, expected_entropy, rtol=1e-4, atol=1e-5)


class Setup:
    """A discrete agent that acts in 64 environments."""

    def __init__(self) -> None:
        self.networks = make_networks(VECTOR)
        params = random_agent(self.networks)
        self.numpy = numpy_model.as_float64(params)
        self.params = acting_params(params)
        self.first = np.ones(ENVS, bool)
        self.later = np.zeros(ENVS, bool)

    def policy(self, *, greedy: bool = False, seed: int = 0) -> Policy:
        return Policy(self.networks, self.params, ENVS, seed, greedy=greedy)

    def observe(self, seed: int) -> Arrays:
        return observations(VECTOR, (ENVS,), np.random.default_rng(seed))

    def play(self, actor: Policy, steps: int, start: int = 0) -> list[tuple[np.ndarray, Arrays]]:
        return [actor(self.observe(start + t), self.later if start + t else self.first) for t in range(steps)]

    def log_probs(self, latents: Arrays) -> np.ndarray:
        """Of the actions [N, 3], given the latents that were returned with them."""
        stoch = numpy_model.one_hot(latents["stoch"], self.networks.rssm.classes).reshape(ENVS, -1)
        features = np.concatenate([numpy_model.as_float64(latents["deter"]), stoch], axis=-1)
        return numpy_model.unimix(numpy_model.head(self.numpy["actor"], features), 0.01)


@pytest.fixture(scope="module")
def setup() -> Setup:
    return Setup()


class ActTest(chex.TestCase):
    """Compiled and operation by operation."""

    @with_and_without_jit
    def test_a_step_filters_and_takes_the_likeliest_action(self) -> None:
        """h_{t+1} follows from the returned h_t, z_t and a_t by the formula, and from zeros at the start of an episode."""
        setup = Setup()
        rssm = setup.networks.rssm
        step = self.variant(partial(act, setup.networks, greedy=True))
        formula = partial(numpy_model.gru, setup.numpy["world_model"]["rssm"], rssm.blocks)
        state = initial_policy_state(setup.networks, ENVS)
        expected = formula(np.zeros((ENVS, rssm.deter)), np.zeros((ENVS, rssm.groups, rssm.classes)), np.zeros((ENVS, 3)))
        for t in range(2):
            seen = Seen(setup.observe(t), setup.later if t else setup.first)
            action, state = step(setup.params, state, seen, jax.random.key(t))
            deter, stoch = (numpy_model.as_float64(part) for part in state.latent)
            np.testing.assert_allclose(deter, expected, rtol=1e-3, atol=1e-4)
            stored = {"deter": deter, "stoch": stoch.argmax(axis=-1)}
            np.testing.assert_array_equal(action[:, 0], setup.log_probs(stored).argmax(axis=-1))
            np.testing.assert_array_equal(state.action, action)
            expected = formula(deter, stoch, numpy_model.one_hot(np.asarray(action)[:, 0], 3))

    @with_and_without_jit
    def test_a_sample_is_not_everywhere_the_likeliest_action(self) -> None:
        setup = Setup()
        step = self.variant(partial(act, setup.networks, greedy=False))
        seen = Seen(setup.observe(0), setup.first)
        action, state = step(setup.params, initial_policy_state(setup.networks, ENVS), seen, jax.random.key(0))
        assert (action.shape, action.dtype) == ((ENVS, 1), jnp.int32)
        deter, stoch = (numpy_model.as_float64(part) for part in state.latent)
        likeliest = setup.log_probs({"deter": deter, "stoch": stoch.argmax(axis=-1)}).argmax(axis=-1)
        assert 0 < (np.asarray(action)[:, 0] != likeliest).mean() < 1


def assert_same(left: list[tuple[np.ndarray, Arrays]], right: list[tuple[np.ndarray, Arrays]]) -> None:
    for (action, latents), (other_action, other_latents) in zip(left, right, strict=True):
        np.testing.assert_array_equal(action, other_action)
        for name, value in latents.items():
            np.testing.assert_array_equal(value, other_latents[name])


def test_a_policy_returns_actions_and_what_replay_stores(setup: Setup) -> None:
    action, latents = setup.policy()(setup.observe(0), setup.first)
    assert (action.shape, action.dtype) == ((ENVS, 1), np.int32)
    assert (latents["deter"].shape, latents["deter"].dtype) == ((ENVS, 16), np.float32)
    assert (latents["stoch"].shape, latents["stoch"].dtype) == ((ENVS, 2), np.uint8)
    assert latents["stoch"].max() < 4


def test_a_saved_policy_continues_bit_for_bit(setup: Setup) -> None:
    original = setup.policy()
    setup.play(original, 3)
    saved = original.state_dict()
    assert all(isinstance(value, np.ndarray) for value in saved.values())
    copy = setup.policy()
    copy.load_state_dict(saved)
    assert_same(setup.play(copy, 3, start=3), setup.play(original, 3, start=3))


def test_the_latents_follow_what_was_done_in_place_of_the_policys_action(setup: Setup) -> None:
    def instead(action: np.ndarray, is_first: np.ndarray) -> np.ndarray:
        return np.where(is_first[:, None], 2, action)

    explored = Policy(setup.networks, setup.params, ENVS, 0, greedy=True, explore=instead)
    (action, latents), (_, later) = setup.play(explored, 2)
    assert (action == 2).all()
    rssm = setup.networks.rssm
    stoch = numpy_model.one_hot(latents["stoch"], rssm.classes).reshape(ENVS, rssm.groups, rssm.classes)
    done = numpy_model.one_hot(action[:, 0], 3)
    expected = numpy_model.gru(
        setup.numpy["world_model"]["rssm"], rssm.blocks, numpy_model.as_float64(latents["deter"]), stoch, done
    )
    np.testing.assert_allclose(later["deter"], expected, rtol=1e-3, atol=1e-4)


def test_a_reset_policy_plays_the_same_again_and_another_seed_does_not(setup: Setup) -> None:
    actor = setup.policy()
    first = setup.play(actor, 3)
    actor.reset()
    assert_same(setup.play(actor, 3), first)
    other = setup.play(setup.policy(seed=1), 3)
    assert any((a != b).any() for (a, _), (b, _) in zip(first, other, strict=True))


def test_a_greedy_policy_takes_the_likeliest_action_of_its_latent(setup: Setup) -> None:
    for action, latents in setup.play(setup.policy(greedy=True), 3):
        np.testing.assert_array_equal(action[:, 0], setup.log_probs(latents).argmax(axis=-1))


def test_a_sampled_policy_takes_all_actions_as_often_as_it_should(setup: Setup) -> None:
    steps = setup.play(setup.policy(), 30)
    expected = np.mean([np.exp(setup.log_probs(latents)).mean(axis=0) for _, latents in steps], axis=0)
    frequencies = np.bincount(np.concatenate([action[:, 0] for action, _ in steps]), minlength=3) / (30 * ENVS)
    np.testing.assert_allclose(frequencies, expected, atol=0.04)


def test_acting_remembers_the_latent_and_the_action(setup: Setup) -> None:
    """h_{t+1} follows from the returned h_t, z_t and a_t by the formula, and from zeros at the start of an episode."""
    (action, latents), (_, following) = setup.play(setup.policy(), 2)
    rssm = setup.networks.rssm
    stoch = numpy_model.one_hot(latents["stoch"], rssm.classes)
    step = partial(numpy_model.gru, setup.numpy["world_model"]["rssm"], rssm.blocks)
    expected = step(numpy_model.as_float64(latents["deter"]), stoch, numpy_model.one_hot(action[:, 0], 3))
    np.testing.assert_allclose(following["deter"], expected, rtol=1e-3, atol=1e-4)
    start = step(np.zeros((ENVS, rssm.deter)), np.zeros_like(stoch), np.zeros((ENVS, 3)))
    np.testing.assert_allclose(latents["deter"], start, rtol=1e-3, atol=1e-4)


def test_is_first_erases_what_was_remembered(setup: Setup) -> None:
    used, unused = setup.policy(), setup.policy()
    setup.play(used, 3)
    unused.load_state_dict(unused.state_dict() | {"calls": np.int32(3)})
    results: list[Any] = [actor(setup.observe(9), setup.first) for actor in (used, unused)]
    assert_same(results[:1], results[1:])


def test_the_state_holds_no_action_of_the_wrong_kind() -> None:
    for spec in SPECS.values():
        state = initial_policy_state(make_networks(spec), 3)
        assert state.action.shape == (3, *spec.action.shape)
        assert state.action.dtype == jnp.dtype(spec.action.dtype)
        assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(state))
