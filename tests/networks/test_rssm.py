"""One step of the recurrent state-space model against its formulas in float64 NumPy."""

from __future__ import annotations

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from dreamerjax.networks.build import Networks
from tests.helpers import make_networks, random_params
from tests.networks import numpy_model
from tests.ops.references import with_and_without_jit

BATCH = 5


class Setup:
    """A model with perturbed parameters, and random inputs of one step."""

    def __init__(self, **changes: Any) -> None:
        self.networks: Networks = make_networks(**changes)
        self.rssm = self.networks.rssm
        self.variables = {"params": random_params(self.networks)["world_model"]["rssm"]}
        self.numpy = numpy_model.as_float64(self.variables["params"])
        rng = np.random.default_rng(0)
        self.deter = rng.uniform(-1, 1, (BATCH, self.rssm.deter)).astype(np.float32)
        classes = rng.integers(0, self.rssm.classes, (BATCH, self.rssm.groups))
        self.stoch = numpy_model.one_hot(classes, self.rssm.classes).astype(np.float32)
        self.action = rng.normal(size=(BATCH, 3)).astype(np.float32) * 2
        self.embedding = rng.normal(size=(BATCH, self.networks.encoder.units)).astype(np.float32)

    def apply(self, method: str, *inputs: Any) -> Any:
        return jax.jit(partial(self.rssm.apply, method=method))(self.variables, *inputs)


@pytest.fixture(scope="module")
def setup() -> Setup:
    return Setup()


def test_every_class_keeps_its_share_of_the_uniform(setup: Setup) -> None:
    extreme = jax.tree.map(lambda leaf: leaf * 1e3, setup.variables)
    for method, inputs in (("prior", (setup.deter,)), ("posterior", (setup.deter, setup.embedding))):
        log_probs = np.asarray(jax.jit(partial(setup.rssm.apply, method=method))(extreme, *inputs))
        assert log_probs.min() == pytest.approx(np.log(0.01 / 4), rel=1e-4)
        np.testing.assert_allclose(np.exp(log_probs).sum(axis=-1), 1.0, rtol=1e-5)


def test_each_block_is_driven_by_all_inputs_but_mixes_only_with_itself(setup: Setup) -> None:
    """Through the block layers alone; the shared projection of h is taken out."""
    params = jax.tree.map(lambda leaf: leaf, setup.variables["params"])
    params["deter_in"] = jax.tree.map(jnp.zeros_like, params["deter_in"])
    params["block_norm"]["scale"] = jnp.zeros_like(params["block_norm"]["scale"])
    changed = setup.deter.copy()
    changed[:, :8] += 0.5
    projected = setup.apply("project_action", setup.action)
    recurrent = jax.jit(partial(setup.rssm.apply, method="recurrent"))
    outputs = [np.asarray(recurrent({"params": params}, deter, setup.stoch, projected)) for deter in (setup.deter, changed)]
    np.testing.assert_array_equal(outputs[0][:, 8:], outputs[1][:, 8:])
    assert (outputs[0][:, :8] != outputs[1][:, :8]).all()


def test_the_deterministic_state_stays_within_one(setup: Setup) -> None:
    deter = setup.deter
    projected = setup.apply("project_action", setup.action)
    recurrent = jax.jit(partial(setup.rssm.apply, method="recurrent"))
    for _ in range(20):
        deter = recurrent(setup.variables, deter, setup.stoch, projected)
    assert np.abs(deter).max() <= 1.0


class RSSMTest(chex.TestCase):
    """Compiled and operation by operation."""

    def run_method(self, setup: Setup, method: str, *inputs: Any) -> Any:
        return self.variant(partial(setup.rssm.apply, method=method))(setup.variables, *inputs)

    @with_and_without_jit
    @parameterized.product(blocks=[1, 2, 8])
    def test_the_recurrent_step_is_a_block_diagonal_gru(self, blocks: int) -> None:
        s = Setup(blocks=blocks)
        actual = self.run_method(s, "recurrent", s.deter, s.stoch, self.run_method(s, "project_action", s.action))
        expected = numpy_model.gru(s.numpy, s.rssm.blocks, *(numpy_model.as_float64(x) for x in (s.deter, s.stoch, s.action)))
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)

    @with_and_without_jit
    @parameterized.product(layers=[1, 2])
    def test_prior_and_posterior_are_unimixed_mlps(self, layers: int) -> None:
        s = Setup(prior_layers=layers, posterior_layers=layers)
        size = (s.rssm.groups, s.rssm.unimix, s.deter.astype(np.float64))
        np.testing.assert_allclose(
            self.run_method(s, "prior", s.deter), numpy_model.prior(s.numpy, *size), rtol=1e-4, atol=1e-5
        )
        actual = self.run_method(s, "posterior", s.deter, self.run_method(s, "project_embedding", s.embedding))
        expected = numpy_model.posterior(s.numpy, *size, s.embedding.astype(np.float64))
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)

    @with_and_without_jit
    def test_actions_count_for_no_more_than_one(self) -> None:
        s = Setup()
        large = jnp.array([[7.0, -3.0, 0.5]])
        expected = self.run_method(s, "project_action", jnp.array([[1.0, -1.0, 0.5]]))
        np.testing.assert_allclose(self.run_method(s, "project_action", large), expected, rtol=1e-6)
        half = self.run_method(s, "project_action", jnp.array([[0.5, -1.0, 0.5]]))
        assert not np.allclose(half, expected)
