"""Encoder, decoder and heads as they are built for an environment."""

from __future__ import annotations

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamerjax.agent import action_distribution
from dreamerjax.agent.observation_normalization import model_units
from dreamerjax.agent.state import init_train_state
from dreamerjax.config.schema import BinsConfig, ModelConfig
from dreamerjax.core.types import ActionSpec, EnvSpec, ObservationSpec
from dreamerjax.networks.build import build_networks
from dreamerjax.networks.layers import apply
from dreamerjax.ops import distributions, scalars
from tests.helpers import CONTINUOUS, MIXED, VECTOR, initial_state, make_networks, observations, random_params
from tests.networks import numpy_model
from tests.ops.references import with_and_without_jit


def features(networks: Any) -> np.ndarray:
    size = networks.rssm.deter + networks.rssm.groups * networks.rssm.classes
    return np.random.default_rng(0).normal(size=(7, size)).astype(np.float32)


def test_the_encoder_does_not_depend_on_the_order_of_the_keys() -> None:
    networks = make_networks(MIXED)
    reordered = make_networks(EnvSpec(dict(reversed(MIXED.observations.items())), MIXED.action))
    params = random_params(networks)["world_model"]["encoder"]
    inputs = observations(MIXED, (4,), np.random.default_rng(2))
    outputs = [apply(n.encoder, params, inputs) for n in (networks, reordered)]
    np.testing.assert_array_equal(outputs[0], outputs[1])


def test_reward_and_critic_predict_exactly_zero_at_the_start() -> None:
    networks = make_networks()
    params = initial_state(networks).params
    for head, part in ((networks.reward, params["world_model"]["reward"]), (networks.critic, params["critic"])):
        logits = apply(head, part, features(networks) * 100)
        np.testing.assert_array_equal(scalars.two_hot_mean(logits, networks.bins), 0.0)


@pytest.mark.parametrize("spec", [VECTOR, MIXED, CONTINUOUS], ids=["discrete", "multi-discrete", "continuous"])
def test_the_actor_starts_almost_uniform(spec: EnvSpec) -> None:
    networks = make_networks(spec)
    inputs = jnp.asarray(features(networks))
    outputs = apply(networks.actor, networks.actor.init(jax.random.key(0), inputs)["params"], inputs)
    if spec.action.is_discrete:
        first = action_distribution.mode(networks, outputs) * 0
        log_prob, entropy = action_distribution.log_prob_and_entropy(networks, outputs, first)
        uniform = np.log(np.prod(spec.action.sizes))
        np.testing.assert_allclose(entropy, uniform, rtol=1e-3)
        np.testing.assert_allclose(log_prob, -uniform, atol=0.1)
        return
    assert outputs.shape == (7, 4)
    mean, std = distributions.bounded_normal_params(outputs[:, :2], outputs[:, 2:], *networks.std_range)
    assert np.abs(mean).max() < 0.1
    assert std.min() > 0.85  # near the widest, 1
    assert std.max() < 0.95


def test_size1m_has_as_many_parameters_as_the_public_implementation_says() -> None:
    """637k with four numbers observed and two actions; counted without computing anything."""
    config = ModelConfig(
        deter=512, hidden=64, groups=32, classes=4, units=64, blocks=8, encoder_layers=3, decoder_layers=3,
        prior_layers=2, posterior_layers=1, reward_layers=1, continue_layers=1, actor_layers=3, critic_layers=3,
        bins=BinsConfig(count=255),
    )  # fmt: skip
    networks = build_networks(EnvSpec({"state": ObservationSpec((4,))}, ActionSpec(sizes=(2,))), config)
    state = jax.eval_shape(partial(init_train_state, networks), jax.random.key(0))
    sizes = {part: sum(leaf.size for leaf in jax.tree.leaves(tree)) for part, tree in state.params.items()}
    assert sum(sizes.values()) == 636_869
    assert round(sum(sizes.values()) / 1000) == 637


def test_initialisation_depends_on_nothing_but_the_key() -> None:
    networks = make_networks()
    first, again, other = (initial_state(networks, seed).params["actor"] for seed in (3, 3, 4))
    chex.assert_trees_all_equal(first, again)
    kernels = [part["mlp"]["linear0"]["dense"]["kernel"] for part in (first, other)]
    assert (np.asarray(kernels[0]) != np.asarray(kernels[1])).all()


def test_the_slow_critic_starts_as_the_critic() -> None:
    state = initial_state(make_networks())
    chex.assert_trees_all_equal(state.slow_critic, state.params["critic"])


class BuildTest(chex.TestCase):
    """Compiled and operation by operation."""

    @with_and_without_jit
    def test_the_encoder_reads_every_kind_of_observation(self) -> None:
        networks = make_networks(MIXED, encoder_layers=2)
        params = random_params(networks)["world_model"]["encoder"]
        inputs = observations(MIXED, (4, 3), np.random.default_rng(1))
        expected = numpy_model.encode(numpy_model.as_float64(params), MIXED.observations, inputs)
        actual = self.variant(partial(apply, networks.encoder))(params, model_units(MIXED.observations, {}, inputs))
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)

    @with_and_without_jit
    def test_the_decoder_predicts_every_observation(self) -> None:
        networks = make_networks(MIXED)
        params = random_params(networks)["world_model"]["decoder"]
        inputs = features(networks)
        outputs = self.variant(partial(apply, networks.decoder))(params, inputs)
        numpy_params = numpy_model.as_float64(params)
        for name, size in {"number": 3, "parts": 6, "state": 3}.items():
            hidden = numpy_model.mlp(numpy_params["mlp"], inputs.astype(np.float64))
            expected = numpy_model.linear(numpy_params[f"{name}_out"], hidden)
            assert expected.shape == (7, size)
            np.testing.assert_allclose(outputs[name], expected, rtol=1e-4, atol=1e-5)
