"""`model.compute_dtype=bfloat16` against float32: what is computed in which type, and how close an update stays.

Programs of other loops than the CPU's are compared here too: both change an update by rounding alone.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamerjax.agent.learner import updates
from dreamerjax.config.schema import ComputeDtype
from dreamerjax.networks.build import Networks
from dreamerjax.networks.layers import apply
from dreamerjax.networks.loops import ACCELERATOR, CPU, loops_for
from tests.helpers import (
    BOTH,
    MIXED,
    VECTOR,
    fresh,
    hyper,
    make_networks,
    observations,
    random_batch,
    random_state,
    settings,
    stacked,
)

NETWORKS = make_networks(VECTOR)
HALF = make_networks(VECTOR, compute_dtype=ComputeDtype.bfloat16)
STATE = random_state(NETWORKS)
Updated = Any


def update(networks: Networks) -> Updated:
    """State, metrics, latents and acting parameters after one compiled update."""
    return jax.jit(partial(updates, networks, settings()))(hyper(), fresh(STATE), stacked(random_batch(networks)))


def changes(new: Any) -> np.ndarray:
    """What an update did to all parameters, as one vector."""
    pairs = zip(jax.tree.leaves(new.params), jax.tree.leaves(STATE.params), strict=True)
    return np.concatenate([np.ravel(np.asarray(after) - np.asarray(before)) for after, before in pairs])


@pytest.fixture(scope="module")
def full() -> Updated:
    return update(NETWORKS)


@pytest.fixture(scope="module")
def half() -> Updated:
    return update(HALF)


def test_parameters_statistics_losses_and_latents_stay_float32(half: Updated) -> None:
    for leaf in jax.tree.leaves(half):
        assert leaf.dtype in (jnp.float32, jnp.int32, jnp.uint8) or jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    assert {leaf.dtype for leaf in jax.tree.leaves(half[0].params)} == {jnp.dtype(jnp.float32)}
    assert half[2].deter.dtype == jnp.float32


def test_an_update_in_bfloat16_is_close_to_one_in_float32(full: Updated, half: Updated) -> None:
    """Losses and norms of gradients to 5%; a first change is a learning rate up or down, the same for 85% of the parameters."""
    for name, value in full[1].items():
        assert np.isfinite(half[1][name]).all(), name
        if name.startswith(("loss/", "gradient_norm/")):
            np.testing.assert_allclose(half[1][name], value, rtol=0.05, atol=0.02, err_msg=name)
    assert (np.asarray(half[1]["loss/decoder"]) != np.asarray(full[1]["loss/decoder"])).all()
    assert np.mean(np.sign(changes(half[0])) == np.sign(changes(full[0]))) > 0.85


def test_the_loops_of_an_accelerator_change_rounding_alone(full: Updated) -> None:
    other = update(replace(NETWORKS, loops=ACCELERATOR))
    for name, value in full[1].items():
        np.testing.assert_allclose(other[1][name], value, rtol=1e-3, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(changes(other[0]), changes(full[0]), atol=1e-5)


def test_the_backend_chooses_the_loops() -> None:
    assert NETWORKS.loops == loops_for("cpu") == CPU
    assert loops_for("gpu") == loops_for("cuda") == ACCELERATOR


@pytest.mark.parametrize("spec", [BOTH, MIXED], ids=["image", "discrete"])
def test_every_module_multiplies_in_bfloat16_and_answers_in_float32(spec: Any) -> None:
    """No product is left out: in the program each has bfloat16 operands."""
    networks = make_networks(spec, compute_dtype=ComputeDtype.bfloat16)
    params = random_state(networks).params
    rssm, lead = networks.rssm, (2,)
    feature = jnp.ones((*lead, rssm.deter + rssm.groups * rssm.classes))

    def everything(params: Any, seen: Any) -> Any:
        model = params["world_model"]
        embedding = apply(networks.encoder, model["encoder"], seen)
        action = apply(rssm, model["rssm"], jnp.ones((*lead, spec.action.encoded_size)), method="project_action")
        stoch = jnp.ones((*lead, rssm.groups, rssm.classes))
        deter = apply(rssm, model["rssm"], jnp.ones((*lead, rssm.deter)), stoch, action, method="recurrent")
        projected = apply(rssm, model["rssm"], embedding, method="project_embedding")
        logits = [
            apply(rssm, model["rssm"], deter, method="prior"),
            apply(rssm, model["rssm"], deter, projected, method="posterior"),
        ]
        heads = [
            apply(networks.decoder, model["decoder"], feature),
            apply(networks.reward, model["reward"], feature),
            apply(networks.continue_, model["continue"], feature),
            apply(networks.actor, params["actor"], feature),
            apply(networks.critic, params["critic"], feature),
        ]
        return embedding, deter, logits, heads

    traced = jax.make_jaxpr(everything)(params, observations(spec, lead, np.random.default_rng(0)))
    assert {value.dtype for value in traced.out_avals} == {jnp.dtype(jnp.float32)}
    products = list(_products(traced.jaxpr))
    assert len(products) > 20
    assert {value.aval.dtype for equation in products for value in equation.invars} == {jnp.dtype(jnp.bfloat16)}


def _products(jaxpr: Any) -> Any:
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            yield equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _products(inner)
