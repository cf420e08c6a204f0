"""All losses of one update against their formulas in float64 NumPy, from nothing but parameters, a batch and its noise.

Equations: DreamerV3 (arXiv 2301.04104), sections "World model learning" and "Actor-critic learning"; centred advantages:
docs/staying_solved.md. Written step by step from the formulas; shares with the agent no more than the numbers that go in.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamerjax.agent.losses import UpdateInputs, all_losses
from dreamerjax.agent.state import Batch, Noise, TrainState
from dreamerjax.agent.update import draw_noise
from dreamerjax.ops.normalization import ReturnScaleState
from tests.helpers import HORIZON, LENGTH, SEQUENCES, VECTOR, hyper, make_networks, random_batch, random_state, settings
from tests.networks import numpy_model

Array = np.ndarray

STARTS = 4  # of each sequence: fewer than its steps, so that some states have no dream
NETWORKS = make_networks(VECTOR)
RSSM = NETWORKS.rssm
BINS = NETWORKS.bins.values.astype(np.float64)
NUMBERS = hyper(lambda_=0.9, entropy=0.03, return_norm_rate=0.3, slow_regularizer=0.6)
SETTINGS = settings(starts_per_sequence=STARTS)


def with_history(state: TrainState) -> TrainState:
    """Whose return scale has seen earlier returns, so far apart that advantages are divided by more than 1."""
    return state._replace(return_scale=ReturnScaleState(jnp.float32(-1.5), jnp.float32(2.5), jnp.float32(0.6)))


STATE = with_history(random_state(NETWORKS))
BATCH = random_batch(NETWORKS, ends=0.3, seed=2)
NOISE = draw_noise(NETWORKS, SETTINGS, jax.random.split(jax.random.key(5), SEQUENCES), LENGTH)


def actual_losses(state: TrainState, batch: Batch, noise: Noise) -> tuple[dict[str, jax.Array], ReturnScaleState]:
    """The agent's: its only call here."""
    found = jax.jit(partial(all_losses, NETWORKS, SETTINGS, NUMBERS))(state.params, UpdateInputs(state, batch, noise))
    return found.parts, found.return_scale


class States(NamedTuple):
    """Latent states [..., D] and [..., S, K]."""

    deter: Array
    stoch: Array

    @property
    def features(self) -> Array:
        return np.concatenate([self.deter, self.stoch.reshape(*self.deter.shape[:-1], -1)], axis=-1)


class Dreams(NamedTuple):
    """H steps from N starts."""

    features: Array  # [H+1, N, F]
    actions: Array  # [H, N] class indices


class Targets(NamedTuple):
    """What dreams say about their own states."""

    returns: Array  # [H, N]
    values: Array  # [H+1, N]
    weights: Array  # [H, N]


