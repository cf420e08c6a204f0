"""One update of the agent as a pure function: `train_step`. Composition only; the mathematics is one floor below."""

from __future__ import annotations

import itertools
import math
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from dreamerjax.agent import action_distribution
from dreamerjax.agent.losses import Losses, UpdateInputs, all_losses
from dreamerjax.agent.observation_normalization import count_batch
from dreamerjax.agent.state import BEHAVIOR_LOSSES, Batch, Hyper, Metrics, Noise, Params, Trains, TrainState, UpdateOptions
from dreamerjax.agent.world_model import Latent
from dreamerjax.networks.build import Networks
from dreamerjax.ops import normalization
from dreamerjax.ops.optimizer import laprop

AVERAGE_SHARE = 0.25  # of all updates, the newest ones, which the average weighs until it is as long as it gets


def train_step(
    networks: Networks,
    options: UpdateOptions,
    hyper: Hyper,
    state: TrainState,
    batch: Batch,
    *,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics, Latent]:
    """One update from one batch: returns the new state, scalar metrics and the fresh posterior latents [T, B, ...].

    What `options.trains` leaves out is not changed: neither parameters nor optimiser, slow critic and return scale.
    With `axis_name` the batch is this device's share; gradients and metrics are averaged over the axis.
    """
    chex.assert_rank([batch.reward, batch.is_first, batch.is_last, batch.is_terminal, batch.action], [2, 2, 2, 2, 3])
    chex.assert_equal_shape([batch.reward, batch.is_first, batch.is_last, batch.is_terminal])
    chex.assert_tree_shape_prefix((batch.observations, batch.action), batch.reward.shape, custom_message="[T, B, ...]")
    context = (batch.context_action, batch.context_deter, batch.context_stoch)
    chex.assert_tree_shape_prefix(context, batch.reward.shape[1:], custom_message="context [B, ...]")
    key, step_key = jax.random.split(state.key)
    noise = draw_noise(networks, options, _sequence_keys(step_key, batch.reward.shape[1], axis_name), len(batch.reward))
    if "world_model" in options.trains.value:
        state = state._replace(statistics=count_batch(state.statistics, batch.observations, axis_name))
    trained = {part: state.params[part] for part in options.trains.value}

    def total(trained: dict[str, Params]) -> tuple[jax.Array, Losses]:
        inputs = UpdateInputs(state, batch, noise)
        found = all_losses(networks, options, hyper, state.params | trained, inputs, axis_name=axis_name)
        return weighted_sum(found.parts, hyper.scales, options.trains), found

    gradients, found = jax.grad(total, has_aux=True)(trained)
    metrics = found.metrics | {f"loss/{name}": value for name, value in found.parts.items()}
    if axis_name is not None:
        gradients, metrics = _mean_over_devices((gradients, metrics), axis_name)
    params, optimizer, norms = apply_gradients(hyper, state, gradients)
    slow_critic = state.slow_critic
    if "critic" in trained:
        slow_critic = normalization.ema_update(slow_critic, params["critic"], hyper.slow_rate)
    rate = 1.0 / (1.0 + jnp.minimum(AVERAGE_SHARE * state.updates, hyper.average_updates))
    new = state._replace(
        params=params,
        average=normalization.ema_update(state.average, params, rate),
        slow_critic=slow_critic,
        optimizer=optimizer,
        return_scale=found.return_scale,
        key=key,
        updates=state.updates + 1,
    )
    return new, metrics | norms, jax.lax.stop_gradient(found.posterior.latent)


def _mean_over_devices(tree: Any, axis_name: str) -> Any:
    """The mean of a tree over the devices; between processes as one array, since each by itself would be a message."""
    if jax.process_count() == 1:
        return jax.lax.pmean(tree, axis_name)
    flat, restore = ravel_pytree(tree)
    return restore(jax.lax.pmean(flat, axis_name))


def weighted_sum(parts: dict[str, jax.Array], scales: dict[str, Any], trains: Trains) -> jax.Array:
    """The scalar that is differentiated. Raises ValueError unless there is a loss for each scale and a scale for each loss."""
    chex.assert_rank(list(parts.values()), 0, custom_message="one number for each loss")
    scaled = scales.keys() - (BEHAVIOR_LOSSES if trains is Trains.model else set())
    if parts.keys() != scaled:
        raise ValueError(f"losses {sorted(parts)} and scales {sorted(scaled)} differ")
    return sum((scales[name] * value for name, value in parts.items()), jnp.zeros(()))


def _sequence_keys(key: jax.Array, sequences: int, axis_name: str | None) -> jax.Array:
    """A key for each of this device's sequences: [B]."""
    if axis_name is None:
        return jax.random.split(key, sequences)
    keys = jax.random.split(key, sequences * jax.lax.axis_size(axis_name))
    return jax.lax.dynamic_slice_in_dim(keys, jax.lax.axis_index(axis_name) * sequences, sequences)


def draw_noise(networks: Networks, options: UpdateOptions, keys: jax.Array, length: int) -> Noise:
    """All uniforms of one update, sequence by sequence: keys [B]. One draw each, then cut up: it compiles faster."""
    chex.assert_rank(keys, 1, custom_message="one typed key for each sequence: [B]")
    count = options.starts_per_sequence or length
    batch = keys.shape[0]
    horizon = 0 if options.trains is Trains.model else options.horizon
    shapes = {
        "posterior": (length, networks.rssm.groups),
        "starts": (length,),
        "action": (horizon, count, math.prod(action_distribution.noise_shape(networks))),
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


def apply_gradients(
    hyper: Hyper, state: TrainState, gradients: dict[str, Params]
) -> tuple[dict[str, Params], dict[str, optax.OptState], Metrics]:
    """One update of each part that has gradients, with its own learning rate; the rest is passed on."""
    trained = {part: state.params[part] for part in gradients}
    chex.assert_trees_all_equal_shapes(gradients, trained, custom_message="gradients, parameters")
    rates = {"world_model": hyper.model_lr, "actor": hyper.actor_lr, "critic": hyper.critic_lr}
    params, optimizer, norms = dict(state.params), dict(state.optimizer), {}
    for part, gradient in gradients.items():
        numbers = {"clip": hyper.agc, "beta1": hyper.beta1, "beta2": hyper.beta2, "eps": hyper.eps}
        chain = laprop(rates[part], hyper.warmup, **numbers)
        updates, optimizer[part] = chain.update(gradient, state.optimizer[part], state.params[part])
        params[part] = optax.apply_updates(state.params[part], updates)
        norms[f"gradient_norm/{part}"] = optax.tree.norm(gradient)
    return params, optimizer, norms
