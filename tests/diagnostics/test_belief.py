"""Filter and dreams against their definitions, on random parameters."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamerjax.agent import world_model
from dreamerjax.agent.imagination import DreamNoise, imagine
from dreamerjax.agent.policy import Seen, act, initial_policy_state
from dreamerjax.agent.state import acting_params
from dreamerjax.agent.world_model import FilterInputs, Latent
from dreamerjax.data.playing import PlayedEpisode, pad
from dreamerjax.diagnostics import belief
from dreamerjax.networks.build import Networks
from tests.helpers import CONTINUOUS, MIXED, VECTOR, actions, make_networks, observations, random_agent

NETWORKS = make_networks(VECTOR)
PARAMS = random_agent(NETWORKS)
RSSM = NETWORKS.rssm
GAMMA, LAMBDA = 0.9, 0.8


def played(networks: Networks, length: int, seed: int = 0) -> PlayedEpisode:
    """An episode of random numbers."""
    rng = np.random.default_rng(seed)
    spec = networks.spec
    return PlayedEpisode(observations(spec, (length + 1,), rng), actions(spec, (length,), rng), rng.normal(size=length), True)


def random_latent(networks: Networks, batch: int, seed: int = 0) -> Latent:
    """Of the middle of an episode."""
    rng, rssm = np.random.default_rng(seed), networks.rssm
    stoch = np.eye(rssm.classes)[rng.integers(0, rssm.classes, (batch, rssm.groups))]
    return Latent(jnp.asarray(rng.uniform(-1, 1, (batch, rssm.deter)), jnp.float32), jnp.asarray(stoch, jnp.float32))


def test_padded_episodes() -> None:
    short, long = played(NETWORKS, 2), played(NETWORKS, 9, seed=1)
    seen, before = pad([short, long], 0, 6)
    np.testing.assert_array_equal(seen["state"][:3, 0], short.observations["state"])
    np.testing.assert_array_equal(before[1:3, 0], short.actions)
    np.testing.assert_array_equal(before[0], 0)
    np.testing.assert_array_equal(seen["state"][3:, 0], 0.0)
    np.testing.assert_array_equal(before[3:, 0], 0)
    seen, before = pad([short, long], 6, 6)
    np.testing.assert_array_equal(seen["state"][:4, 1], long.observations["state"][6:])
    np.testing.assert_array_equal(before[:4, 1], long.actions[5:])
    assert (seen["state"].shape, before.shape) == ((6, 2, 3), (6, 2, 1))


def test_the_filter_is_the_policy_of_the_same_episode() -> None:
    """Acting step by step and filtering the padded episode in two pieces lead to the same latents."""
    length, piece = 7, 5
    seen = played(NETWORKS, length).observations
    compiled = jax.jit(partial(act, NETWORKS, acting_params(PARAMS), greedy=False))
    state, lived, taken, uniform = initial_policy_state(NETWORKS, 1), [], [], []
    for t in range(length + 1):
        key, inputs = jax.random.key(t), {name: values[t : t + 1] for name, values in seen.items()}
        action, state = compiled(state, Seen(inputs, np.array([t == 0])), key)
        lived.append(state.latent)
        taken.append(np.asarray(action)[0])
        uniform.append(jax.random.uniform(jax.random.split(jax.random.clone(key))[0], (1, RSSM.groups)))
    episode = PlayedEpisode(seen, np.stack(taken[:-1]), np.zeros(length), False)
    filter_piece = jax.jit(partial(belief.filter_piece, NETWORKS, PARAMS))
    numbers = np.concatenate([np.stack(uniform), np.zeros((2 * piece - length - 1, 1, RSSM.groups))])
    latent, found = world_model.initial_latent(NETWORKS, 1), []
    for begin in (0, piece):
        is_first = np.arange(begin, begin + piece)[:, None] == 0
        piece_inputs = FilterInputs(*pad([episode], begin, piece), is_first)
        result = filter_piece(piece_inputs, latent, numbers[begin : begin + piece])
        latent = result.last
        found.append(result)
    for name in ("deter", "stoch"):
        filtered = np.concatenate([np.asarray(getattr(result.posterior.latent, name)) for result in found])
        expected = np.stack([np.asarray(getattr(latent, name)) for latent in lived])
        np.testing.assert_allclose(filtered[: length + 1], expected, atol=1e-5)
    logits = np.asarray(found[0].posterior.logits, np.float64)
    prior = world_model.apply(RSSM, PARAMS["world_model"]["rssm"], found[0].posterior.latent.deter, method="prior")
    kl = (np.exp(logits) * (logits - np.asarray(prior, np.float64))).sum((-2, -1))
    np.testing.assert_allclose(found[0].kl, kl, rtol=1e-4, atol=1e-5)


def believe(networks: Networks, params: Any, start: Latent, dreams_of_each: int, horizon: int) -> tuple[Any, Any, Any]:
    """The belief, and the uniform numbers that it was drawn with."""
    rng, count = np.random.default_rng(5), start.deter.shape[0]
    shape = (dreams_of_each, horizon, count)
    action_uniform = rng.random((*shape, *networks.spec.action.shape), np.float32)
    latent_uniform = rng.random((*shape, networks.rssm.groups), np.float32)
    compiled = jax.jit(partial(belief.believe, networks))
    noise = DreamNoise(action_uniform, latent_uniform)
    result = compiled(params, start, noise, gamma=np.float32(GAMMA), lambda_=np.float32(LAMBDA))
    return result, action_uniform, latent_uniform


def head(networks: Networks, name: str, params: Any, features: Any) -> np.ndarray:
    """A head's outputs as float64."""
    return np.asarray(world_model.apply(getattr(networks, name), params, features), np.float64)