class Reference:
    """One update in float64, from the formulas."""

    def __init__(self, state: TrainState, batch: Batch, noise: Noise) -> None:
        self.model, self.actor, self.critic = (
            numpy_model.as_float64(state.params[part]) for part in ("world_model", "actor", "critic")
        )
        self.slow_critic = numpy_model.as_float64(state.slow_critic)
        self.batch, self.noise = batch, jax.tree.map(np.asarray, noise)
        self.old_scale = [float(part) for part in state.return_scale]
        self.gamma, self.lambda_ = float(NUMBERS.gamma), float(NUMBERS.lambda_)

    def posterior(self) -> tuple[States, Array]:
        """z_t ~ q(z_t | h_t, e_t), h_t = f(h_{t-1}, z_{t-1}, a_{t-1}); is_first zeroes what came before."""
        batch, params = self.batch, self.model["rssm"]
        deter = batch.context_deter.astype(np.float64)
        stoch = numpy_model.one_hot(batch.context_stoch, RSSM.classes)
        action = batch.context_action
        deters, stochs, logits = [], [], []
        for t in range(LENGTH):
            keep = 1.0 - batch.is_first[t].astype(np.float64)
            encoded = numpy_model.one_hots(action, VECTOR.action.sizes) * keep[:, None]
            deter = numpy_model.gru(params, RSSM.blocks, deter * keep[:, None], stoch * keep[:, None, None], encoded)
            seen = {name: values[t].astype(np.float64) for name, values in batch.observations.items()}
            embedding = numpy_model.encode(self.model["encoder"], VECTOR.observations, seen)
            logits.append(numpy_model.posterior(params, RSSM.groups, RSSM.unimix, deter, embedding))
            stoch = numpy_model.sample_one_hot(logits[-1], self.noise.posterior[t])
            deters.append(deter)
            stochs.append(stoch)
            action = batch.action[t]
        return States(np.stack(deters), np.stack(stochs)), np.stack(logits)

    def world_model(self, states: States, logits: Array) -> dict[str, Array]:
        """Decoder, reward, continue and the two KL terms with free bits, each [T, B]."""
        features, params = states.features, self.model
        hidden = numpy_model.mlp(params["decoder"]["mlp"], features)
        decoded = numpy_model.linear(params["decoder"]["state_out"], hidden)
        observed = numpy_model.symlog(self.batch.observations["state"].astype(np.float64))
        alive = numpy_model.sigmoid(numpy_model.head(params["continue"], features)[..., 0])
        target = (1.0 - self.batch.is_terminal) * self.gamma
        prior = numpy_model.prior(params["rssm"], RSSM.groups, RSSM.unimix, states.deter)
        kl = np.maximum(numpy_model.categorical_kl(logits, prior), float(NUMBERS.free_nats))
        reward_logits = numpy_model.head(params["reward"], features)
        return {
            "decoder": ((decoded - observed) ** 2).sum(axis=-1),
            "reward": numpy_model.two_hot_loss(reward_logits, self.batch.reward, BINS),
            "continue_": -(target * np.log(alive) + (1.0 - target) * np.log(1.0 - alive)),
            "dynamics": kl,
            "representation": kl,
        }

    def starts(self) -> list[tuple[int, int]]:
        """(t, b) of each dream's start."""
        return [(int(t), b) for row in self.noise.starts for b, t in enumerate(row)]

    def policy(self, features: Array) -> Array:
        """Log-probabilities of the actions."""
        return numpy_model.unimix(numpy_model.head(self.actor, features), NETWORKS.unimix)

    def dreams(self, posterior: States) -> Dreams:
        """a_t ~ pi(a_t | h_t, z_t), then z_{t+1} ~ p(z_{t+1} | h_{t+1})."""
        params, count = self.model["rssm"], len(self.starts())
        state = States(*(np.stack([part[t, b] for t, b in self.starts()]) for part in posterior))
        features, actions = [state.features], []
        for step in range(HORIZON):
            chosen = numpy_model.sample_one_hot(self.policy(state.features), self.noise.action[step].reshape(count))
            deter = numpy_model.gru(params, RSSM.blocks, *state, chosen)
            prior = numpy_model.prior(params, RSSM.groups, RSSM.unimix, deter)
            state = States(deter, numpy_model.sample_one_hot(prior, self.noise.latent[step].reshape(count, RSSM.groups)))
            features.append(state.features)
            actions.append(chosen.argmax(axis=-1))
        return Dreams(np.stack(features), np.stack(actions))

    @staticmethod
    def prediction(params: Any, features: Array) -> Array:
        """sum_i p_i b_i of a two-hot head."""
        return numpy_model.softmax(numpy_model.head(params, features)) @ BINS

    def targets(self, dreams: Dreams) -> Targets:
        """R_t = r_{t+1} + c_{t+1} ((1 - lambda) v_{t+1} + lambda R_{t+1}), R_H = v_H, by the fast critic; w_t = prod c."""
        rewards = self.prediction(self.model["reward"], dreams.features)
        continues = numpy_model.sigmoid(numpy_model.head(self.model["continue"], dreams.features)[..., 0])
        values = self.prediction(self.critic, dreams.features)
        returns, following = np.zeros(dreams.actions.shape), values[-1]
        for t in reversed(range(HORIZON)):
            mixed = (1.0 - self.lambda_) * values[t + 1] + self.lambda_ * following
            following = returns[t] = rewards[t + 1] + continues[t + 1] * mixed
        alive = np.array([1.0 - self.batch.is_terminal[start] for start in self.starts()])
        weights = [alive]
        for t in range(1, HORIZON):
            weights.append(weights[-1] * continues[t])
        return Targets(returns, values, np.stack(weights))

    def return_scale(self, returns: Array) -> tuple[list[float], float]:
        """New averages of the 5th and 95th percentile and of 1, and max(1, S95 - S5) without the bias of their start."""
        rate, new = float(NUMBERS.return_norm_rate), [*np.percentile(returns, [5.0, 95.0]), 1.0]
        averages = [(1.0 - rate) * old + rate * float(now) for old, now in zip(self.old_scale, new, strict=True)]
        low, high, correction = averages
        return averages, max(1.0, (high - low) / correction)

    def critic_loss(self, features: Array, targets: Array) -> Array:
        """Cross-entropy to the targets, plus that to the slow critic's prediction."""
        logits = numpy_model.head(self.critic, features)
        hold = numpy_model.two_hot_loss(logits, self.prediction(self.slow_critic, features), BINS)
        return numpy_model.two_hot_loss(logits, targets, BINS) + float(NUMBERS.slow_regularizer) * hold

    def actor_loss(self, dreams: Dreams, targets: Targets, scale: float) -> Array:
        """-w (log pi(a) A + eta H[pi]); A = (R - v) / scale without its weighted mean over the dreams at each step."""
        weights, log_probs = targets.weights, self.policy(dreams.features[:-1])
        advantage = (targets.returns - targets.values[:-1]) / scale
        for t in range(HORIZON):
            advantage[t] -= (weights[t] * advantage[t]).sum() / weights[t].sum()
        chosen = (log_probs * numpy_model.one_hot(dreams.actions, 3)).sum(axis=-1)
        entropy = -(np.exp(log_probs) * log_probs).sum(axis=-1)
        return -weights * (chosen * advantage + float(NUMBERS.entropy) * entropy)

    def replay_critic_loss(self, posterior: States, targets: Targets) -> Array:
        """[T-1, B] of lambda returns over real rewards, bootstrapped from each dream's return, else from the critic."""
        batch, bootstrap = self.batch, self.prediction(self.critic, posterior.features)
        for start, imagined in zip(self.starts(), targets.returns[0], strict=True):
            bootstrap[start] = imagined
        returns = np.zeros((LENGTH - 1, SEQUENCES))
        for b in range(SEQUENCES):
            following = bootstrap[-1, b]
            for t in reversed(range(LENGTH - 1)):
                if batch.is_terminal[t + 1, b]:
                    ahead = 0.0
                elif batch.is_last[t + 1, b]:
                    ahead = bootstrap[t + 1, b]
                else:
                    ahead = (1.0 - self.lambda_) * bootstrap[t + 1, b] + self.lambda_ * following
                following = returns[t, b] = float(batch.reward[t + 1, b]) + self.gamma * ahead
        return ~batch.is_last[:-1] * self.critic_loss(posterior.features[:-1], returns)


