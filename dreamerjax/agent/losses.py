"""Every loss of an update, and all of them together: `all_losses` reads world model, then imagination, then replay critic."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from dreamerjax.agent import action_distribution
from dreamerjax.agent.actor_critic import (
    Critics,
    DreamTargets,
    advantages,
    dream_targets,
    normalized_scale,
    value,
)
from dreamerjax.agent.imagination import Dream, DreamNoise, imagine
from dreamerjax.agent.observation_normalization import model_units
from dreamerjax.agent.state import Batch, Hyper, Metrics, Noise, Params, Trains, TrainState, UpdateOptions
from dreamerjax.agent.world_model import (
    FilterInputs,
    Latent,
    Posterior,
    assert_features,
    encode_action,
    ensemble_logits,
    feature,
    initial_latent,
    observe,
    undiscounted,
)
from dreamerjax.core.types import ObservationSpec
from dreamerjax.networks.build import Networks
from dreamerjax.networks.layers import apply
from dreamerjax.ops import distributions, normalization, returns, scalars

stop = jax.lax.stop_gradient


class UpdateInputs(NamedTuple):
    """What the losses of one update are computed from, next to the parameters that are trained."""

    state: TrainState  # slow critic, return scale and observation statistics; its own parameters are not used
    batch: Batch
    noise: Noise


class Losses(NamedTuple):
    """What `all_losses` finds."""

    parts: dict[str, jax.Array]  # each loss as a scalar mean
    metrics: Metrics
    posterior: Posterior  # [T, B, ...]
    return_scale: normalization.ReturnScaleState


class Anchor(NamedTuple):
    """A policy that the actor is to stay near in dreams, and how much that weighs."""

    params: Params
    weight: jax.Array


class CriticTargets(NamedTuple):
    """What the critic is to say of states of any shape [...]."""

    returns: jax.Array
    slow_values: jax.Array  # the slow critic's
    weights: jax.Array


def all_losses(
    networks: Networks,
    options: UpdateOptions,
    hyper: Hyper,
    params: dict[str, Params],
    inputs: UpdateInputs,
    *,
    axis_name: str | None = None,
) -> Losses:
    """World model, then imagination, then replay critic.

    The losses of the world model are always there, since surprise is measured by them; those of dreams only if the actor
    and critic are trained.
    """
    state, batch, noise = inputs
    chex.assert_shape(noise.posterior, (*batch.reward.shape, networks.rssm.groups), custom_message="noise [T, B, S]")
    chex.assert_equal_shape_prefix([noise.action, noise.latent], 3, custom_message="noise [H, n, B, ...]")
    chex.assert_axis_dimension(noise.starts, 1, batch.reward.shape[1], custom_message="starts [n, B]")
    batch = batch._replace(observations=model_units(networks.spec.observations, state.statistics, batch.observations))
    posterior = observe(networks, params["world_model"], *_sequences(networks, options, batch), noise.posterior)
    parts, metrics = world_model_loss(
        networks, params["world_model"], posterior, batch,
        gamma=hyper.gamma, free_nats=hyper.free_nats, straight_through=options.straight_through,
    )  # fmt: skip
    metrics["batch/terminal_rate"] = jnp.mean(batch.is_terminal.astype(jnp.float32))
    return_scale = state.return_scale
    if options.trains is not Trains.model:
        critics = Critics(params["critic"], state.slow_critic)
        start, start_continue, uniform = _dream_starts(options, batch, posterior, noise)
        dream = imagine(networks, params, start, uniform)
        targets = dream_targets(
            networks, params["world_model"], critics, dream, start_continue, lambda_=hyper.lambda_, pessimism=hyper.pessimism
        )
        return_scale = normalization.return_scale_update(
            return_scale, targets.returns, rate=hyper.return_norm_rate, axis_name=axis_name
        )
        scale = normalized_scale(return_scale, options.return_norm)
        advantage = advantages(targets, scale, centered=options.center_advantages, axis_name=axis_name)
        entropy_weight = hyper.entropy * (1.0 if networks.spec.action.is_discrete else hyper.continuous_entropy)
        parts["actor"], actor_metrics = actor_loss(
            networks, params["actor"], dream, targets.weights, advantage, entropy_coefficient=entropy_weight,
            anchor=Anchor(state.average["actor"], hyper.anchor) if options.anchor else None,
        )  # fmt: skip
        parts["critic"] = dream_critic_loss(networks, params["critic"], dream, targets, hyper.slow_regularizer)
        parts["replay_critic"], replay_metrics = _replay_critic(networks, options, hyper, critics, (inputs, posterior, targets))
        metrics |= actor_metrics | replay_metrics | _dream_metrics(networks, hyper, targets, return_scale, scale)
    return Losses({name: jnp.mean(part) for name, part in parts.items()}, metrics, posterior, return_scale)


def world_model_loss(
    networks: Networks,
    params: Params,
    posterior: Posterior,
    batch: Batch,
    *,
    gamma: jax.Array,
    free_nats: jax.Array,
    straight_through: bool,
) -> tuple[dict[str, jax.Array], Metrics]:
    """Losses per step [T, B] (DreamerV3, eq. 2-3) and scalar metrics; the batch's observations are in the model's units.

    The continue target carries the discount: (1 - is_terminal) * gamma.
    """
    chex.assert_rank([posterior.logits, batch.reward, batch.is_terminal, gamma], [4, 2, 2, 0])
    chex.assert_equal_shape_prefix([posterior.logits, batch.reward, batch.is_terminal], 2, custom_message="T, B")

    def of_members(loss: Callable[..., jax.Array], outputs: jax.Array, *rest: Any) -> jax.Array:
        return jnp.mean(jnp.stack([loss(output, *rest) for output in outputs]), axis=0)

    inputs = feature(posterior.latent)
    decoded = apply(networks.decoder, params["decoder"], inputs)
    reward_logits, continue_logits = ensemble_logits(networks, params, inputs)
    prior_logits = apply(networks.rssm, params["rssm"], posterior.latent.deter, method="prior")

    specs, seen = networks.spec.observations, batch.observations
    per_key = {name: decoder_loss(spec, decoded[name], seen[name]) for name, spec in specs.items()}
    continue_target = (1.0 - batch.is_terminal.astype(jnp.float32)) * gamma
    dynamics = distributions.latent_kl(stop(posterior.logits), prior_logits)
    representation = distributions.latent_kl(posterior.logits, stop(prior_logits))
    losses = {
        "decoder": sum(per_key.values(), start=jnp.zeros_like(batch.reward)),
        "reward": of_members(scalars.two_hot_loss, reward_logits, batch.reward, networks.bins),
        "continue_": of_members(bernoulli_loss, continue_logits, continue_target),
        "dynamics": distributions.free_bits(dynamics, free_nats, straight_through),
        "representation": distributions.free_bits(representation, free_nats, straight_through),
    }
    posterior_entropy = jnp.mean(jnp.sum(distributions.categorical_entropy(posterior.logits), axis=-1))
    groups, classes = posterior.logits.shape[-2:]
    metrics = {f"model/decoder/{name}": jnp.mean(loss) for name, loss in per_key.items()}
    metrics |= {
        "model/kl": jnp.mean(dynamics),
        "model/prior_entropy": jnp.mean(jnp.sum(distributions.categorical_entropy(prior_logits), axis=-1)),
        "model/posterior_entropy": posterior_entropy,
        "model/posterior_randomness": posterior_entropy / (groups * math.log(classes)),
        "model/reward_prediction": jnp.mean(scalars.two_hot_mean(stop(reward_logits), networks.bins)),
    }
    return losses, metrics


def decoder_loss(spec: ObservationSpec, prediction: jax.Array, target: jax.Array) -> jax.Array:
    """[...]: squared error of a vector, both in the model's units, or of an image on [0, 1], or cross-entropy of discrete
    components; summed over the observation's numbers."""
    expected = (*target.shape[:-1], spec.encoded_size) if spec.is_discrete else target.shape
    chex.assert_shape(prediction, expected, custom_message="a prediction of the target")
    chex.assert_axis_dimension(target, -1, spec.shape[-1], custom_message="a target of the observation's shape")
    if spec.is_image:
        return jnp.sum(jnp.square(prediction - target.astype(jnp.float32) / 255.0), axis=(-3, -2, -1))
    if spec.is_vector:
        return jnp.sum(jnp.square(prediction - target), axis=-1)
    parts = jnp.split(prediction, list(accumulate(spec.classes[:-1])), axis=-1)
    losses = [-distributions.categorical_log_prob(part, target[..., i]) for i, part in enumerate(parts)]
    return jnp.sum(jnp.stack(losses, axis=-1), axis=-1)