def two_hot_mean(logits: np.ndarray) -> np.ndarray:
    probs = np.exp(logits - logits.max(-1, keepdims=True))
    return (probs / probs.sum(-1, keepdims=True)) @ NETWORKS.bins.values.astype(np.float64)


def test_beliefs_are_means_over_dreams() -> None:
    start, horizon = random_latent(NETWORKS, 4), 3
    belief, action_uniform, latent_uniform = believe(NETWORKS, PARAMS, start, 2, horizon)
    returns, rewards, alives = [], [], []
    model = PARAMS["world_model"]
    rollout = jax.jit(partial(imagine, NETWORKS, PARAMS, start))
    for uniforms in zip(action_uniform, latent_uniform, strict=True):
        features = rollout(DreamNoise(*uniforms)).features
        reward = two_hot_mean(head(NETWORKS, "reward", model["reward"], features))
        value = two_hot_mean(head(NETWORKS, "critic", PARAMS["critic"], features))
        going_on = 1 / (1 + np.exp(-head(NETWORKS, "continue_", model["continue"], features)[..., 0]))
        total, alive, reached = value[horizon], np.ones(4), []
        for k in range(horizon, 0, -1):
            total = reward[k] + going_on[k] * ((1 - LAMBDA) * value[k] + LAMBDA * total)
        alive_after = []
        for k in range(1, horizon + 1):
            reached.append(alive * reward[k])
            alive = alive * np.minimum(going_on[k] / GAMMA, 1.0)
            alive_after.append(alive)
        returns.append(total)
        rewards.append(reached)
        alives.append(alive_after)
    np.testing.assert_allclose(belief.returns, np.mean(returns, axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(belief.rewards, np.mean(rewards, axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(belief.alive, np.mean(alives, axis=0), rtol=1e-4)


@pytest.mark.parametrize("spec", [CONTINUOUS, MIXED])
def test_shapes_for_every_kind_of_space(spec: Any) -> None:
    networks = make_networks(spec)
    belief, *_ = believe(networks, random_agent(networks), random_latent(networks, 5), 2, 4)
    assert [leaf.shape for leaf in belief] == [(5,), (4, 5), (4, 5)]
    assert (np.diff(belief.alive, axis=0) <= 0).all()