class Expected(NamedTuple):
    """The reference's parts, and what is compared."""

    losses: dict[str, Array]  # of each step
    averages: list[float]
    scale: float
    weights: Array  # [H, N]


@pytest.fixture(scope="module")
def expected() -> Expected:
    reference = Reference(STATE, BATCH, NOISE)
    posterior, logits = reference.posterior()
    dreams = reference.dreams(posterior)
    targets = reference.targets(dreams)
    averages, scale = reference.return_scale(targets.returns)
    losses = reference.world_model(posterior, logits) | {
        "actor": reference.actor_loss(dreams, targets, scale),
        "critic": targets.weights * reference.critic_loss(dreams.features[:-1], targets.returns),
        "replay_critic": reference.replay_critic_loss(posterior, targets),
    }
    return Expected(losses, averages, scale, targets.weights)


def test_all_losses_of_an_update_are_composed_of_their_formulas(expected: Expected) -> None:
    losses, return_scale = actual_losses(STATE, BATCH, NOISE)
    assert losses.keys() == expected.losses.keys() == NUMBERS.scales.keys()
    for name, steps in expected.losses.items():
        np.testing.assert_allclose(losses[name], steps.mean(), rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(return_scale, expected.averages, rtol=1e-5)


def test_the_example_meets_every_case(expected: Expected) -> None:
    """Ends of both kinds, first steps, states without a dream, KL on either side of the free nats, a scale above 1."""
    assert BATCH.is_terminal[1:].any()
    assert (BATCH.is_last & ~BATCH.is_terminal)[1:].any()
    assert BATCH.is_first.any()
    assert (~BATCH.is_first[0]).any()
    assert STARTS < LENGTH
    kl, free_nats = expected.losses["dynamics"], float(NUMBERS.free_nats)
    assert (kl == free_nats).any()
    assert (kl > free_nats).any()
    assert expected.scale > 1.2
    assert (expected.weights[0] == 0).any()