def bernoulli_loss(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Cross-entropy of a Bernoulli with the given logits to a target probability, elementwise."""
    chex.assert_equal_shape([logits, target], custom_message="logits, target")
    return jax.nn.softplus(logits) - target * logits


def actor_loss(
    networks: Networks,
    params: Params,
    dream: Dream,
    weights: jax.Array,
    advantage: jax.Array,
    *,
    entropy_coefficient: jax.Array,
    anchor: Anchor | None = None,
) -> tuple[jax.Array, Metrics]:
    """Score-function loss per imagined step [H, N], weighted (eq. 6): -(log pi(a) advantage + eta H[pi]).

    With an anchor plus its weight times KL(pi || anchor). The averaged policy, that of the newest quarter of all updates,
    stands for what filled the replay: near it the world model knows what it dreams of.
    """
    chex.assert_rank([dream.actions, weights, advantage, entropy_coefficient], [3, 2, 2, 0])
    _assert_steps(dream, [weights, advantage])

    def of_steps(inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
        features, actions = inputs
        outputs = apply(networks.actor, params, features)
        log_prob, entropy = action_distribution.log_prob_and_entropy(networks, outputs, actions)
        if anchor is None:
            return log_prob, entropy, jnp.zeros_like(entropy)
        others = apply(networks.actor, stop(anchor.params), features)
        return log_prob, entropy, action_distribution.kl(networks, outputs, others)

    log_prob, entropy, away = networks.loops.differentiable_heads(of_steps, (dream.features[:-1], dream.actions))
    loss = -weights * (log_prob * stop(advantage) + entropy_coefficient * entropy)
    if anchor is not None:
        loss += weights * anchor.weight * away
    lowest, highest = action_distribution.entropy_bounds(networks)
    metrics = {
        "actor/entropy": jnp.mean(entropy),
        "actor/randomness": (jnp.mean(entropy) - lowest) / (highest - lowest),
        "actor/advantage_magnitude": jnp.mean(jnp.abs(advantage)),
    }
    if anchor is not None:
        metrics["actor/anchor_kl"] = jnp.mean(away)
    return loss, metrics


def critic_loss(
    networks: Networks, params: Params, features: jax.Array, targets: CriticTargets, slow_regularizer: jax.Array
) -> jax.Array:
    """Two-hot cross-entropy to the returns, plus `slow_regularizer` times that to the slow critic's value, weighted (eq. 5).

    Features [..., F] and targets [...] -> [...]. One log-softmax serves both.
    """
    assert_features(networks, features)
    chex.assert_shape(list(targets), features.shape[:-1], custom_message="targets [...] of features [..., F]")
    chex.assert_rank(slow_regularizer, 0, custom_message="slow_regularizer is one number")
    log_probs = jax.nn.log_softmax(apply(networks.critic, params, features))
    fit = scalars.two_hot_loss_from_log_probs(log_probs, targets.returns, networks.bins)
    hold = scalars.two_hot_loss_from_log_probs(log_probs, targets.slow_values, networks.bins)
    return targets.weights * (fit + slow_regularizer * hold)


def dream_critic_loss(
    networks: Networks, params: Params, dream: Dream, targets: DreamTargets, slow_regularizer: jax.Array
) -> jax.Array:
    """The critic's loss on every imagined step [H, N].

    On a CPU step by step and recomputed in the backward pass: cheaper than writing H x N x V log-probabilities to memory.
    """
    _assert_steps(dream, [targets.returns, targets.weights])

    def of_steps(inputs: tuple[jax.Array, CriticTargets]) -> jax.Array:
        return critic_loss(networks, params, *inputs, slow_regularizer)

    wanted = CriticTargets(targets.returns, targets.slow_values[:-1], targets.weights)
    return networks.loops.differentiable_heads(of_steps, (dream.features[:-1], wanted))


def replay_critic_loss(
    networks: Networks,
    critics: Critics,
    features: jax.Array,
    batch: Batch,
    bootstrap: jax.Array,
    *,
    gamma: jax.Array,
    lambda_: jax.Array,
    slow_regularizer: jax.Array,
) -> jax.Array:
    """Critic loss on real sequences [T-1, B]: lambda returns over real rewards, bootstrapped from `bootstrap` [T, B].

    Gradients reach the features [T, B, F] too.
    """
    chex.assert_rank([features, bootstrap], [3, 2])
    chex.assert_equal_shape_prefix([features, bootstrap, batch.reward], 2, custom_message="T, B")
    targets = CriticTargets(
        returns=stop(
            returns.replay_lambda_returns(
                batch.reward,
                batch.is_last,
                batch.is_terminal,
                stop(bootstrap),
                discount=gamma,
                lam=lambda_,
                unroll=networks.loops.unroll,
            )
        ),
        slow_values=value(networks, critics.slow, features[:-1]),
        weights=1.0 - batch.is_last[:-1].astype(jnp.float32),
    )
    return critic_loss(networks, critics.fast, features[:-1], targets, slow_regularizer)


def _assert_steps(dream: Dream, numbers: list[jax.Array]) -> None:
    """That a dream takes H steps from N starts, and that there is one of each number [H, N] for each of them."""
    steps, dreams = dream.actions.shape[:2]
    chex.assert_shape(dream.features, (steps + 1, dreams, None), custom_message="features [H+1, N, F], actions [H, N, C]")
    chex.assert_shape(numbers, (steps, dreams), custom_message="one number for each imagined step [H, N]")


def _sequences(networks: Networks, options: UpdateOptions, batch: Batch) -> tuple[FilterInputs, Latent]:
    """What the filter reads [T, B, ...], and the latent before the batch's sequences.

    Without replay context a sequence starts as an episode does: from zeros, with no action before it.
    """
    previous = jnp.concatenate([batch.context_action[None], batch.action[:-1]], axis=0)
    if options.context:
        start = Latent(batch.context_deter, jax.nn.one_hot(batch.context_stoch, networks.rssm.classes))
        is_first = batch.is_first
    else:
        start = initial_latent(networks, batch.reward.shape[1])
        is_first = jnp.asarray(batch.is_first).at[0].set(True)
    return FilterInputs(batch.observations, encode_action(networks, previous), is_first), start


def _at_starts(noise: Noise) -> tuple[jax.Array, jax.Array]:
    """Index of an array [T, B, ...] that picks its imagination starts: [n, B, ...]."""
    return noise.starts, jnp.arange(noise.starts.shape[1])[None, :]


def _dream_starts(
    options: UpdateOptions, batch: Batch, posterior: Posterior, noise: Noise
) -> tuple[Latent, jax.Array, DreamNoise]:
    """The N = n * B states that dreams begin at, whether each goes on (0 at a terminal state), and what draws the dreams."""
    at_starts = _at_starts(noise)
    start = stop(jax.tree.map(lambda x: x[at_starts].reshape(-1, *x.shape[2:]), posterior.latent))
    start_continue = 1.0 - batch.is_terminal[at_starts].astype(jnp.float32).reshape(-1)
    flat = (options.horizon, start.deter.shape[0], -1)
    return start, start_continue, DreamNoise(noise.action.reshape(flat), noise.latent.reshape(flat))


def _replay_critic(
    networks: Networks,
    options: UpdateOptions,
    hyper: Hyper,
    critics: Critics,
    seen: tuple[UpdateInputs, Posterior, DreamTargets],
) -> tuple[jax.Array, Metrics]:
    """Critic on real sequences, bootstrapped from imagined returns where there is a dream, else from the critic's value."""
    (_, batch, noise), posterior, targets = seen
    inputs = feature(posterior.latent)
    if not options.replay_critic_gradient:
        inputs = stop(inputs)
    values = value(networks, critics.fast, inputs)
    imagined = targets.returns[0].reshape(noise.starts.shape)
    loss = replay_critic_loss(
        networks, critics, inputs, batch, values.at[_at_starts(noise)].set(imagined),
        gamma=hyper.gamma, lambda_=hyper.lambda_, slow_regularizer=hyper.slow_regularizer,
    )  # fmt: skip
    return loss, {"critic/replay_value": jnp.mean(values)}


def _dream_metrics(
    networks: Networks, hyper: Hyper, targets: DreamTargets, return_scale: normalization.ReturnScaleState, scale: jax.Array
) -> Metrics:
    """Of dreams that did not start at an end."""
    alive = targets.weights[0]
    # Three steps tell a continue head that has crashed (findings_of_the_log.md#01-15a).
    first = undiscounted(targets.continues[:3], hyper.gamma)
    survival = jnp.sum(alive * jnp.prod(first, axis=0)) / jnp.maximum(jnp.sum(alive), 1.0)
    limit = 0.98 * networks.bins.largest
    ensemble = {"dream/disagreement": jnp.mean(targets.doubt)} if networks.ensemble > 1 else {}
    return ensemble | {
        "dream/return_mean": jnp.mean(targets.returns),
        "dream/value_mean": jnp.mean(targets.values),
        "dream/weight_last": jnp.mean(targets.weights[-1]),
        "dream/return_scale": scale,
        "dream/return_spread": normalization.return_spread(return_scale),
        "dream/critic_lag": jnp.mean(advantages(targets, scale, centered=False)),
        "dream/continue_3": survival,
        "critic/limit_share": jnp.mean((targets.values >= limit).astype(jnp.float32)),
    }
