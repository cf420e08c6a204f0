"""The convolutional encoder and decoder, and the model's loss on images."""

from __future__ import annotations

from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamerjax.agent.losses import decoder_loss
from dreamerjax.core.types import ActionSpec, EnvSpec, ObservationSpec
from dreamerjax.networks.convolutional import ImageDecoder, ImageEncoder
from dreamerjax.networks.layers import apply, draw_kernels
from dreamerjax.ops import convolutions
from tests.helpers import initial_state, make_networks, random_params
from tests.networks import numpy_model

CAMERA = ObservationSpec((16, 32, 3), is_image=True)
BOTH = EnvSpec(
    {"camera": CAMERA, "map": ObservationSpec((16, 16, 1), is_image=True), "state": ObservationSpec((3,))},
    ActionSpec(sizes=(2,)),
)
PICTURES = EnvSpec({"camera": CAMERA}, ActionSpec(sizes=(2,)))


@pytest.mark.parametrize("depth", [1, 4])
def test_layers_start_with_unit_variance(depth: int) -> None:
    """Of white noise, the first layer's outputs have the variance of its inputs, and the drawing is neither black nor white."""
    spec = EnvSpec({"camera": ObservationSpec((64, 64, 3), is_image=True)}, ActionSpec(sizes=(2,)))
    networks = make_networks(spec, cnn_depth=depth)
    params = initial_state(networks).params["world_model"]
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(8, 64, 64, 3)), jnp.float32)
    convolved = convolutions.halve(noise, params["encoder"]["camera_cnn"]["conv0"]["kernel"])
    assert 0.6 < float(jnp.std(convolved)) < 1.5
    feature = np.random.default_rng(1).normal(size=(8, 24)).astype(np.float32)
    drawn = apply(networks.decoder, params["decoder"], feature)["camera"]
    assert 0.05 < float(jnp.std(drawn)) < 0.35


def test_an_image_can_be_learned() -> None:
    """Gradients reach every layer of encoder and decoder: four pictures are told apart and drawn."""
    encoder, decoder = ImageEncoder(2), ImageDecoder((16, 16, 1), 2)
    pictures = np.zeros((4, 16, 16, 1), np.uint8)
    for index in range(4):
        pictures[index, 4 * index : 4 * index + 4, 3:9] = 255
    key = jax.random.key(0)
    params = {"encoder": encoder.init(key, pictures)["params"], "decoder": decoder.init(key, np.zeros((4, 8)))["params"]}
    params = draw_kernels(params, key)

    def loss(params: Any) -> jax.Array:
        drawn = apply(decoder, params["decoder"], apply(encoder, params["encoder"], pictures))
        return jnp.mean(jnp.square(drawn - pictures / 255.0))

    @jax.jit
    def step(params: Any) -> Any:
        gradient = jax.grad(loss)(params)
        return jax.tree.map(lambda p, g: p - 0.03 * jnp.sign(g), params, gradient), gradient

    before = float(loss(params))
    _, gradient = step(params)
    assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(gradient))
    for _ in range(60):
        params, _ = step(params)
    assert float(loss(params)) < 0.2 * before


class ConvolutionalTest(chex.TestCase):
    """Compiled: one by one, the operations take longer to compile."""

    @chex.variants(with_jit=True)
    def test_the_encoder_halves_four_times(self) -> None:
        networks = make_networks(PICTURES, cnn_depth=2)
        params = random_params(networks)["world_model"]["encoder"]
        picture = np.random.default_rng(0).integers(0, 256, (5, 2, 16, 32, 3), np.uint8)
        embedding = self.variant(partial(apply, networks.encoder))(params, {"camera": picture})
        assert embedding.shape == (5, 2, 1 * 2 * 8)
        layers = numpy_model.as_float64(params)["camera_cnn"]
        hidden = picture.reshape(-1, 16, 32, 3) / 255.0 - 0.5
        for index in range(4):
            convolved = np.asarray(
                self.variant(convolutions.halve)(
                    jnp.asarray(hidden, jnp.float32), params["camera_cnn"][f"conv{index}"]["kernel"]
                )
            )
            hidden = numpy_model.norm_silu(layers[f"norm{index}"], convolved.astype(np.float64))
        np.testing.assert_allclose(embedding.reshape(10, -1), hidden.reshape(10, -1), rtol=1e-3, atol=1e-4)

    @chex.variants(with_jit=True)
    def test_vectors_and_several_images_side_by_side(self) -> None:
        networks = make_networks(BOTH, cnn_depth=2)
        params = random_params(networks)["world_model"]
        rng = np.random.default_rng(0)
        seen: dict[str, Any] = {
            "camera": rng.integers(0, 256, (3, 16, 32, 3), np.uint8),
            "map": rng.integers(0, 256, (3, 16, 16, 1), np.uint8),
            "state": rng.normal(size=(3, 3)).astype(np.float32),
        }
        embedding = self.variant(partial(apply, networks.encoder))(params["encoder"], seen)
        assert embedding.shape == (3, 8 + 16 + 8)  # units, then 8 channels on 1 x 2 and on 1 x 1 pixels
        feature = rng.normal(size=(3, 16 + 8)).astype(np.float32)
        drawn = self.variant(partial(apply, networks.decoder))(params["decoder"], feature)
        assert {name: value.shape for name, value in drawn.items()} == {
            "camera": (3, 16, 32, 3),
            "map": (3, 16, 16, 1),
            "state": (3, 3),
        }
        assert all(((drawn[name] > 0) & (drawn[name] < 1)).all() for name in ("camera", "map"))

    @chex.variants(with_jit=True)
    def test_the_loss_is_the_squared_error_on_the_unit_interval(self) -> None:
        rng = np.random.default_rng(0)
        prediction, target = rng.random((4, 2, *CAMERA.shape)), rng.integers(0, 256, (4, 2, *CAMERA.shape), np.uint8)
        expected = ((prediction - target / 255.0) ** 2).sum(axis=(2, 3, 4))
        actual = self.variant(partial(decoder_loss, CAMERA))(jnp.asarray(prediction, jnp.float32), jnp.asarray(target))
        np.testing.assert_allclose(actual, expected, rtol=1e-4)
