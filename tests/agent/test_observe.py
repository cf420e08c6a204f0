"""The filter over time: the posterior scan and what each of its steps may know."""

from __future__ import annotations

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from dreamerjax.agent import world_model
from dreamerjax.agent.observation_normalization import model_units
from dreamerjax.agent.world_model import FilterInputs, Latent, Posterior, ProjectedInputs
from dreamerjax.networks.layers import apply
from tests.helpers import CONTINUOUS, LENGTH, SEQUENCES, make_networks, random_batch, random_params
from tests.networks import numpy_model
from tests.ops.references import with_and_without_jit

NETWORKS = make_networks(CONTINUOUS)
RSSM = NETWORKS.rssm
PARAMS = random_params(NETWORKS)["world_model"]
Inputs = dict[str, Any]


def make_inputs(seed: int = 0, ends: float = 0.2) -> Inputs:
    """What `observe` takes besides networks and parameters."""
    batch = random_batch(NETWORKS, seed=seed, ends=ends)
    rng = np.random.default_rng(seed + 100)
    stoch = numpy_model.one_hot(batch.context_stoch, RSSM.classes).astype(np.float32)
    return {
        "observations": model_units(NETWORKS.spec.observations, {}, batch.observations),
        "previous_action": 3 * batch.action,
        "is_first": batch.is_first,
        "start": Latent(jnp.asarray(batch.context_deter), jnp.asarray(stoch)),
        "uniform": rng.uniform(size=(LENGTH, SEQUENCES, RSSM.groups)).astype(np.float32),
    }


@jax.jit
def observe(inputs: Inputs) -> Posterior:
    seen = FilterInputs(inputs["observations"], inputs["previous_action"], inputs["is_first"])
    return world_model.observe(NETWORKS, PARAMS, seen, inputs["start"], inputs["uniform"])


@jax.jit
def jacobian(inputs: Inputs) -> tuple[Any, Any, Any]:
    """Of one number per time step of the posterior, with respect to observations, actions and the start: [T, ...]."""
    weights = jnp.asarray(np.random.default_rng(9).normal(size=(SEQUENCES, RSSM.groups, RSSM.classes)), jnp.float32)

    def per_step(state: jax.Array, action: jax.Array, start: Latent) -> jax.Array:
        changed = inputs | {"observations": {"state": state}, "previous_action": action, "start": start}
        return jnp.sum(observe(changed).logits * weights[None], axis=(1, 2, 3))

    arguments = (inputs["observations"]["state"], inputs["previous_action"], inputs["start"])
    return jax.jacrev(per_step, argnums=(0, 1, 2))(*arguments)


