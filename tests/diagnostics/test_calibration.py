"""The examination as a whole: a world whose gap is known, the right states, and one compilation for all calls."""

from __future__ import annotations

import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamerjax.agent.world_model import FilterInputs, Latent, Posterior
from dreamerjax.core.types import ActionSpec, EnvSpec, ObservationSpec
from dreamerjax.data.playing import PlayedEpisode
from dreamerjax.diagnostics import belief, calibration, model_bias
from dreamerjax.diagnostics.calibration import STATES, Calibrator, words
from dreamerjax.diagnostics.open_loop import CONTEXT
from dreamerjax.networks.build import Networks
from tests.helpers import BOTH, HORIZON, MIXED, VECTOR, actions, make_networks, observations, random_agent

GAMMA, LAMBDA = 0.9, 1.0
NETWORKS = make_networks(VECTOR)


def episode(networks: Networks, length: int, *, terminated: bool, reward: float = 1.0, seed: int = 0) -> PlayedEpisode:
    """Random observations and actions, the same reward at every step."""
    rng = np.random.default_rng(seed)
    spec = networks.spec
    seen, taken = observations(spec, (length + 1,), rng), actions(spec, (length,), rng)
    return PlayedEpisode(seen, taken, np.full(length, reward), terminated)


def calibrator(networks: Networks) -> Calibrator:
    return Calibrator(networks, horizon=HORIZON, gamma=GAMMA, lambda_=LAMBDA)


def known_world(networks: Networks, reward_bin: int, going_on: float, value_bin: int) -> Any:
    """Parameters whose heads say the same everywhere: a reward, a probability of going on, a value."""
    params = random_agent(networks)

    def constant(head: Any, bias: Any) -> Any:
        kernel = jnp.zeros_like(head["out"]["dense"]["kernel"])
        return {**head, "out": {"dense": {"kernel": kernel, "bias": jnp.asarray(bias, jnp.float32)}}}

    model, bins = params["world_model"], np.arange(len(networks.bins))
    probability = GAMMA * going_on
    heads = {
        "reward": constant(model["reward"], 60.0 * (bins == reward_bin)),
        "continue": constant(model["continue"], [np.log(probability / (1 - probability))]),
    }
    return {**params, "world_model": {**model, **heads}, "critic": constant(params["critic"], 60.0 * (bins == value_bin))}


def test_a_world_whose_gap_is_known() -> None:
    going_on, reward_bin, value_bin = 0.8, 13, 15
    reward, value = (float(NETWORKS.bins.values[index]) for index in (reward_bin, value_bin))
    played = [episode(NETWORKS, 7, terminated=True), episode(NETWORKS, 9, terminated=False, seed=1)]
    found = calibrator(NETWORKS)(known_world(NETWORKS, reward_bin, going_on, value_bin), played, seed=0)
    discount = GAMMA * going_on
    imagined = sum(reward * discount**k for k in range(HORIZON)) + discount**HORIZON * value
    calibration, metrics = found.calibration, found.metrics
    np.testing.assert_allclose(calibration.return_imagined, imagined, rtol=1e-4)
    ended = [sum(GAMMA**k for k in range(7 - t)) for t in range(7)]
    cut = [sum(GAMMA**k for k in range(9 - t)) + GAMMA ** (9 - t) * value for t in range(3)]  # 0.9^7 is just below 0.5
    np.testing.assert_allclose(calibration.return_real, [*ended, *cut], rtol=1e-5)
    np.testing.assert_allclose(calibration.bootstrap, [0.0] * 7 + [GAMMA ** (9 - t) for t in range(3)])
    assert metrics["gap/states"] == 10.0
    assert metrics["gap/return_rank"] == pytest.approx(
        model_bias.rank_correlation(calibration.return_imagined, calibration.return_real)
    )
    for k in range(1, HORIZON + 1):
        reached, still = (10 - max(0, k - 1)) / 10, (10 - k) / 10  # of the ended episode, one state more with every step
        assert metrics[f"gap/reward_bias/{k:02d}"] == pytest.approx(reward * going_on ** (k - 1) - reached, abs=1e-4)
        assert metrics[f"gap/continue_bias/{k:02d}"] == pytest.approx(going_on**k - still, abs=1e-5)


