"""All losses of an update together: who is trained by which, and where dreams start."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamerjax.agent.actor_critic import Critics, dream_targets, value
from dreamerjax.agent.imagination import DreamNoise, imagine
from dreamerjax.agent.losses import Losses, UpdateInputs, all_losses, replay_critic_loss
from dreamerjax.agent.state import Batch, Hyper, Noise, TrainState
from dreamerjax.agent.update import draw_noise
from dreamerjax.agent.world_model import feature
from dreamerjax.core.types import EnvSpec
from tests.helpers import (
    CONTINUOUS,
    HORIZON,
    LENGTH,
    SEQUENCES,
    VECTOR,
    hyper,
    largest,
    make_networks,
    random_batch,
    random_state,
    settings,
)

NETWORKS = make_networks(VECTOR)
STATE = random_state(NETWORKS)


def noise(count: int = 0, seed: int = 0, **changes: Any) -> Noise:
    keys = jax.random.split(jax.random.key(seed), SEQUENCES)
    return draw_noise(NETWORKS, settings(starts_per_sequence=count, **changes), keys, LENGTH)


@jax.jit
def _losses(state: TrainState, batch: Batch, noise: Noise) -> Losses:
    return all_losses(NETWORKS, settings(), hyper(), state.params, UpdateInputs(state, batch, noise))


def losses(batch: Batch, noise: Noise) -> Losses:
    """The state is an argument: as a constant it compiles slowly."""
    result: Losses = _losses(STATE, batch, noise)
    return result


def gradients(**changes: Any) -> dict[str, Any]:
    """For each loss its gradient by all parameters."""

    def compute(params: Any, state: TrainState, batch: Batch, noise: Noise) -> Any:
        numbers = hyper(free_nats=0.0)
        return all_losses(NETWORKS, settings(**changes), numbers, params, UpdateInputs(state, batch, noise)).parts

    result: dict[str, Any] = jax.jit(jax.jacrev(compute))(STATE.params, STATE, random_batch(NETWORKS), noise())
    return result


@pytest.fixture(scope="module")
def by_loss() -> dict[str, Any]:
    return gradients()


WORLD_MODEL = {
    "decoder": {"encoder", "rssm", "decoder"},
    "reward": {"encoder", "rssm", "reward"},
    "continue_": {"encoder", "rssm", "continue"},
    "dynamics": {"encoder", "rssm"},
    "representation": {"encoder", "rssm"},
    "actor": set(),
    "critic": set(),
    "replay_critic": {"encoder", "rssm"},
}


def test_every_loss_trains_what_it_should_and_nothing_else(by_loss: dict[str, Any]) -> None:
    """In particular dreams never train the world model: neither the actor's loss nor the critic's."""
    assert by_loss.keys() == WORLD_MODEL.keys()
    for name, gradient in by_loss.items():
        trained = {part for part, tree in gradient["world_model"].items() if largest(tree) > 0}
        assert trained == WORLD_MODEL[name], name
        assert (largest(gradient["actor"]) > 0) == (name == "actor"), name
        assert (largest(gradient["critic"]) > 0) == (name in ("critic", "replay_critic")), name


def test_the_prior_is_trained_by_the_dynamics_loss_alone(by_loss: dict[str, Any]) -> None:
    for name, gradient in by_loss.items():
        prior = {part: tree for part, tree in gradient["world_model"]["rssm"].items() if part.startswith("prior")}
        assert (largest(prior) > 0) == (name == "dynamics"), name


def test_the_replay_critic_leaves_the_world_model_alone_if_told_so() -> None:
    gradient = gradients(replay_critic_gradient=False)["replay_critic"]
    assert largest(gradient["world_model"]) == 0
    assert largest(gradient["critic"]) > 0


def test_a_time_limit_does_not_teach_an_end() -> None:
    """is_last without is_terminal cuts returns, and nothing else; is_terminal teaches the end."""
    batch, numbers = random_batch(NETWORKS, ends=0.0), noise()
    cut = np.zeros((LENGTH, SEQUENCES), bool)
    cut[2] = True
    plain = losses(batch, numbers).parts
    truncated = losses(batch._replace(is_last=cut), numbers).parts
    terminated = losses(batch._replace(is_last=cut, is_terminal=cut), numbers).parts
    for name in plain.keys() - {"replay_critic"}:
        np.testing.assert_array_equal(truncated[name], plain[name], err_msg=name)
    assert truncated["replay_critic"] != plain["replay_critic"]
    assert terminated["continue_"] != plain["continue_"]


def test_starts_are_all_steps_or_a_sorted_subset_of_each_sequence() -> None:
    np.testing.assert_array_equal(noise().starts, np.tile(np.arange(LENGTH)[:, None], (1, SEQUENCES)))
    subset = np.asarray(noise(3).starts)
    assert subset.shape == (3, SEQUENCES)
    assert (np.diff(subset, axis=0) > 0).all()  # sorted, and no step twice
    assert subset.min() >= 0
    assert subset.max() < LENGTH
    assert len({tuple(column) for column in subset.T}) > 1  # each sequence draws its own
    assert noise(3).action.shape == (HORIZON, 3, SEQUENCES, 1)
    picks = np.concatenate([np.asarray(noise(3, seed=seed).starts).ravel() for seed in range(40)])
    frequencies = np.bincount(picks, minlength=LENGTH) / len(picks)
    np.testing.assert_allclose(frequencies, 1 / LENGTH, atol=0.06)


def test_dreams_from_all_steps_are_the_dreams_from_each() -> None:
    """The mean loss over all starts is the mean over the starts taken one at a time."""
    batch, everything = random_batch(NETWORKS, seed=3), noise()
    whole = losses(batch, everything).parts
    parts = []
    for t in range(LENGTH):
        one = everything._replace(
            starts=everything.starts[t : t + 1],
            action=everything.action[:, t : t + 1],
            latent=everything.latent[:, t : t + 1],
        )
        parts.append(float(losses(batch, one).parts["critic"]))
    assert np.std(parts) > 0
    np.testing.assert_allclose(np.mean(parts), whole["critic"], rtol=1e-4)


def test_each_sequence_draws_noise_of_its_own() -> None:
    """From its own key, so that splitting the batch over devices changes nothing."""
    keys = jax.random.split(jax.random.key(0), SEQUENCES)
    whole = noise(3)
    draw = partial(draw_noise, NETWORKS, settings(starts_per_sequence=3), length=LENGTH)
    halves = [draw(keys[:2]), draw(keys[2:])]
    for *pair, expected, axis in zip(*halves, whole, (1, 1, 2, 2), strict=True):
        np.testing.assert_array_equal(np.concatenate(pair, axis=axis), expected)


def test_the_return_scale_averages_the_dreams_percentiles() -> None:
    """A share of return_norm_rate of the new percentiles, corrected for the start at zero."""
    found = losses(random_batch(NETWORKS), noise())
    metrics, scale = found.metrics, found.return_scale
    rate = float(hyper().return_norm_rate)
    np.testing.assert_allclose(scale.correction, rate, rtol=1e-5)
    spread = float(scale.high - scale.low) / rate
    np.testing.assert_allclose(metrics["dream/return_scale"], max(1.0, spread), rtol=1e-4)
    assert float(scale.low) / rate < metrics["dream/return_mean"] < float(scale.high) / rate


@pytest.mark.parametrize(("spec", "times"), [(VECTOR, 1.0), (CONTINUOUS, 3.0)], ids=["discrete", "continuous"])
def test_the_entropy_of_continuous_actions_has_a_weight_of_its_own(spec: EnvSpec, times: float) -> None:
    networks = make_networks(spec)
    state, batch = random_state(networks), random_batch(networks)
    drawn = draw_noise(networks, settings(), jax.random.split(jax.random.key(0), SEQUENCES), LENGTH)

    @jax.jit
    def actor(numbers: Hyper, inputs: UpdateInputs) -> jax.Array:
        return all_losses(networks, settings(), numbers, inputs.state.params, inputs).parts["actor"]

    inputs = UpdateInputs(state, batch, drawn)
    plain = actor(hyper(entropy=0.1 * times, continuous_entropy=1.0), inputs)
    np.testing.assert_allclose(actor(hyper(entropy=0.1, continuous_entropy=3.0), inputs), plain, rtol=1e-5)
    assert actor(hyper(entropy=0.2 * times, continuous_entropy=1.0), inputs) < plain - 1e-3


def test_dreams_from_terminal_states_count_for_nothing() -> None:
    """An actor cannot act after the end."""
    batch, everything = random_batch(NETWORKS, ends=0.0), noise()
    ended = np.zeros((LENGTH, SEQUENCES), bool)
    ended[2] = True
    for t, counts in ((2, False), (3, True)):
        one = everything._replace(
            starts=everything.starts[t : t + 1],
            action=everything.action[:, t : t + 1],
            latent=everything.latent[:, t : t + 1],
        )
        result = losses(batch._replace(is_last=ended, is_terminal=ended), one).parts
        assert (float(result["actor"]) != 0) == counts
        assert (float(result["critic"]) > 0) == counts


def test_the_replay_critic_is_bootstrapped_from_dreams_where_there_are_any() -> None:
    """Put together by hand: the imagined return of each start in its place, the critic's value everywhere else."""
    batch, numbers, drawn = random_batch(NETWORKS, seed=4), hyper(), noise(2)
    result, _, posterior, _ = losses(batch, drawn)
    critics = Critics(STATE.params["critic"], STATE.slow_critic)
    flat = [(t, b) for row in np.asarray(drawn.starts) for b, t in enumerate(row)]
    latent = jax.tree.map(lambda leaf: jnp.stack([leaf[t, b] for t, b in flat]), posterior.latent)
    action, stoch = (uniform.reshape(HORIZON, len(flat), -1) for uniform in (drawn.action, drawn.latent))
    dream = imagine(NETWORKS, STATE.params, latent, DreamNoise(action, stoch))
    alive = jnp.ones(len(flat))
    model = STATE.params["world_model"]
    targets = dream_targets(NETWORKS, model, critics, dream, alive, lambda_=numbers.lambda_)
    inputs = feature(posterior.latent)
    bootstrap = np.array(value(NETWORKS, critics.fast, inputs))
    for (t, b), imagined in zip(flat, np.asarray(targets.returns[0]), strict=True):
        bootstrap[t, b] = imagined
    expected = replay_critic_loss(
        NETWORKS, critics, inputs, batch, jnp.asarray(bootstrap),
        gamma=numbers.gamma, lambda_=numbers.lambda_, slow_regularizer=numbers.slow_regularizer,
    )  # fmt: skip
    np.testing.assert_allclose(result["replay_critic"], expected.mean(), rtol=1e-4)
