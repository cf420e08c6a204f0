"""Every public function of the agent refuses arrays that do not fit together, by chex and before anything is computed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from dreamerjax.agent import (
    action_distribution,
    actor_critic,
    imagination,
    learner,
    losses,
    observation_normalization,
    policy,
    update,
    world_model,
)
from dreamerjax.agent.actor_critic import Critics, DreamTargets
from dreamerjax.agent.imagination import Dream, DreamNoise
from dreamerjax.agent.losses import CriticTargets, UpdateInputs
from dreamerjax.agent.policy import Seen, initial_policy_state
from dreamerjax.agent.state import Batch, Noise, acting_params
from dreamerjax.agent.world_model import FilterInputs, Latent, Posterior, ProjectedInputs
from tests.helpers import (
    CONTINUOUS,
    HORIZON,
    IMAGE,
    LENGTH,
    MIXED,
    SEQUENCES,
    VECTOR,
    fresh,
    hyper,
    make_networks,
    random_batch,
    random_state,
    settings,
    stacked,
)
from tests.ops.references import with_and_without_jit

NETWORKS, NORMAL = make_networks(VECTOR), make_networks(CONTINUOUS)
RSSM = NETWORKS.rssm
D, S, K, HIDDEN, F = RSSM.deter, RSSM.groups, RSSM.classes, RSSM.hidden, RSSM.deter + RSSM.groups * RSSM.classes
H, N, T, B = HORIZON, 5, LENGTH, SEQUENCES
STATE = random_state(NETWORKS)
MODEL = STATE.params["world_model"]
STATISTICS = observation_normalization.initial_statistics(VECTOR.observations)
BATCH = jax.tree.map(jnp.asarray, random_batch(NETWORKS))
ONE: Any = np.float32(1.0)


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


def integers(*shape: int) -> Any:
    return np.zeros(shape, np.int32)


def booleans(*shape: int) -> Any:
    return np.zeros(shape, bool)


def latent(*lead: int) -> Latent:
    return Latent(zeros(*lead, D), zeros(*lead, S, K))


def seen(*lead: int, size: int = 3) -> dict[str, Any]:
    return {"state": zeros(*lead, size)}


DREAM = Dream(zeros(H + 1, N, F), integers(H, N, 1))
TARGETS = DreamTargets(zeros(H, N), zeros(H + 1, N), zeros(H + 1, N), zeros(H, N), zeros(H, N), zeros(H, N))
SMALL = CriticTargets(zeros(N), zeros(N), zeros(N))
NOISE = Noise(zeros(T, B, S), integers(T, B), zeros(H, T, B, 1), zeros(H, T, B, S))
FILTERED = Posterior(latent(T, B), zeros(T, B, S, K))
READ = FilterInputs(seen(T, B), zeros(T, B, 3), booleans(T, B))
NOW = ProjectedInputs(zeros(B, D), zeros(B, HIDDEN), booleans(B))

of = {name: partial(getattr(action_distribution, name), NETWORKS) for name in ("sample", "mode", "log_prob_and_entropy", "kl")}
normal_mode = partial(action_distribution.mode, NORMAL)
value = partial(actor_critic.value, NETWORKS, STATE.params["critic"])
centered = partial(actor_critic.advantages, centered=True)
imagine = partial(imagination.imagine, NETWORKS, STATE.params)
decoded = {
    "vectors": partial(imagination.decoded_vectors, NETWORKS, STATE.newest),
    "images": partial(imagination.decoded_images, NETWORKS, STATE.newest),
}
posterior_step = partial(world_model.posterior_step, NETWORKS, MODEL)
prior_step = partial(world_model.prior_step, NETWORKS, MODEL)
observe = partial(world_model.observe, NETWORKS, MODEL)
project_inputs = partial(world_model.project_inputs, NETWORKS, MODEL)
reward_and_continue = partial(world_model.reward_and_continue, NETWORKS, MODEL)
ensemble_logits = partial(world_model.ensemble_logits, NETWORKS, MODEL)
ensemble_predictions = partial(world_model.ensemble_predictions, NETWORKS, MODEL)
class_indices = partial(world_model.class_indices, NETWORKS)
encode_action = partial(world_model.encode_action, NETWORKS)
critic_loss = partial(losses.critic_loss, NETWORKS, STATE.params["critic"])
dream_critic_loss = partial(losses.dream_critic_loss, NETWORKS, STATE.params["critic"])
decoder_loss = {
    "vector": partial(losses.decoder_loss, VECTOR.observations["state"]),
    "discrete": partial(losses.decoder_loss, MIXED.observations["parts"]),
    "image": partial(losses.decoder_loss, IMAGE.observations["image"]),
}
model_units = {
    "alone": partial(observation_normalization.model_units, VECTOR.observations, {}),
    "counted": partial(observation_normalization.model_units, VECTOR.observations, STATISTICS),
}
own_units = partial(observation_normalization.own_units, STATISTICS, "state")
count_batch = partial(observation_normalization.count_batch, STATISTICS)
normalized_scale = partial(actor_critic.normalized_scale, enabled=True)
draw_noise = partial(update.draw_noise, NETWORKS, settings(), length=T)


def dream_targets(dream: Dream, start_continue: Any, lambda_: Any) -> Any:
    critics = Critics(STATE.params["critic"], STATE.slow_critic)
    return actor_critic.dream_targets(NETWORKS, MODEL, critics, dream, start_continue, lambda_=lambda_)


def world_model_loss(posterior: Posterior, reward: Any, gamma: Any) -> Any:
    batch = BATCH._replace(reward=reward)
    numbers = {"gamma": gamma, "free_nats": ONE}
    return losses.world_model_loss(NETWORKS, MODEL, posterior, batch, **numbers, straight_through=False)


def actor_loss(dream: Dream, weights: Any, advantage: Any, entropy: Any) -> Any:
    return losses.actor_loss(NETWORKS, STATE.params["actor"], dream, weights, advantage, entropy_coefficient=entropy)


def replay_critic_loss(features: Any, reward: Any, bootstrap: Any) -> Any:
    batch: Any = SimpleNamespace(reward=reward, is_last=BATCH.is_last, is_terminal=BATCH.is_terminal)
    critics = Critics(STATE.params["critic"], STATE.slow_critic)
    numbers = {"gamma": ONE, "lambda_": ONE, "slow_regularizer": ONE}
    return losses.replay_critic_loss(NETWORKS, critics, features, batch, bootstrap, **numbers)


def all_losses(**changes: Any) -> Any:
    inputs = UpdateInputs(STATE, BATCH, NOISE._replace(**changes))
    return losses.all_losses(NETWORKS, settings(), hyper(), STATE.params, inputs)


def act(state: Any, seen: Seen) -> Any:
    return policy.act(NETWORKS, acting_params(STATE.newest), state, seen, jax.random.key(0), greedy=True)


def train_step(**changes: Any) -> Any:
    return update.train_step(NETWORKS, settings(), hyper(), fresh(STATE), BATCH._replace(**changes))


def updates(batches: Batch) -> Any:
    return learner.updates(NETWORKS, settings(), hyper(), fresh(STATE), batches)


def weighted_sum(loss: Any) -> Any:
    return update.weighted_sum({"reward": loss}, {"reward": ONE}, settings().trains)


def apply_gradients(gradient: Any) -> Any:
    gradients = {"actor": jax.tree.map(lambda _: gradient, STATE.params["actor"])}
    return update.apply_gradients(hyper(), STATE, gradients)


def named(function: Callable[..., Any], name: str) -> Callable[[Any], Any]:
    """Of one argument alone, which is passed by its name."""
    return lambda array: function(**{name: array})


# name, function, arrays that do not fit, what the message says
REFUSED: list[tuple[str, Callable[..., Any], tuple[Any, ...], str]] = [
    ("sample_outputs", of["sample"], (zeros(N, 4), zeros(N, 1)), "outputs"),
    ("sample_uniforms", of["sample"], (zeros(N, 3), zeros(N)), r"\[..., C\]"),
    ("mode_outputs", of["mode"], (zeros(N, 2),), "outputs"),
    ("mode_of_a_normal", normal_mode, (zeros(N, 2),), "outputs"),
    ("log_prob_outputs", of["log_prob_and_entropy"], (zeros(N, 4), integers(N, 1)), "outputs"),
    ("log_prob_actions", of["log_prob_and_entropy"], (zeros(N, 3), integers(1, 1)), r"\[..., C\]"),
    ("kl_of_other_policies", of["kl"], (zeros(N, 3), zeros(1, 3)), "outputs, others"),
    ("feature_ranks", world_model.feature, (Latent(zeros(N, D), zeros(N, S * K)),), "latent"),
    ("feature_leads", world_model.feature, (Latent(zeros(N, D), zeros(1, S, K)),), "latent"),
    ("class_indices", class_indices, (Latent(zeros(N, D), zeros(N, K, S)),), "latent"),
    ("sample_stoch", world_model.sample_stoch, (zeros(N, S, K), zeros(N)), "a uniform"),
    ("encode_action", encode_action, (integers(N, 2),), "action"),
    ("project_action", project_inputs, (READ._replace(previous_action=zeros(T, B, 4)),), "previous_action"),
    ("project_observations", project_inputs, (READ._replace(observations=seen(T, 1)),), "observations"),
    ("posterior_is_first", posterior_step, (latent(B), NOW._replace(is_first=booleans(B - 1)), zeros(B, S)), "latent"),
    ("posterior_latent", posterior_step, (Latent(zeros(B, D), zeros(B, K, S)), NOW, zeros(B, S)), "latent"),
    ("posterior_action", posterior_step, (latent(B), NOW._replace(action=zeros(1, D)), zeros(B, S)), "projected action"),
    ("posterior_embedding", posterior_step, (latent(B), NOW._replace(embedding=zeros(1, HIDDEN)), zeros(B, S)), "embedding"),
    ("posterior_uniform", posterior_step, (latent(B), NOW, zeros(B, K)), "uniform"),
    ("prior_one_latent", prior_step, (latent(), zeros(D), zeros(S)), "deter"),
    ("prior_latent", prior_step, (Latent(zeros(N, D), zeros(N, K, S)), zeros(N, D), zeros(N, S)), "latent"),
    ("prior_action", prior_step, (latent(N), zeros(1, D), zeros(N, S)), "projected action"),
    ("prior_uniform", prior_step, (latent(N), zeros(N, D), zeros(N, K)), "uniform"),
    ("observe_start", observe, (READ, latent(1), zeros(T, B, S)), "latent"),
    ("observe_uniform", observe, (READ, latent(B), zeros(B, T, S)), "shape"),
    ("reward_and_continue", reward_and_continue, (zeros(N, D),), "features"),
    ("ensemble_logits", ensemble_logits, (zeros(N, D),), "features"),
    ("ensemble_predictions", ensemble_predictions, (zeros(N, D),), "features"),
    ("undiscounted", world_model.undiscounted, (zeros(N), zeros(N)), "gamma"),
    ("imagine_starts", imagine, (latent(N), DreamNoise(zeros(H, 1, 1), zeros(H, 1, S))), "N starts"),
    ("imagine_noise", imagine, (latent(N), DreamNoise(zeros(H, N, 1), zeros(H + 1, N, S))), "noise"),
    ("decoded_vectors", decoded["vectors"], (zeros(N, D),), "features"),
    ("decoded_images", decoded["images"], (zeros(N, D),), "features"),
    ("value", value, (zeros(N, D),), "features"),
    ("dream_targets_starts", dream_targets, (DREAM, zeros(1), ONE), "start_continue"),
    ("dream_targets_lambdas", dream_targets, (DREAM, zeros(N), zeros(N)), "rank"),
    ("advantages_weights", centered, (TARGETS._replace(weights=zeros(H, 1)), ONE), "returns, weights"),
    ("advantages_values", centered, (TARGETS._replace(values=zeros(H, N)), ONE), "values"),
    ("advantages_scales", centered, (TARGETS, zeros(N)), "rank"),
    ("normalized_scale", normalized_scale, (STATE.return_scale._replace(low=zeros(1)),), "of the state"),
    ("world_model_loss_steps", world_model_loss, (FILTERED, zeros(B, T), ONE), "T, B"),
    ("world_model_loss_gammas", world_model_loss, (FILTERED, zeros(T, B), zeros(B)), "rank"),
    ("decoder_of_a_vector", decoder_loss["vector"], (zeros(N, 3), zeros(1, 3)), "a prediction"),
    ("decoder_of_another_vector", decoder_loss["vector"], (zeros(N, 2), zeros(N, 2)), "a target"),
    ("decoder_of_parts", decoder_loss["discrete"], (zeros(N, 2), integers(N, 2)), "a prediction"),
    ("decoder_of_an_image", decoder_loss["image"], (zeros(N, 16, 32, 1), integers(N, 16, 32, 3)), "a prediction"),
    ("bernoulli", losses.bernoulli_loss, (zeros(N), zeros(N, 1)), "logits, target"),
    ("actor_features", actor_loss, (DREAM._replace(features=zeros(H, N, F)), zeros(H, N), zeros(H, N), ONE), "features"),
    ("actor_weights", actor_loss, (DREAM, zeros(H, 1), zeros(H, N), ONE), "one number"),
    ("actor_entropies", actor_loss, (DREAM, zeros(H, N), zeros(H, N), zeros(N)), "rank"),
    ("critic_features", critic_loss, (zeros(N, D), SMALL, ONE), "features"),
    ("critic_targets", critic_loss, (zeros(N, F), SMALL._replace(weights=zeros(1)), ONE), "targets"),
    ("critic_regularizers", critic_loss, (zeros(N, F), SMALL, zeros(N)), "slow_regularizer"),
    ("dream_critic", dream_critic_loss, (DREAM, TARGETS._replace(returns=zeros(H + 1, N)), ONE), "one number"),
    ("replay_critic", replay_critic_loss, (zeros(T, B, F), zeros(T, B), zeros(B, T)), "T, B"),
    ("all_losses_noise", named(all_losses, "posterior"), (zeros(B, T, S),), "noise"),
    ("all_losses_dreams", named(all_losses, "latent"), (zeros(H, T, 1, S),), "noise"),
    ("all_losses_starts", named(all_losses, "starts"), (integers(T, 1),), "starts"),
    ("model_units", model_units["alone"], (seen(N, size=1),), "components"),
    ("model_units_counted", model_units["counted"], (seen(N, size=1),), "components"),
    ("own_units", own_units, (zeros(N, 1),), "components"),
    ("count_batch", count_batch, (seen(T, B, size=1),), "components"),
    ("act_states", act, (initial_policy_state(NETWORKS, 1), Seen(seen(N), booleans(N))), "N environments"),
    ("act_observations", act, (initial_policy_state(NETWORKS, N), Seen(seen(1), booleans(N))), "N environments"),
    ("train_step_actions", named(train_step, "action"), (integers(B, T, 1),), r"\[T, B, ...\]"),
    ("train_step_context", named(train_step, "context_deter"), (zeros(1, D),), "context"),
    ("weighted_sum", weighted_sum, (zeros(T, B),), "one number for each loss"),
    ("draw_noise", draw_noise, (jax.random.key(0),), "one typed key"),
    ("apply_gradients", apply_gradients, (zeros(1),), "gradients, parameters"),
    ("updates", updates, (BATCH,), "batches"),
]


class WrongShapesTest(chex.TestCase):
    """While tracing as well as without jit."""

    @with_and_without_jit
    @parameterized.named_parameters(*REFUSED)
    def test_what_does_not_fit_is_refused(self, function: Callable[..., Any], arrays: tuple[Any, ...], message: str) -> None:
        with pytest.raises(AssertionError, match=rf"(?s)\[Chex\].*{message}"):
            self.variant(function)(*arrays)


# function, arrays that fit: those from which the others are made
ACCEPTED: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (of["sample"], (zeros(N, 3), zeros(N, 1))),
    (posterior_step, (latent(B), NOW, zeros(B, S))),
    (prior_step, (latent(N), zeros(N, D), zeros(N, S))),
    (observe, (READ, latent(B), zeros(T, B, S))),
    (imagine, (latent(N), DreamNoise(zeros(H, N, 1), zeros(H, N, S)))),
    (dream_targets, (DREAM, zeros(N), ONE)),
    (centered, (TARGETS, ONE)),
    (world_model_loss, (FILTERED, zeros(T, B), ONE)),
    (actor_loss, (DREAM, zeros(H, N), zeros(H, N), ONE)),
    (critic_loss, (zeros(N, F), SMALL, ONE)),
    (dream_critic_loss, (DREAM, TARGETS, ONE)),
    (replay_critic_loss, (zeros(T, B, F), zeros(T, B), zeros(T, B))),
    (all_losses, ()),
    (train_step, ()),
    (act, (initial_policy_state(NETWORKS, N), Seen(seen(N), booleans(N)))),
    (updates, (stacked(BATCH),)),
]


def test_what_fits_is_not_refused() -> None:
    for function, arrays in ACCEPTED:
        jax.eval_shape(function, *arrays)


MODULES: list[ModuleType] = [
    action_distribution,
    actor_critic,
    imagination,
    losses,
    observation_normalization,
    update,
    world_model,
]


@pytest.mark.parametrize("module", MODULES)
def test_every_public_function_of_arrays_asserts_what_it_takes(module: ModuleType) -> None:
    without_arrays = {"noise_shape", "entropy_bounds", "initial_statistics", "initial_latent", "stoch_dtype"}
    delegating = {
        "mode": "_normal(networks, outputs)",
        "normalized_scale": "normalization.return_scale(state)",
        "decoded_dream": "imagine(networks, params, start, noise)",
    }
    for name, function in inspect.getmembers(module, inspect.isfunction):
        if function.__module__ != module.__name__ or name.startswith("_") or name in without_arrays:
            continue
        assert delegating.get(name, "assert_") in inspect.getsource(function), name


def test_assertions_leave_nothing_in_the_compiled_program() -> None:
    arrays = (latent(B), NOW, jnp.zeros((B, S)))
    program = str(jax.make_jaxpr(posterior_step)(*arrays))
    chex.disable_asserts()
    try:
        unchecked = str(jax.make_jaxpr(posterior_step)(*arrays))
    finally:
        chex.enable_asserts()
    assert program == unchecked
