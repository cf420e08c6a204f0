"""Against dreams that a policy exploits: heads that disagree, rewards lowered by it, and a policy that stays near another."""

from __future__ import annotations

import functools
import math
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dreamerjax.agent import action_distribution, actor_critic
from dreamerjax.agent.actor_critic import DreamTargets
from dreamerjax.agent.imagination import Dream
from dreamerjax.agent.losses import Anchor, actor_loss
from dreamerjax.agent.state import init_train_state
from dreamerjax.agent.update import train_step
from dreamerjax.agent.world_model import ensemble_logits, ensemble_predictions, reward_and_continue
from dreamerjax.core.types import ActionSpec, EnvSpec, ObservationSpec
from dreamerjax.networks.build import Networks
from dreamerjax.networks.layers import apply
from dreamerjax.ops import distributions, scalars
from tests.helpers import hyper, make_networks, random_batch, random_state, settings

MEMBERS = 4
NETWORKS = make_networks(ensemble=MEMBERS)
STATE = jax.jit(partial(init_train_state, NETWORKS))(jax.random.key(0))
MODEL, CRITIC = STATE.params["world_model"], STATE.params["critic"]
FEATURES = NETWORKS.rssm.deter + NETWORKS.rssm.groups * NETWORKS.rssm.classes
SPACES = {
    "discrete": ActionSpec(sizes=(3, 2)),
    "continuous": ActionSpec(dimensions=2),
}


