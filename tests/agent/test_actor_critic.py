"""Actor, critic and replay-critic losses against their formulas in float64 NumPy."""

from __future__ import annotations

from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from dreamerjax.agent import actor_critic, losses
from dreamerjax.agent.actor_critic import Critics, DreamTargets
from dreamerjax.agent.imagination import Dream
from dreamerjax.ops import normalization
from tests.helpers import VECTOR, largest, make_networks, random_params
from tests.networks import numpy_model
from tests.ops.references import with_and_without_jit

HORIZON, STARTS, LENGTH, SEQUENCES = 4, 6, 7, 5
NETWORKS = make_networks(VECTOR)
PARAMS, SLOW = random_params(NETWORKS), random_params(NETWORKS, seed=2)["critic"]
NUMPY, NUMPY_SLOW = numpy_model.as_float64(PARAMS), numpy_model.as_float64(SLOW)
BINS = NETWORKS.bins.values.astype(np.float64)
FEATURES = NETWORKS.rssm.deter + NETWORKS.rssm.groups * NETWORKS.rssm.classes
ENTROPY = 0.05
LAMBDA = 0.8


def make_dream(seed: int = 0) -> Dream:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(HORIZON + 1, STARTS, FEATURES))
    return Dream(jnp.asarray(features, jnp.float32), jnp.asarray(rng.integers(0, 3, (HORIZON, STARTS, 1)), jnp.int32))


DREAM = make_dream()
START_CONTINUE = jnp.asarray([1.0, 1.0, 0.0, 1.0, 1.0, 1.0])


def numpy_value(params: Any, features: Any) -> np.ndarray:
    """sum_i p_i b_i of a two-hot head."""
    return numpy_model.softmax(numpy_model.head(params, numpy_model.as_float64(features))) @ BINS


def critic_cross_entropy(features: Any, targets: np.ndarray, slow_regularizer: float) -> np.ndarray:
    """To the targets, plus `slow_regularizer` times that to the slow critic's value."""
    logits = numpy_model.head(NUMPY["critic"], numpy_model.as_float64(features))
    hold = numpy_model.two_hot_loss(logits, numpy_value(NUMPY_SLOW, features), BINS)
    return numpy_model.two_hot_loss(logits, targets, BINS) + slow_regularizer * hold


def dream_targets(model: Any, critic: Any, slow: Any, dream: Dream) -> DreamTargets:
    return actor_critic.dream_targets(
        NETWORKS, model, Critics(critic, slow), dream, START_CONTINUE, lambda_=jnp.float32(LAMBDA)
    )


@cache
def drawn_targets() -> DreamTargets:
    """Those of the dream."""
    result: DreamTargets = jax.jit(dream_targets)(PARAMS["world_model"], PARAMS["critic"], SLOW, DREAM)
    return result


@pytest.fixture(scope="module")
def targets() -> DreamTargets:
    return drawn_targets()


def as_numpy(targets: DreamTargets) -> DreamTargets:
    result: DreamTargets = jax.tree.map(numpy_model.as_float64, targets)
    return result


def actor_loss(networks: Any, params: Any, targets: DreamTargets, scale: Any, entropy: Any) -> Any:
    advantage = actor_critic.advantages(targets, scale, centered=False)
    return losses.actor_loss(networks, params, DREAM, targets.weights, advantage, entropy_coefficient=entropy)


class Sequences:
    """Real sequences with ends of both kinds, as NumPy."""

    rewards: Any
    is_last: Any
    is_terminal: Any
    bootstrap: Any

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        shape = (LENGTH, SEQUENCES)
        self.features = jnp.asarray(rng.normal(size=(*shape, FEATURES)), jnp.float32)
        self.rewards = rng.normal(size=shape).astype(np.float32)
        self.is_last = rng.uniform(size=shape) < 0.3
        self.is_terminal = self.is_last & (rng.uniform(size=shape) < 0.5)
        self.bootstrap = rng.normal(size=shape).astype(np.float32)

    def loss(self, params: Any, features: jax.Array, bootstrap: jax.Array) -> jax.Array:
        batch: Any = SimpleNamespace(reward=self.rewards, is_last=self.is_last, is_terminal=self.is_terminal)
        return losses.replay_critic_loss(
            NETWORKS, Critics(params, SLOW), features, batch, bootstrap,
            gamma=jnp.float32(0.9), lambda_=jnp.float32(LAMBDA), slow_regularizer=jnp.float32(0.5),
        )  # fmt: skip