def test_every_state_gets_what_was_filtered_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that only passes numbered observations on, and dreams that say where they started."""

    def number(networks: Any, params: Any, inputs: FilterInputs, start: Latent, uniform: Any) -> Any:
        numbers = inputs.observations["state"][..., 0]
        count = start.deter[:, :1] + numbers.shape[0]  # steps so far: the pieces follow each other
        deter = jnp.broadcast_to(numbers[..., None], (*numbers.shape, NETWORKS.rssm.deter))
        stoch = jnp.broadcast_to(inputs.is_first[..., None, None], (*numbers.shape, *start.stoch.shape[1:])).astype(jnp.float32)
        last = Latent(jnp.broadcast_to(count, start.deter.shape), start.stoch)
        pieces = jnp.broadcast_to(start.deter[:, 0], numbers.shape)
        return belief.Filtered(Posterior(Latent(deter, stoch), stoch), pieces, 10.0 * numbers, last)

    def say(networks: Networks, params: Any, start: Latent, noise: Any, *, gamma: Any, lambda_: Any) -> belief.Belief:
        rewards = jnp.broadcast_to(start.stoch[None, :, 0, 0], (HORIZON, STATES))
        return belief.Belief(start.deter[:, 0], rewards, rewards)

    monkeypatch.setattr(belief, "filter_piece", number)
    monkeypatch.setattr(belief, "believe", say)
    monkeypatch.setattr(calibration, "PIECE", 8)
    lengths, terminated = np.array([30, 8, 15]), np.array([True, False, False])
    played = []
    for i, (length, end) in enumerate(zip(lengths, terminated, strict=True)):
        one = episode(NETWORKS, int(length), terminated=bool(end), reward=0.0)
        one.observations["state"][:, 0] = 100 * i + np.arange(length + 1)
        played.append(one)
    found = calibrator(NETWORKS)(random_agent(NETWORKS), played, seed=4)
    states = model_bias.choose_states(lengths, terminated, GAMMA, STATES, np.random.Generator(np.random.PCG64(4)))
    assert set(states.episode.tolist()) == {0, 1, 2}
    np.testing.assert_array_equal(found.calibration.return_imagined, 100 * states.episode + states.step)
    last_values = 10.0 * (100 * np.arange(3) + lengths)
    left = lengths[states.episode] - states.step
    expected = np.where(states.episode == 0, 0.0, GAMMA**left * last_values[states.episode])
    np.testing.assert_allclose(found.calibration.return_real, expected, rtol=1e-6)
    assert found.metrics["gap/kl"] == pytest.approx((states.step // 8 * 8).mean())
    assert found.calibration.reward_imagined[0] == pytest.approx((states.step == 0).mean())  # is_first, and nowhere else


def test_a_second_call_compiles_nothing(caplog: pytest.LogCaptureFixture) -> None:
    compiled = calibrator(NETWORKS)
    played = [episode(NETWORKS, 20, terminated=True), episode(NETWORKS, 40, terminated=False)]
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        first = compiled(random_agent(NETWORKS), played, seed=0)
        names = [name for name in ("filter_piece", "believe", "predict") if f"jit({name})" in caplog.text]
        assert names == ["filter_piece", "believe", "predict"]
        again = compiled(random_agent(NETWORKS), played, seed=0)
        caplog.clear()
        longer = [episode(NETWORKS, 150, terminated=False), episode(NETWORKS, 3, terminated=True)]
        other = compiled(random_agent(NETWORKS, seed=7), longer, seed=1)
        assert "ompil" not in caplog.text
    assert again.metrics == first.metrics
    assert other.metrics != first.metrics


def test_images_are_examined_beside_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "STATES", 8)
    monkeypatch.setattr(calibration, "PIECE", 16)
    networks = make_networks(BOTH, cnn_depth=1)
    played = [episode(networks, 4, terminated=True), episode(networks, 9, terminated=False)]
    found = calibrator(networks)(random_agent(networks), played, seed=0)
    assert found.open_loop is not None
    assert list(found.open_loop.real_images) == list(found.open_loop.dreamed_images) == ["image"]
    assert list(found.open_loop.real) == ["state"]
    assert np.isfinite(list(found.metrics.values())).all()
    assert found.metrics["gap/open_loop_image_error"] > 0.0
    assert "gap/open_loop_error" in found.metrics
    assert "open loop of images: error" in words(found, 2, extra=False)


@pytest.mark.parametrize("spec", [EnvSpec({"n": ObservationSpec((1,), (5,))}, ActionSpec(sizes=(2,))), MIXED])
def test_without_anything_to_predict(monkeypatch: pytest.MonkeyPatch, spec: EnvSpec) -> None:
    """Discrete observations only, or an episode that ends before imagination starts."""
    monkeypatch.setattr(calibration, "STATES", 8)
    networks = make_networks(spec)
    length = CONTEXT - 1 if "state" in spec.observations else 30
    found = calibrator(networks)(random_agent(networks), [episode(networks, length, terminated=True)], seed=0)
    assert found.open_loop is None
    assert not any("open_loop" in name for name in found.metrics)
    assert "open loop" not in words(found, 1, extra=False)
    assert np.isfinite(list(found.metrics.values())).all()
