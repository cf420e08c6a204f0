"""All losses of one update: world model, then imagination, then replay critic; and the randomness that they consume."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp

from dreamerjax import actor_critic, policy
from dreamerjax.imagination import imagine
from dreamerjax.networks.build import Networks
from dreamerjax.ops import normalize
from dreamerjax.pytrees import Batch, Hyper, Metrics, Noise, Params, Settings, Trains, TrainState
from dreamerjax.world_model import Latent, Posterior, encode_action, feature, initial_latent, observe, world_model_loss


def draw_noise(networks: Networks, keys: jax.Array, length: int, settings: Settings) -> Noise:
    """All uniforms of one update, sequence by sequence: keys [B]. One draw each, then cut up: it compiles faster."""
    count = settings.starts_per_sequence or length
    batch = keys.shape[0]
    horizon = 0 if settings.trains is Trains.model else settings.horizon
    shapes = {
        "posterior": (length, networks.rssm.groups),
        "starts": (length,),
        "action": (horizon, count, math.prod(policy.noise_shape(networks))),
        "latent": (horizon, count, networks.rssm.groups),
    }
    ends = list(itertools.accumulate(math.prod(shape) for shape in shapes.values()))
    uniform = jax.vmap(lambda key: jax.random.uniform(key, (ends[-1],)))(keys)
    parts = dict(zip(shapes, jnp.split(uniform, ends[:-1], axis=1), strict=True))
    parts = {name: parts[name].reshape(batch, *shape) for name, shape in shapes.items()}
    starts = jnp.broadcast_to(jnp.arange(length), (batch, length))
    if count < length:
        starts = jnp.sort(jnp.argsort(parts["starts"], axis=1)[:, :count], axis=1)
    return Noise(
        posterior=jnp.moveaxis(parts["posterior"], 0, 1),
        starts=starts.swapaxes(0, 1),
        action=jnp.moveaxis(parts["action"], 0, 2),
        latent=jnp.moveaxis(parts["latent"], 0, 2),
    )


def _at_starts(noise: Noise) -> tuple[jax.Array, jax.Array]:
    """Index of an array [T, B, ...] that picks its imagination starts: [n, B, ...]."""
    return noise.starts, jnp.arange(noise.starts.shape[1])[None, :]


def losses(
    networks: Networks,
    settings: Settings,
    hyper: Hyper,
    params: dict[str, Params],
    state: TrainState,
    batch: Batch,
    noise: Noise,
    axis_name: str | None,
) -> tuple[dict[str, jax.Array], tuple[Metrics, Posterior, normalize.ReturnScaleState]]:
    """World model, then imagination, then replay critic: every loss as a scalar mean, plus what the update keeps.

    The losses of the world model are always there, since surprise is measured by them; those of dreams only if the actor
    and critic are trained.
    """
    model = params["world_model"]
    previous_action, is_first, first_latent = _sequence_start(networks, settings, batch)
    posterior = observe(networks, model, batch.observations, previous_action, is_first, first_latent, noise.posterior)
    result, model_metrics = world_model_loss(
        networks, model, posterior, batch.observations, batch.reward, batch.is_terminal,
        gamma=hyper.gamma, free_nats=hyper.free_nats, straight_through=settings.straight_through,
    )  # fmt: skip
    metrics = {f"model/{name}": value for name, value in model_metrics.items()}
    metrics["batch/terminal_rate"] = jnp.mean(batch.is_terminal.astype(jnp.float32))
    return_scale = state.return_scale
    if settings.trains is not Trains.model:
        behavior, behavior_metrics, return_scale = _behavior(
            networks, settings, hyper, params, state, batch, noise, posterior, axis_name
        )
        result |= behavior
        metrics |= behavior_metrics
    return {name: jnp.mean(value) for name, value in result.items()}, (metrics, posterior, return_scale)


def _behavior(
    networks: Networks,
    settings: Settings,
    hyper: Hyper,
    params: dict[str, Params],
    state: TrainState,
    batch: Batch,
    noise: Noise,
    posterior: Posterior,
    axis_name: str | None,
) -> tuple[dict[str, jax.Array], Metrics, normalize.ReturnScaleState]:
    """Dreams from the posterior states: losses of actor and critic, metrics, and the new return scale."""
    model = params["world_model"]
    at_starts = _at_starts(noise)
    start = jax.lax.stop_gradient(jax.tree.map(lambda x: x[at_starts].reshape(-1, *x.shape[2:]), posterior.latent))
    flat = (settings.horizon, start.deter.shape[0], -1)
    dream = imagine(networks, model, params["actor"], start, noise.action.reshape(flat), noise.latent.reshape(flat))
    start_continue = 1.0 - batch.is_terminal[at_starts].astype(jnp.float32).reshape(-1)
    targets = actor_critic.dream_targets(
        networks, model, params["critic"], state.slow_critic, dream, start_continue, lambda_=hyper.lambda_
    )
    return_scale = normalize.return_scale_update(
        state.return_scale, targets.returns, rate=hyper.return_norm_rate, axis_name=axis_name
    )
    scale = actor_critic.normalized_scale(return_scale, settings.return_norm)
    advantage = actor_critic.advantages(targets, scale, centered=settings.center_advantages, axis_name=axis_name)
    actor_loss, actor_metrics = actor_critic.actor_loss(
        networks, params["actor"], dream, targets.weights, advantage, hyper.entropy
    )
    critic_loss = actor_critic.dream_critic_loss(networks, params["critic"], dream, targets, hyper.slow_regularizer)
    replay_loss, replay_metrics = _replay_critic(networks, settings, hyper, params, state, batch, posterior, noise, targets)
    metrics = {f"actor/{name}": value for name, value in actor_metrics.items()}
    metrics |= replay_metrics | _dream_metrics(networks, hyper, targets, scale)
    return {"actor": actor_loss, "critic": critic_loss, "replay_critic": replay_loss}, metrics, return_scale


def _sequence_start(networks: Networks, settings: Settings, batch: Batch) -> tuple[jax.Array, jax.Array, Latent]:
    """Previous encoded actions [T, B, A], is_first [T, B] and the latent before the batch's sequences.

    Without replay context a sequence starts as an episode does: from zeros, with no action before it.
    """
    previous = jnp.concatenate([batch.context_action[None], batch.action[:-1]], axis=0)
    if settings.context:
        start = Latent(batch.context_deter, jax.nn.one_hot(batch.context_stoch, networks.rssm.classes))
        is_first = batch.is_first
    else:
        start = initial_latent(networks, batch.reward.shape[1])
        is_first = jnp.asarray(batch.is_first).at[0].set(True)
    return encode_action(networks, previous), is_first, start


def _replay_critic(
    networks: Networks,
    settings: Settings,
    hyper: Hyper,
    params: dict[str, Params],
    state: TrainState,
    batch: Batch,
    posterior: Posterior,
    noise: Noise,
    targets: actor_critic.DreamTargets,
) -> tuple[jax.Array, Metrics]:
    """Critic on real sequences, bootstrapped from imagined returns where there is a dream, else from the critic's value."""
    inputs = feature(posterior.latent)
    if not settings.replay_critic_gradient:
        inputs = jax.lax.stop_gradient(inputs)
    values = actor_critic.value(networks, params["critic"], inputs)
    imagined = targets.returns[0].reshape(noise.starts.shape)
    loss = actor_critic.replay_critic_loss(
        networks, params["critic"], state.slow_critic, inputs, batch.reward, batch.is_last, batch.is_terminal,
        values.at[_at_starts(noise)].set(imagined),
        gamma=hyper.gamma, lambda_=hyper.lambda_, slow_regularizer=hyper.slow_regularizer,
    )  # fmt: skip
    return loss, {"critic/replay_value": jnp.mean(values)}


def _dream_metrics(networks: Networks, hyper: Hyper, targets: actor_critic.DreamTargets, scale: jax.Array) -> Metrics:
    """Of dreams that did not start at an end."""
    alive = targets.weights[0]
    first = targets.continues[:3] / hyper.gamma  # three steps tell a crashed continue head (findings_of_the_log.md#01-15a)
    survival = jnp.sum(alive * jnp.prod(jnp.minimum(first, 1.0), axis=0)) / jnp.maximum(jnp.sum(alive), 1.0)
    limit = 0.98 * networks.bins.largest
    return {
        "dream/return_mean": jnp.mean(targets.returns),
        "dream/value_mean": jnp.mean(targets.values),
        "dream/weight_last": jnp.mean(targets.weights[-1]),
        "dream/return_scale": scale,
        "dream/critic_lag": jnp.mean(actor_critic.advantages(targets, scale, centered=False)),
        "dream/continue_3": survival,
        "critic/limit_share": jnp.mean((targets.values >= limit).astype(jnp.float32)),
    }