class StepsTest(chex.TestCase):
    """Compiled and operation by operation."""

    @with_and_without_jit
    def test_the_scan_is_a_loop_over_the_step(self) -> None:
        inputs = make_inputs()
        seen = FilterInputs(inputs["observations"], inputs["previous_action"], inputs["is_first"])
        projections = self.variant(partial(world_model.project_inputs, NETWORKS))(PARAMS, seen)
        step = self.variant(partial(world_model.posterior_step, NETWORKS))
        latent, posteriors = inputs["start"], []
        for t in range(LENGTH):
            now = ProjectedInputs(*(part[t] for part in projections))
            posteriors.append(step(PARAMS, latent, now, inputs["uniform"][t]))
            latent = posteriors[-1].latent
        expected = jax.tree.map(lambda *leaves: np.stack(leaves), *posteriors)
        chex.assert_trees_all_close(observe(inputs), expected, rtol=1e-4, atol=1e-5)

    @with_and_without_jit
    def test_a_step_without_an_observation_is_the_formula(self) -> None:
        """h from h, z and a of the step before; then z from h alone."""
        inputs, params = make_inputs(), numpy_model.as_float64(PARAMS)["rssm"]
        start, action, uniform = inputs["start"], inputs["previous_action"][0], inputs["uniform"][0]
        projected = apply(NETWORKS.rssm, PARAMS["rssm"], jnp.asarray(action), method="project_action")
        latent = self.variant(partial(world_model.prior_step, NETWORKS))(PARAMS, start, projected, uniform)
        deter, stoch = (numpy_model.as_float64(part) for part in start)
        deter = numpy_model.gru(params, RSSM.blocks, deter, stoch, action.astype(np.float64))
        prior = numpy_model.prior(params, RSSM.groups, RSSM.unimix, deter)
        np.testing.assert_allclose(latent.deter, deter, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(latent.stoch, numpy_model.sample_one_hot(prior, uniform), atol=1e-6)


def test_the_filter_is_the_formula() -> None:
    """h from h, z and a of the step before, all zero at is_first; then z from h and the observation of this step."""
    inputs = make_inputs(seed=1)
    assert inputs["is_first"].any()
    params = numpy_model.as_float64(PARAMS)
    batch = random_batch(NETWORKS, seed=1, ends=0.2)
    embedding = numpy_model.encode(params["encoder"], NETWORKS.spec.observations, batch.observations)
    deter, stoch = (numpy_model.as_float64(part) for part in inputs["start"])
    actual = observe(inputs)
    for t in range(LENGTH):
        keep = 1.0 - inputs["is_first"][t]
        deter, stoch = deter * keep[:, None], stoch * keep[:, None, None]
        action = inputs["previous_action"][t] * keep[:, None]
        deter = numpy_model.gru(params["rssm"], RSSM.blocks, deter, stoch, action.astype(np.float64))
        logits = numpy_model.posterior(params["rssm"], RSSM.groups, RSSM.unimix, deter, embedding[t])
        stoch = numpy_model.sample_one_hot(logits, inputs["uniform"][t])
        np.testing.assert_allclose(actual.logits[t], logits, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(actual.latent.deter[t], deter, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(actual.latent.stoch[t], stoch, atol=1e-6)


def test_is_first_erases_everything_before_it() -> None:
    cut = 3
    inputs, other = make_inputs(seed=2, ends=0.0), make_inputs(seed=3, ends=0.0)
    is_first = np.zeros((LENGTH, SEQUENCES), bool)
    is_first[cut] = True
    inputs["is_first"] = is_first
    changed = inputs | {"start": other["start"]}
    changed["observations"] = {"state": np.array(inputs["observations"]["state"])}
    changed["observations"]["state"][:cut] = other["observations"]["state"][:cut]
    changed["previous_action"] = inputs["previous_action"].copy()
    changed["previous_action"][: cut + 1] = other["previous_action"][: cut + 1]  # the one that led to `cut` as well
    before, after = observe(inputs), observe(changed)
    for left, right in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(left[cut:], right[cut:])
    assert (np.asarray(before.logits[:cut]) != np.asarray(after.logits[:cut])).any()
    by_observation, by_action, by_start = jacobian(inputs)
    np.testing.assert_array_equal(by_observation[cut:, :cut], 0.0)
    np.testing.assert_array_equal(by_action[cut:, : cut + 1], 0.0)
    for part in by_start:
        np.testing.assert_array_equal(part[cut:], 0.0)
        assert (np.abs(np.asarray(part[:cut])).max(axis=tuple(range(1, part.ndim))) > 0).all()


def test_without_is_first_the_past_is_remembered() -> None:
    inputs, other = make_inputs(seed=2, ends=0.0), make_inputs(seed=3, ends=0.0)
    inputs["is_first"] = np.zeros_like(inputs["is_first"])
    before, after = observe(inputs), observe(inputs | {"start": other["start"]})
    assert (np.abs(np.asarray(before.latent.deter - after.latent.deter)).max(axis=(1, 2)) > 0).all()


def test_the_posterior_knows_the_present_and_the_past_but_not_the_future() -> None:
    """Step t reads observations up to t, and the actions before it: `previous_action[t]` is a_{t-1}."""
    inputs = make_inputs(seed=4)
    inputs["is_first"] = np.zeros_like(inputs["is_first"])
    for gradient in jacobian(inputs)[:2]:
        size = np.abs(np.asarray(gradient)).max(axis=(2, 3))  # [t of the posterior, t of the input]
        np.testing.assert_array_equal(size[np.triu_indices(LENGTH, 1)], 0.0)
        assert (size[np.tril_indices(LENGTH)] > 0).all()
