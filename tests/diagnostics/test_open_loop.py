"""Dreams along an episode's own actions, against their definition step by step, and against the filter."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamerjax.agent import world_model
from dreamerjax.agent.actor_critic import value
from dreamerjax.agent.observation_normalization import model_units
from dreamerjax.agent.world_model import FilterInputs, Latent, feature
from dreamerjax.data.playing import pad
from dreamerjax.diagnostics import open_loop
from dreamerjax.diagnostics.open_loop import OpenLoopInputs
from dreamerjax.networks.build import Networks
from dreamerjax.networks.layers import apply
from tests.diagnostics.test_belief import played
from tests.helpers import BOTH, IMAGE, MIXED, make_networks, random_agent

GAMMA = np.float32(0.9)
CONTEXT, STEPS, DREAMS = 3, 4, 2


def symexp(decoded: Any) -> np.ndarray:
    return np.asarray(np.sign(decoded) * np.expm1(np.abs(decoded)))


def step_by_step(networks: Networks, params: Any, episodes: list[Any], uniforms: list[np.ndarray], m: int) -> Any:
    """What the decoder makes of each step [STEPS] of the m-th dream of every episode."""
    seen, before = pad(episodes, 0, CONTEXT)
    is_first = np.arange(CONTEXT)[:, None] == np.zeros((1, len(episodes)))
    start = world_model.initial_latent(networks, len(episodes))
    previous = world_model.encode_action(networks, jnp.asarray(before))
    observe = jax.jit(partial(world_model.observe, networks, params["world_model"]))
    inputs = FilterInputs(model_units(networks.spec.observations, {}, seen), previous, is_first)
    latent = jax.tree.map(lambda leaf: leaf[-1], observe(inputs, start, uniforms[0][:, :, m]).latent)
    rssm, model, decoded = networks.rssm, params["world_model"], []
    for k in range(STEPS):
        taken = np.stack([episode.actions[CONTEXT - 1 + k] for episode in episodes])
        action = world_model.encode_action(networks, jnp.asarray(taken))
        projected = apply(rssm, model["rssm"], action, method="project_action")
        deter = apply(rssm, model["rssm"], *latent, projected, method="recurrent")
        logits = apply(rssm, model["rssm"], deter, method="prior")
        latent = Latent(deter, world_model.sample_stoch(logits, jnp.asarray(uniforms[1][k, :, m])))
        decoded.append(jax.tree.map(np.asarray, apply(networks.decoder, model["decoder"], feature(latent))))
    return decoded


@pytest.mark.parametrize("spec", [MIXED, BOTH])
def test_open_loop_is_the_prior_on_real_actions(spec: Any) -> None:
    networks = make_networks(spec, cnn_depth=1)
    params, rng = random_agent(networks), np.random.default_rng(3)
    episodes = [played(networks, 12, seed) for seed in (1, 2)]
    uniforms = [rng.random((n, 2, DREAMS, networks.rssm.groups), np.float32) for n in (CONTEXT, STEPS)]
    seen, before = pad(episodes, 0, CONTEXT)
    chosen = np.array([3, 0, 2]), np.array([1, 1, 0])
    predict = jax.jit(partial(open_loop.predict, networks, params))
    predicted = predict(OpenLoopInputs(seen, before, pad(episodes, CONTEXT, STEPS)[1], *uniforms), chosen)
    shapes = {name: values.shape for name, values in {**predicted.vectors, **predicted.images}.items()}
    expected = {"state": (STEPS, 2, DREAMS, 3), "image": (3, 16, 32, 3)}
    assert shapes == {name: expected[name] for name in spec.observations if name in expected}
    for m in range(DREAMS):
        decoded = step_by_step(networks, params, episodes, uniforms, m)
        for name, values in predicted.vectors.items():
            wanted = symexp(np.stack([step[name] for step in decoded]))
            np.testing.assert_allclose(values[:, :, m], wanted, rtol=1e-3, atol=1e-4)
        for name, values in predicted.images.items():
            drawn = np.stack([decoded[step][name][index] for step, index in zip(*chosen, strict=True)])
            assert (np.abs(values - drawn).max() < 1e-4) == (m == 0)  # pictures are those of the first dream
            assert 0.0 <= values.min() < values.max() <= 1.0


def test_what_is_watched_is_the_filter_and_then_the_prediction() -> None:
    """The program is shown more observations than count."""
    shown = CONTEXT + 2
    networks = make_networks(BOTH, cnn_depth=1)
    params, rng, episode = random_agent(networks), np.random.default_rng(1), played(networks, 9)
    uniforms = [rng.random((length, 1, 1, networks.rssm.groups), np.float32) for length in (shown, STEPS)]
    actions = pad([episode], CONTEXT, STEPS)[1]
    watch = jax.jit(partial(open_loop.watch, networks))
    inputs = OpenLoopInputs(*pad([episode], 0, shown), actions, *uniforms)
    watched = watch(params, inputs, context=np.int32(CONTEXT), gamma=GAMMA)
    cut = [uniforms[0][:CONTEXT], uniforms[1]]
    dreamed = step_by_step(networks, params, [episode], cut, 0)
    seen, before = pad([episode], 0, CONTEXT)
    action, is_first = world_model.encode_action(networks, jnp.asarray(before)), np.arange(CONTEXT)[:, None] == 0
    start = world_model.initial_latent(networks, 1)
    observe = jax.jit(partial(world_model.observe, networks))
    filtered = FilterInputs(model_units(networks.spec.observations, {}, seen), action, is_first)
    features = feature(observe(params["world_model"], filtered, start, cut[0][:, :, 0]).latent)[:, 0]
    decoded = apply(networks.decoder, params["world_model"]["decoder"], features)
    for name, values in watched.vectors.items():
        assert values.shape == (shown + STEPS, 3)
        np.testing.assert_allclose(values[:CONTEXT], symexp(decoded[name]), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(values[shown:], symexp(np.stack([step[name][0] for step in dreamed])), rtol=1e-3, atol=1e-4)
    for name, values in watched.images.items():
        assert values.shape == (shown + STEPS, 16, 32, 3)
        np.testing.assert_allclose(values[:CONTEXT], decoded[name], atol=1e-4)
        np.testing.assert_allclose(values[shown:], np.stack([step[name][0] for step in dreamed]), atol=1e-4)
    assert (list(watched.vectors), list(watched.images)) == (["state"], ["image"])
    logits = np.asarray(apply(networks.continue_, params["world_model"]["continue"], features))[:, 0]
    np.testing.assert_allclose(watched.alive[:CONTEXT], np.minimum(1 / (1 + np.exp(-logits)) / GAMMA, 1.0), rtol=1e-4)
    expected = value(networks, params["critic"], features)
    np.testing.assert_allclose(watched.value[:CONTEXT], expected, rtol=1e-4, atol=1e-5)


def test_no_convolution_of_the_decoder_is_inside_the_scan() -> None:
    """There it would be slow on CPU; pictures that nobody asked for would be decoded as well."""
    networks = make_networks(IMAGE, cnn_depth=1)
    params, episode = random_agent(networks), played(networks, 9)
    uniforms = [np.zeros((n, 1, DREAMS, networks.rssm.groups), np.float32) for n in (CONTEXT, STEPS)]
    inputs = OpenLoopInputs(*pad([episode], 0, CONTEXT), pad([episode], CONTEXT, STEPS)[1], *uniforms)
    chosen = np.zeros(1, int), np.zeros(1, int)
    program = jax.jit(partial(open_loop.predict, networks, params)).lower(inputs, chosen).compile().as_text() or ""
    names = re.findall(r'convolution\(.*op_name="([^"]+)"', program)
    assert [sum(part in name for name in names) for part in ("Encoder", "Decoder", "while")] == [4, 4, 0]
