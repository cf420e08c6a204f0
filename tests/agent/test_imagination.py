"""Dreams: the prior rolled forward under the actor."""

from __future__ import annotations

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from dreamerjax.agent import imagination
from dreamerjax.agent.imagination import Dream, DreamNoise
from dreamerjax.agent.world_model import Latent, feature
from dreamerjax.core.types import EnvSpec
from tests.helpers import CONTINUOUS, MIXED, VECTOR, make_networks, random_params
from tests.networks import numpy_model
from tests.ops.references import with_and_without_jit

HORIZON, STARTS = 5, 7
SPECS = {"discrete": VECTOR, "multi-discrete": MIXED, "continuous": CONTINUOUS}


class Setup:
    """A model, starts, and the random numbers of a dream."""

    def __init__(self, spec: EnvSpec) -> None:
        self.networks = make_networks(spec)
        self.params = random_params(self.networks)
        rng, rssm = np.random.default_rng(2), self.networks.rssm
        stoch = numpy_model.one_hot(rng.integers(0, rssm.classes, (STARTS, rssm.groups)), rssm.classes)
        deter = rng.uniform(-1, 1, (STARTS, rssm.deter))
        self.start = Latent(jnp.asarray(deter, jnp.float32), jnp.asarray(stoch, jnp.float32))
        shapes = ((HORIZON, STARTS, *spec.action.shape), (HORIZON, STARTS, rssm.groups))
        self.noise = DreamNoise(*(rng.uniform(size=shape).astype(np.float32) for shape in shapes))
        self.imagine = jax.jit(partial(imagination.imagine, self.networks))

    def dream(self, noise: DreamNoise | None = None, start: Latent | None = None) -> Dream:
        result: Dream = self.imagine(self.params, start or self.start, noise or self.noise)
        return result


@pytest.fixture(scope="module", params=list(SPECS))
def setup(request: pytest.FixtureRequest) -> Setup:
    return Setup(SPECS[request.param])


@pytest.fixture(scope="module")
def discrete() -> Setup:
    return Setup(VECTOR)


def test_shapes_and_the_first_step(setup: Setup) -> None:
    dream, spec = setup.dream(), setup.networks.spec.action
    features = setup.networks.rssm.deter + setup.networks.rssm.groups * setup.networks.rssm.classes
    assert dream.features.shape == (HORIZON + 1, STARTS, features)
    assert dream.actions.shape == (HORIZON, STARTS, *spec.shape)
    assert dream.actions.dtype == spec.dtype
    np.testing.assert_array_equal(dream.features[0], feature(setup.start))
    if spec.is_discrete:
        assert (np.asarray(dream.actions) >= 0).all()
        assert (np.asarray(dream.actions) < spec.sizes).all()
        assert len(np.unique(dream.actions)) > 1


def numpy_action(setup: Setup, outputs: np.ndarray, uniform: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The encoded action and, if the action is discrete, its indices."""
    spec = setup.networks.spec.action
    encoded, indices, offset = [], [], 0
    for i, size in enumerate(spec.sizes):
        log_probs = numpy_model.unimix(outputs[:, offset : offset + size], 0.01)
        encoded.append(numpy_model.sample_one_hot(log_probs, uniform[:, i]))
        indices.append(encoded[-1].argmax(axis=-1))
        offset += size
    return np.concatenate(encoded, axis=-1), np.stack(indices, axis=-1)


class FormulasTest(chex.TestCase):
    """Compiled and operation by operation."""

    @with_and_without_jit
    @parameterized.product(name=["discrete", "multi-discrete"])
    def test_a_dream_is_the_formula(self, name: str) -> None:
        """Action from the actor, h from the recurrent step, z from the prior: H times."""
        setup = Setup(SPECS[name])
        dream = self.variant(partial(imagination.imagine, setup.networks))(setup.params, setup.start, setup.noise)
        params, rssm = numpy_model.as_float64(setup.params), setup.networks.rssm
        deter, stoch = (numpy_model.as_float64(part) for part in setup.start)
        for t in range(HORIZON):
            features = np.concatenate([deter, stoch.reshape(STARTS, -1)], axis=-1)
            np.testing.assert_allclose(dream.features[t], features, rtol=1e-3, atol=1e-4)
            encoded, indices = numpy_action(setup, numpy_model.head(params["actor"], features), setup.noise.action[t])
            np.testing.assert_array_equal(dream.actions[t], indices)
            deter = numpy_model.gru(params["world_model"]["rssm"], rssm.blocks, deter, stoch, encoded)
            prior = numpy_model.prior(params["world_model"]["rssm"], rssm.groups, rssm.unimix, deter)
            stoch = numpy_model.sample_one_hot(prior, setup.noise.latent[t])
        last = np.concatenate([deter, stoch.reshape(STARTS, -1)], axis=-1)
        np.testing.assert_allclose(dream.features[-1], last, rtol=1e-3, atol=1e-4)


def test_a_dream_is_a_chain_of_dreams_of_one_step(setup: Setup) -> None:
    whole, latent = setup.dream(), setup.start
    for t in range(HORIZON):
        step = setup.dream(DreamNoise(*(uniform[t : t + 1] for uniform in setup.noise)), latent)
        np.testing.assert_allclose(step.features[0], whole.features[t], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(step.actions[0], whole.actions[t], rtol=1e-4, atol=1e-5)
        deter, flat = np.split(np.asarray(step.features[1]), [setup.networks.rssm.deter], axis=-1)
        latent = Latent(jnp.asarray(deter), jnp.asarray(flat.reshape(setup.start.stoch.shape)))


def test_the_same_random_numbers_give_the_same_dream(discrete: Setup) -> None:
    first, again = discrete.dream(), discrete.dream()
    other = discrete.dream(DreamNoise(*(1.0 - uniform for uniform in discrete.noise)))
    np.testing.assert_array_equal(first.features, again.features)
    np.testing.assert_array_equal(first.actions, again.actions)
    assert (np.asarray(first.features[1:]) != np.asarray(other.features[1:])).any()


def test_dreams_are_independent_of_each_other(discrete: Setup) -> None:
    changed = Latent(discrete.start.deter.at[0].set(0.0), discrete.start.stoch)
    first, second = discrete.dream(), discrete.dream(start=changed)
    np.testing.assert_allclose(first.features[:, 1:], second.features[:, 1:], rtol=1e-5, atol=1e-6)
    assert (np.asarray(first.features[:, 0]) != np.asarray(second.features[:, 0])).any()


@pytest.mark.parametrize("name", ["discrete", "continuous"])
def test_no_gradient_flows_through_a_dream(name: str) -> None:
    setup = Setup(SPECS[name])

    def total(model: Any, actor: Any, start: Latent) -> jax.Array:
        params = {"world_model": model, "actor": actor}
        dream = imagination.imagine(setup.networks, params, start, setup.noise)
        return jnp.sum(dream.features) + jnp.sum(dream.actions.astype(jnp.float32))

    arguments = (setup.params["world_model"], setup.params["actor"], setup.start)
    for leaf in jax.tree.leaves(jax.jit(jax.grad(total, argnums=(0, 1, 2)))(*arguments)):
        np.testing.assert_array_equal(leaf, 0.0)