def drawn(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def disagreement(networks: Networks, model: Any, features: jax.Array) -> list[jax.Array]:
    """Standard deviations over the members of reward and continuation [...]."""
    return [jnp.std(said, axis=0) for said in ensemble_predictions(networks, model, features)]


@functools.cache
def fitted() -> tuple[Any, jax.Array, jax.Array]:
    """The model with its heads fitted to reward 1 and going on at known states [N, F], and unknown states far from them."""
    known = 0.1 * drawn(1, 32, FEATURES) + 1.0
    unknown = 3.0 * drawn(2, 32, FEATURES)
    heads = {name: MODEL[name] for name in ("reward", "continue")}
    optimizer = optax.adam(1e-2)

    def loss(heads: Any) -> jax.Array:
        rewards, continues = ensemble_logits(NETWORKS, heads, known)
        fit = [scalars.two_hot_loss(member, jnp.ones(32), NETWORKS.bins) for member in rewards]
        return jnp.mean(jnp.stack(fit)) + jnp.mean(jax.nn.softplus(-continues))

    @jax.jit
    def fit(heads: Any) -> Any:
        def step(carry: Any, _: None) -> Any:
            heads, state = carry
            updates, state = optimizer.update(jax.grad(loss)(heads), state)
            return (optax.apply_updates(heads, updates), state), None

        return jax.lax.scan(step, (heads, optimizer.init(heads)), length=200)[0][0]

    return {**MODEL, **fit(heads)}, known, unknown


def targets(networks: Networks, model: Any, features: jax.Array, pessimism: float) -> DreamTargets:
    dream = Dream(features, jnp.zeros((len(features) - 1, features.shape[1], 1), jnp.int32))
    critics = actor_critic.Critics(CRITIC, CRITIC)
    alive = jnp.ones(features.shape[1])
    return actor_critic.dream_targets(
        networks, model, critics, dream, alive, lambda_=jnp.float32(0.0), pessimism=jnp.float32(pessimism)
    )


def test_members_start_apart_and_their_mean_is_what_the_model_says() -> None:
    features = drawn(3, 5, FEATURES)
    rewards, continues = ensemble_logits(NETWORKS, MODEL, features)
    chex.assert_shape(rewards, (MEMBERS, 5, 21))
    chex.assert_shape(continues, (MEMBERS, 5))
    reward, going_on = reward_and_continue(NETWORKS, MODEL, features)
    np.testing.assert_allclose(reward, np.mean(scalars.two_hot_mean(rewards, NETWORKS.bins), axis=0), atol=1e-6)
    np.testing.assert_allclose(going_on, np.mean(jax.nn.sigmoid(continues), axis=0), atol=1e-6)
    assert np.all(disagreement(NETWORKS, MODEL, features)[1] > 1e-3)


def test_one_head_is_no_ensemble() -> None:
    networks = make_networks()
    model = jax.jit(partial(init_train_state, networks))(jax.random.key(0)).params["world_model"]
    assert all(leaf.ndim <= 2 for leaf in jax.tree.leaves(model["reward"]))
    for deviation in disagreement(networks, model, drawn(3, 5, FEATURES)):
        np.testing.assert_array_equal(deviation, 0.0)


def test_members_agree_where_they_were_taught_and_not_elsewhere() -> None:
    model, known, unknown = fitted()
    np.testing.assert_allclose(reward_and_continue(NETWORKS, model, known)[0], 1.0, atol=0.05)
    for seen, unseen in zip(disagreement(NETWORKS, model, known), disagreement(NETWORKS, model, unknown), strict=True):
        assert np.mean(unseen) > 5 * np.mean(seen)


def test_a_dream_s_rewards_are_lowered_by_what_is_in_doubt() -> None:
    """With lambda 0 a return is r + c v: it falls by pessimism times (deviation of r + deviation of c times |v|)."""
    model, known, unknown = fitted()
    features = jnp.stack([known, unknown, known])
    plain, wary = (targets(NETWORKS, model, features, pessimism) for pessimism in (0.0, 2.0))
    of_rewards, of_continues = disagreement(NETWORKS, model, features[1:])
    doubt = of_rewards + of_continues * np.abs(plain.values[1:])
    np.testing.assert_allclose(plain.doubt, doubt, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(plain.returns - wary.returns, 2.0 * np.asarray(doubt), rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(plain.weights, wary.weights)


def test_of_two_equal_promises_the_known_one_is_worth_more() -> None:
    """Dreams into unknown states that promise as much, or more, lose against known ones once pessimism is large enough."""
    model, known, unknown = fitted()
    promised, more = (float(np.mean(reward_and_continue(NETWORKS, model, states)[0])) for states in (known, unknown))
    disputed = float(np.mean(disagreement(NETWORKS, model, unknown)[0]))
    enough = 2.0 * max(more - promised, 0.0) / disputed + 1.0
    there, elsewhere = (targets(NETWORKS, model, jnp.stack([known, states]), enough).returns for states in (known, unknown))
    assert np.mean(there) > np.mean(elsewhere)


@pytest.mark.parametrize("kind", list(SPACES))
def test_the_distance_between_policies_is_what_samples_say(kind: str) -> None:
    """KL(p || q) = E_p[log p - log q], here over 200,000 samples of p."""
    networks = make_networks(EnvSpec({"state": ObservationSpec((3,))}, SPACES[kind]))
    size = 5 if kind == "discrete" else 4
    outputs, others = drawn(4, size), drawn(5, size)
    many = jnp.broadcast_to(outputs, (200_000, size))
    uniform = jax.random.uniform(jax.random.key(6), (200_000, *action_distribution.noise_shape(networks)))
    actions = action_distribution.sample(networks, many, uniform)
    of_p = action_distribution.log_prob_and_entropy(networks, many, actions)[0]
    of_q = action_distribution.log_prob_and_entropy(networks, jnp.broadcast_to(others, many.shape), actions)[0]
    found = action_distribution.kl(networks, outputs, others)
    assert float(found) == pytest.approx(float(jnp.mean(of_p - of_q)), rel=0.02)
    assert float(action_distribution.kl(networks, outputs, outputs)) == pytest.approx(0.0, abs=1e-6)


def test_the_normals_distance_against_its_textbook_form() -> None:
    p, q = (jnp.array([0.3]), jnp.array([0.5])), (jnp.array([-0.2]), jnp.array([0.8]))
    known = math.log(0.8 / 0.5) + (0.5**2 + 0.5**2) / (2 * 0.8**2) - 0.5
    assert float(distributions.normal_kl(p, q)) == pytest.approx(known, rel=1e-6)


def test_an_anchored_policy_ends_where_reward_and_distance_balance() -> None:
    """One state, two actions, advantage 1 for the first: E[A] - w KL(p || q) is largest for p proportional to q exp(A / w)."""
    networks = make_networks(EnvSpec({"state": ObservationSpec((3,))}, ActionSpec(sizes=(2,))), unimix=0.0)
    start = jax.jit(partial(init_train_state, networks))(jax.random.key(0)).params["actor"]
    anchor = jax.tree.map(lambda leaf: leaf, start)
    anchor["out"]["dense"]["bias"] = jnp.array([-0.5, 0.5])
    weight, count = 0.7, 512
    features = jnp.broadcast_to(drawn(7, FEATURES), (2, count, FEATURES))
    optimizer = optax.sgd(0.3)

    def probabilities(params: Any) -> jax.Array:
        return jax.nn.softmax(apply(networks.actor, params, features[0, 0]))

    def loss(params: Any, key: jax.Array) -> jax.Array:
        outputs = apply(networks.actor, jax.lax.stop_gradient(params), features[0])
        actions = action_distribution.sample(networks, outputs, jax.random.uniform(key, (count, 1)))[None]
        advantage = (actions[..., 0] == 0).astype(jnp.float32)
        said, _ = actor_loss(
            networks, params, Dream(features, actions), jnp.ones((1, count)), advantage - jnp.mean(advantage),
            entropy_coefficient=jnp.float32(0.0), anchor=Anchor(anchor, jnp.float32(weight)),
        )  # fmt: skip
        return jnp.mean(said)

    @jax.jit
    def learn(params: Any) -> Any:
        def step(params: Any, key: jax.Array) -> Any:
            updates, _ = optimizer.update(jax.grad(loss)(params, key), optimizer.init(params))
            return optax.apply_updates(params, updates), None

        return jax.lax.scan(step, params, jax.random.split(jax.random.key(8), 300))[0]

    wanted = np.asarray(probabilities(anchor)) * np.exp(np.array([1.0, 0.0]) / weight)
    np.testing.assert_allclose(probabilities(learn(start)), wanted / wanted.sum(), atol=0.03)


def test_an_update_with_both_says_what_they_do() -> None:
    options = settings(anchor=True)
    step = jax.jit(partial(train_step, NETWORKS, options))
    start = random_state(NETWORKS)
    state, metrics, _ = step(hyper(pessimism=1.0, anchor=0.1), start._replace(average=start.params), random_batch(NETWORKS))
    assert float(metrics["dream/disagreement"]) > 0
    assert float(metrics["actor/anchor_kl"]) == pytest.approx(0.0, abs=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    for _ in range(2):  # the average is as the parameters after the first update
        state, metrics, _ = step(hyper(pessimism=1.0, anchor=0.1), state, random_batch(NETWORKS))
    assert float(metrics["actor/anchor_kl"]) > 0
