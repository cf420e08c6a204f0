"""The world-model loss: each part against its formula, and whom its gradient trains."""

from __future__ import annotations

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from dreamerjax.agent.losses import bernoulli_loss, decoder_loss, world_model_loss
from dreamerjax.agent.observation_normalization import model_units
from dreamerjax.agent.world_model import Latent, Posterior
from dreamerjax.core.types import EnvSpec
from dreamerjax.networks.build import Networks
from tests.helpers import CONTINUOUS, IMAGE, LENGTH, MIXED, SEQUENCES, VECTOR, largest, make_networks, random_batch
from tests.helpers import random_params as draw_params
from tests.networks import numpy_model
from tests.ops.references import with_and_without_jit

GAMMA = 0.9
SPECS = {"vector": VECTOR, "mixed": MIXED, "continuous": CONTINUOUS}


class Setup:
    """A model, its parameters, a posterior that owes nothing to them, and data."""

    def __init__(self, spec: EnvSpec = VECTOR) -> None:
        self.networks: Networks = make_networks(spec)
        self.params = draw_params(self.networks)["world_model"]
        self.batch = random_batch(self.networks, ends=0.3)
        rng, rssm = np.random.default_rng(5), self.networks.rssm
        shape = (LENGTH, SEQUENCES, rssm.groups)
        stoch = numpy_model.one_hot(rng.integers(0, rssm.classes, shape), rssm.classes)
        deter = rng.uniform(-1, 1, (LENGTH, SEQUENCES, rssm.deter))
        logits = numpy_model.unimix(rng.normal(size=(*shape, rssm.classes)), 0.01)
        as_float = partial(jnp.asarray, dtype=jnp.float32)
        self.posterior = Posterior(Latent(as_float(deter), as_float(stoch)), as_float(logits))

    def losses(self, params: Any, posterior: Posterior, free_nats: Any, straight_through: bool = False) -> Any:
        seen = model_units(self.networks.spec.observations, {}, self.batch.observations)
        return world_model_loss(
            self.networks, params, posterior, self.batch._replace(observations=seen),
            gamma=jnp.float32(GAMMA), free_nats=free_nats, straight_through=straight_through,
        )  # fmt: skip

    def kl_gradients(self, free_nats: float, straight_through: bool) -> dict[str, Any]:
        """For each KL term its gradient by (parameters, posterior)."""

        def total(params: Any, posterior: Posterior, limit: jax.Array) -> dict[str, jax.Array]:
            losses, _ = self.losses(params, posterior, limit, straight_through)
            return {name: jnp.sum(losses[name]) for name in ("dynamics", "representation")}

        gradients = jax.jit(jax.jacrev(total, argnums=(0, 1)))
        result: dict[str, Any] = gradients(self.params, self.posterior, jnp.float32(free_nats))
        return result


@pytest.fixture(scope="module")
def setup() -> Setup:
    return Setup()


@pytest.fixture(scope="module")
def gradients(setup: Setup) -> dict[str, Any]:
    """With nothing free."""
    return setup.kl_gradients(0.0, straight_through=False)