class FormulasTest(chex.TestCase):
    """Compiled and operation by operation."""

    @with_and_without_jit
    def test_a_value_is_the_mean_of_the_bins(self) -> None:
        value = self.variant(partial(actor_critic.value, NETWORKS))
        expected = numpy_value(NUMPY["critic"], DREAM.features)
        np.testing.assert_allclose(value(PARAMS["critic"], DREAM.features), expected, rtol=1e-3, atol=1e-4)

    @with_and_without_jit
    def test_dream_targets_are_lambda_returns_of_what_comes_after_each_step(self) -> None:
        """R_t = r_{t+1} + c_{t+1} ((1-lambda) v_{t+1} + lambda R_{t+1}): values at t+1, the last one bootstraps."""
        targets = self.variant(dream_targets)(PARAMS["world_model"], PARAMS["critic"], SLOW, DREAM)
        rewards = numpy_value(NUMPY["world_model"]["reward"], DREAM.features)
        logits = numpy_model.head(NUMPY["world_model"]["continue"], numpy_model.as_float64(DREAM.features))[..., 0]
        continues, values = numpy_model.sigmoid(logits), numpy_value(NUMPY["critic"], DREAM.features)
        returns, following = np.zeros((HORIZON, STARTS)), values[HORIZON]
        for t in reversed(range(HORIZON)):
            following = rewards[t + 1] + continues[t + 1] * ((1 - LAMBDA) * values[t + 1] + LAMBDA * following)
            returns[t] = following
        weights = np.zeros((HORIZON, STARTS))
        for t in range(HORIZON):
            weights[t] = weights[t - 1] * continues[t] if t else np.asarray(START_CONTINUE)
        np.testing.assert_allclose(targets.returns, returns, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(targets.values, values, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(targets.slow_values, numpy_value(NUMPY_SLOW, DREAM.features), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(targets.continues, continues[1:], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(targets.weights, weights, rtol=1e-4, atol=1e-6)

    @with_and_without_jit
    @parameterized.product(slow_regularizer=[0.0, 1.0, 0.3])
    def test_the_critic_loss_is_two_cross_entropies(self, slow_regularizer: float) -> None:
        targets = drawn_targets()
        loss = self.variant(partial(losses.dream_critic_loss, NETWORKS))
        actual = loss(PARAMS["critic"], DREAM, targets, jnp.float32(slow_regularizer))
        per_step = critic_cross_entropy(DREAM.features[:-1], numpy_model.as_float64(targets.returns), slow_regularizer)
        np.testing.assert_allclose(actual, as_numpy(targets).weights * per_step, rtol=1e-3, atol=1e-4)
        wanted = losses.CriticTargets(targets.returns, targets.slow_values[:-1], targets.weights)
        whole = self.variant(partial(losses.critic_loss, NETWORKS))
        at_once = whole(PARAMS["critic"], DREAM.features[:-1], wanted, jnp.float32(slow_regularizer))
        np.testing.assert_allclose(at_once, as_numpy(targets).weights * per_step, rtol=1e-3, atol=1e-4)

    @with_and_without_jit
    @parameterized.product(unimix=[0.0, 0.01])
    def test_the_actor_loss_is_the_score_function_with_entropy(self, unimix: float) -> None:
        targets, networks = drawn_targets(), make_networks(VECTOR, unimix=unimix)
        weights, returns, values = as_numpy(targets).weights, as_numpy(targets).returns, as_numpy(targets).values
        compute = self.variant(partial(actor_loss, networks))
        loss, metrics = compute(PARAMS["actor"], targets, jnp.float32(2.5), jnp.float32(ENTROPY))
        log_probs = numpy_model.unimix(numpy_model.head(NUMPY["actor"], numpy_model.as_float64(DREAM.features[:-1])), unimix)
        chosen = np.take_along_axis(log_probs, np.asarray(DREAM.actions), -1)[..., 0]
        entropy = -(np.exp(log_probs) * log_probs).sum(axis=-1)
        advantage = (returns - values[:-1]) / 2.5
        expected = -weights * (chosen * advantage + ENTROPY * entropy)
        np.testing.assert_allclose(loss, expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(metrics["actor/entropy"], entropy.mean(), rtol=1e-4)
        np.testing.assert_allclose(metrics["actor/advantage_magnitude"], np.abs(advantage).mean(), rtol=1e-3)

    @with_and_without_jit
    def test_centered_advantages_have_no_mean_at_any_step(self) -> None:
        """The mean over dreams, by their weights, is gone; differences between dreams of one step stay."""
        targets = drawn_targets()
        plain, centered = (
            numpy_model.as_float64(self.variant(partial(actor_critic.advantages, centered=each))(targets, jnp.float32(2.5)))
            for each in (False, True)
        )
        weights = as_numpy(targets).weights
        assert np.abs((weights * plain).sum(axis=1)).min() > 1e-3
        np.testing.assert_allclose((weights * centered).sum(axis=1), 0.0, atol=1e-4)
        np.testing.assert_allclose(centered - centered[:, :1], plain - plain[:, :1], atol=1e-5)

    @with_and_without_jit
    def test_a_critic_that_lags_everywhere_alike_changes_no_centered_advantage(self) -> None:
        targets, advantages = drawn_targets(), self.variant(partial(actor_critic.advantages, centered=True))
        lagging = targets._replace(values=targets.values - 20.0)
        one, other = (advantages(each, jnp.float32(1.0)) for each in (targets, lagging))
        np.testing.assert_allclose(one, other, atol=1e-4)
        ended = targets._replace(weights=jnp.zeros_like(targets.weights))
        assert np.isfinite(advantages(ended, jnp.float32(1.0))).all()

    @with_and_without_jit
    def test_the_replay_critic_loss_fits_returns_over_real_rewards(self) -> None:
        s = Sequences()
        assert (s.is_last & ~s.is_terminal)[1:].any()
        targets = np.zeros((LENGTH - 1, SEQUENCES))
        for b in range(SEQUENCES):
            following = float(s.bootstrap[-1, b])
            for t in reversed(range(LENGTH - 1)):
                carry = 0.0 if s.is_last[t + 1, b] else LAMBDA
                mixed = (1.0 - carry) * float(s.bootstrap[t + 1, b]) + carry * following
                following = float(s.rewards[t + 1, b]) + (0.0 if s.is_terminal[t + 1, b] else 0.9) * mixed
                targets[t, b] = following
        expected = ~s.is_last[:-1] * critic_cross_entropy(s.features[:-1], targets, 0.5)
        actual = self.variant(s.loss)(PARAMS["critic"], s.features, s.bootstrap)
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)


def test_a_dream_from_an_ended_episode_weighs_nothing(targets: DreamTargets) -> None:
    ended = np.asarray(START_CONTINUE) == 0
    np.testing.assert_array_equal(np.asarray(targets.weights)[:, ended], 0.0)
    assert (np.asarray(targets.weights)[:, ~ended] > 0).all()


def test_targets_carry_no_gradient() -> None:
    """Neither into the critic that is being trained (findings_of_the_log.md#01-19d) nor into the world model."""

    def total(model: Any, critic: Any, slow: Any, dream: Any) -> jax.Array:
        targets = dream_targets(model, critic, slow, DREAM._replace(features=dream))
        return jnp.sum(jnp.stack([jnp.sum(part) for part in targets]))

    gradients = jax.jit(jax.grad(total, argnums=(0, 1, 2, 3)))
    assert largest(gradients(PARAMS["world_model"], PARAMS["critic"], SLOW, DREAM.features)) == 0


def test_the_critic_learns_towards_its_targets_only_through_its_prediction(targets: DreamTargets) -> None:
    """The gradient of a cross-entropy by the logits' bias is p - target; the targets themselves get none."""

    def total(params: Any, targets: DreamTargets) -> jax.Array:
        return jnp.sum(losses.dream_critic_loss(NETWORKS, params, DREAM, targets, jnp.float32(1.0)))

    def by_targets(returns: jax.Array, slow_values: jax.Array) -> jax.Array:
        return total(PARAMS["critic"], targets._replace(returns=returns, slow_values=slow_values))

    by_params = jax.jit(jax.grad(total))(PARAMS["critic"], targets)
    probs = numpy_model.softmax(numpy_model.head(NUMPY["critic"], numpy_model.as_float64(DREAM.features[:-1])))
    encoded = numpy_model.two_hot(numpy_model.as_float64(targets.returns), BINS)
    encoded += numpy_model.two_hot(numpy_model.as_float64(targets.slow_values[:-1]), BINS)
    expected = (numpy_model.as_float64(targets.weights)[..., None] * (2.0 * probs - encoded)).sum(axis=(0, 1))
    np.testing.assert_allclose(by_params["out"]["dense"]["bias"], expected, rtol=1e-3, atol=1e-3)
    gradients = jax.jit(jax.grad(by_targets, argnums=(0, 1)))(targets.returns, targets.slow_values)
    assert largest(gradients) == 0


def test_the_actor_gradient_is_the_policy_gradient(targets: DreamTargets) -> None:
    """By the logits, without unimix: -w (A (onehot(a) - p) - eta p (log p + H))."""
    networks = make_networks(VECTOR, unimix=0.0)

    def total(params: Any) -> jax.Array:
        return jnp.sum(actor_loss(networks, params, targets, jnp.float32(1.0), jnp.float32(ENTROPY))[0])

    log_probs = numpy_model.unimix(numpy_model.head(NUMPY["actor"], numpy_model.as_float64(DREAM.features[:-1])), 0.0)
    probs = np.exp(log_probs)
    entropy = -(probs * log_probs).sum(axis=-1, keepdims=True)
    advantage = (numpy_model.as_float64(targets.returns) - numpy_model.as_float64(targets.values)[:-1])[..., None]
    score = numpy_model.one_hot(np.asarray(DREAM.actions)[..., 0], 3) - probs
    by_logits = -(advantage * score - ENTROPY * probs * (log_probs + entropy))
    expected = (numpy_model.as_float64(targets.weights)[..., None] * by_logits).sum(axis=(0, 1))
    actual = jax.jit(jax.grad(total))(PARAMS["actor"])["out"]["dense"]["bias"]
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)


def test_the_return_scale_is_the_spread_of_the_percentiles_but_not_below_one() -> None:
    rng = np.random.default_rng(0)
    for size in (10.0, 0.1):
        returns = (size * rng.normal(size=(HORIZON, 50))).astype(np.float32)
        state = normalization.return_scale_update(normalization.return_scale_init(), jnp.asarray(returns))
        spread = np.percentile(returns, 95) - np.percentile(returns, 5)
        scale = float(actor_critic.normalized_scale(state, enabled=True))
        assert scale == pytest.approx(max(float(spread), 1.0), rel=1e-4)
        assert float(actor_critic.normalized_scale(state, enabled=False)) == 1.0
    assert float(actor_critic.normalized_scale(normalization.return_scale_init(), enabled=True)) == 1.0


def test_the_replay_critic_loss_reaches_the_features_but_not_the_bootstrap() -> None:
    s = Sequences()
    total = jax.jit(jax.grad(lambda *arguments: jnp.sum(s.loss(*arguments)), argnums=(0, 1, 2)))
    by_params, by_features, by_bootstrap = total(PARAMS["critic"], s.features, jnp.asarray(s.bootstrap))
    assert largest(by_params) > 0
    np.testing.assert_array_equal(by_bootstrap, 0.0)
    moved = np.abs(np.asarray(by_features)).max(axis=-1) > 0
    np.testing.assert_array_equal(moved, np.concatenate([~s.is_last[:-1], np.zeros((1, SEQUENCES), bool)]))


def test_what_follows_an_end_is_nothing_to_what_came_before() -> None:
    """is_last cuts the return: rewards of the next episode change no loss of the one before."""
    s = Sequences()
    s.is_last[:], s.is_terminal[:] = False, False
    s.is_last[3] = True
    before = np.asarray(s.loss(PARAMS["critic"], s.features, s.bootstrap))
    s.rewards[4:] += 5.0
    after = np.asarray(s.loss(PARAMS["critic"], s.features, s.bootstrap))
    np.testing.assert_allclose(after[:3], before[:3], rtol=1e-5)
    np.testing.assert_array_equal(after[3], 0.0)
    assert (np.abs(after[4:] - before[4:]) > 1e-3).all()