def numpy_decoder_loss(classes: tuple[int, ...], prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Squared error in symlog space without a factor 1/2, or the cross-entropies of all components."""
    if not classes:
        return ((prediction - numpy_model.symlog(target.astype(np.float64))) ** 2).sum(axis=-1)
    loss, offset = np.zeros(target.shape[:-1]), 0
    for i, count in enumerate(classes):
        probs = numpy_model.softmax(prediction[..., offset : offset + count])
        loss -= (np.log(probs) * numpy_model.one_hot(target[..., i], count)).sum(axis=-1)
        offset += count
    return loss


class FormulasTest(chex.TestCase):
    """Compiled and operation by operation."""

    @with_and_without_jit
    @parameterized.product(spec=["vector", "mixed", "continuous"], free_nats=[0.5, 1.5])
    def test_every_loss_is_its_formula(self, spec: str, free_nats: float) -> None:
        s = Setup(SPECS[spec])
        losses, metrics = self.variant(s.losses)(s.params, s.posterior, jnp.float32(free_nats))
        params = numpy_model.as_float64(s.params)
        deter, stoch = (numpy_model.as_float64(part) for part in s.posterior.latent)
        features = np.concatenate([deter, stoch.reshape(LENGTH, SEQUENCES, -1)], axis=-1)

        hidden = numpy_model.mlp(params["decoder"]["mlp"], features)
        decoder = np.zeros((LENGTH, SEQUENCES))
        for name, part in SPECS[spec].observations.items():
            prediction = numpy_model.linear(params["decoder"][f"{name}_out"], hidden)
            loss = numpy_decoder_loss(part.classes, prediction, s.batch.observations[name])
            np.testing.assert_allclose(metrics[f"model/decoder/{name}"], loss.mean(), rtol=1e-4)
            decoder += loss
        logits = numpy_model.head(params["continue"], features)[..., 0]
        target = (1.0 - s.batch.is_terminal) * GAMMA
        alive = numpy_model.sigmoid(logits)
        reward_logits = numpy_model.head(params["reward"], features)
        bins = s.networks.bins.values.astype(np.float64)
        prior = numpy_model.prior(params["rssm"], s.networks.rssm.groups, 0.01, deter)
        kl = numpy_model.categorical_kl(numpy_model.as_float64(s.posterior.logits), prior)
        assert kl.min() < 1.5 < kl.max()
        expected = {
            "decoder": decoder,
            "reward": numpy_model.two_hot_loss(reward_logits, s.batch.reward, bins),
            "continue_": -(target * np.log(alive) + (1.0 - target) * np.log(1.0 - alive)),
            "dynamics": np.maximum(kl, free_nats),
            "representation": np.maximum(kl, free_nats),
        }
        assert losses.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(losses[name], value, rtol=1e-3, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(metrics["model/kl"], kl.mean(), rtol=1e-3)
        entropy = -(np.exp(prior) * prior).sum(axis=(-1, -2)).mean()
        np.testing.assert_allclose(metrics["model/prior_entropy"], entropy, rtol=1e-4)

    @with_and_without_jit
    def test_the_decoder_is_right_when_it_says_the_symlog_of_a_vector(self) -> None:
        target = jnp.array([[1000.0, -3.0, 0.0]])
        prediction = numpy_model.symlog(np.array(target))
        seen = self.variant(partial(model_units, VECTOR.observations, {}))({"state": target})["state"]
        loss = self.variant(partial(decoder_loss, VECTOR.observations["state"]))
        np.testing.assert_allclose(loss(jnp.asarray(prediction), seen), 0.0, atol=1e-9)
        np.testing.assert_allclose(loss(jnp.asarray(prediction + 2.0), seen), 3 * 2.0**2, rtol=1e-5)

    @with_and_without_jit
    def test_the_decoder_of_an_image_is_judged_by_its_pixels_from_0_to_1(self) -> None:
        rng, spec = np.random.default_rng(6), IMAGE.observations["image"]
        pixels = rng.integers(0, 256, (LENGTH, SEQUENCES, *spec.shape), dtype=np.uint8)
        prediction = rng.uniform(size=pixels.shape).astype(np.float32)
        loss = self.variant(partial(decoder_loss, spec))(prediction, pixels)
        expected = ((prediction.astype(np.float64) - pixels / 255.0) ** 2).sum(axis=(-3, -2, -1))
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_the_dynamics_loss_trains_the_prior_alone(setup: Setup, gradients: dict[str, Any]) -> None:
    by_params, by_posterior = gradients["dynamics"]
    np.testing.assert_array_equal(by_posterior.logits, 0.0)
    assert largest(by_posterior.latent.deter) > 0  # h_t is the prior's input
    for name, part in by_params["rssm"].items():
        assert (largest(part) > 0) == name.startswith("prior"), name
    assert largest({name: part for name, part in by_params.items() if name != "rssm"}) == 0


def test_the_representation_loss_trains_the_posterior_alone(setup: Setup, gradients: dict[str, Any]) -> None:
    by_params, by_posterior = gradients["representation"]
    assert largest(by_params) == 0
    assert largest(by_posterior.latent) == 0
    assert largest(by_posterior.logits) > 0


def test_clipped_free_bits_silence_the_gradient_below_the_threshold(setup: Setup) -> None:
    assert largest(setup.kl_gradients(100.0, straight_through=False)) == 0


def test_straight_through_free_bits_keep_the_gradient_everywhere(setup: Setup, gradients: dict[str, Any]) -> None:
    kept = setup.kl_gradients(100.0, straight_through=True)
    assert largest(kept["dynamics"][0]["rssm"]["prior_out"]) > 0
    chex.assert_trees_all_close(kept, gradients, rtol=1e-5, atol=1e-6)


def test_clipped_free_bits_decide_step_by_step(setup: Setup) -> None:
    losses, _ = setup.losses(setup.params, setup.posterior, jnp.float32(0.0))
    kl = np.asarray(losses["representation"])
    threshold = float(np.median(kl))
    by_logits = setup.kl_gradients(threshold, straight_through=False)["representation"][1].logits
    moved = np.abs(np.asarray(by_logits)).max(axis=(-1, -2)) > 0
    np.testing.assert_array_equal(moved, kl > threshold)


def test_the_continue_target_is_the_discount_and_zero_at_the_end(setup: Setup) -> None:
    """The loss is lowest where the probability is gamma, or 0 at a terminal step: its slope is p - target."""
    logits = jnp.linspace(-3, 3, 7)
    for target in (GAMMA, 0.0):
        slope = jax.grad(lambda x, target=target: jnp.sum(bernoulli_loss(x, jnp.full_like(x, target))))(logits)
        np.testing.assert_allclose(slope, numpy_model.sigmoid(np.asarray(logits)) - target, atol=1e-6)

    def total(params: Any) -> jax.Array:
        return jnp.sum(setup.losses(params, setup.posterior, jnp.float32(1.0))[0]["continue_"])

    bias_gradient = jax.jit(jax.grad(total))(setup.params)["continue"]["out"]["dense"]["bias"]
    deter, stoch = (numpy_model.as_float64(part) for part in setup.posterior.latent)
    features = np.concatenate([deter, stoch.reshape(LENGTH, SEQUENCES, -1)], axis=-1)
    alive = numpy_model.sigmoid(numpy_model.head(numpy_model.as_float64(setup.params["continue"]), features)[..., 0])
    expected = (alive - (1.0 - setup.batch.is_terminal) * GAMMA).sum()
    np.testing.assert_allclose(bias_gradient[0], expected, rtol=1e-4)
    assert setup.batch.is_terminal.any()
