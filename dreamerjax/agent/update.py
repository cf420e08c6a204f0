"""One update of the agent as a pure function: `train_step`. Composition only; the mathematics is one floor below."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from dreamerjax.agent.losses import all_losses, draw_noise
from dreamerjax.agent.observation_normalization import count_batch
from dreamerjax.agent.state import (
    BEHAVIOR_LOSSES,
    Batch,
    Hyper,
    Metrics,
    Params,
    Settings,
    Trains,
    TrainState,
    acting_params,
)
from dreamerjax.agent.world_model import Latent, stoch_dtype
from dreamerjax.networks.build import Networks
from dreamerjax.ops import normalization
from dreamerjax.ops import optimizer as optim

AVERAGE_SHARE = 0.25  # of all updates, the newest ones, which the average weighs until it is as long as it gets


def train_step(
    networks: Networks,
    settings: Settings,
    hyper: Hyper,
    state: TrainState,
    batch: Batch,
    axis_name: str | None = None,
) -> tuple[TrainState, tuple[Metrics, Latent]]:
    """One update from one batch: returns the new state, scalar metrics and the fresh posterior latents [T, B, ...].

    What `settings.trains` leaves out is not changed: neither parameters nor optimiser, slow critic and return scale.
    With `axis_name` the batch is this device's share; gradients and metrics are averaged over the axis.
    """
    key, step_key = jax.random.split(state.key)
    length, sequences = batch.reward.shape
    devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
    keys = jax.random.split(step_key, sequences * devices)
    if axis_name is not None:
        keys = jax.lax.dynamic_slice_in_dim(keys, jax.lax.axis_index(axis_name) * sequences, sequences)
    noise = draw_noise(networks, keys, length, settings)

    if "world_model" in settings.trains.value:
        state = _with_statistics(state, batch, axis_name)
    trained = {part: state.params[part] for part in settings.trains.value}
    scaled = hyper.scales.keys() - (BEHAVIOR_LOSSES if settings.trains is Trains.model else set())

    def total(trained: dict[str, Params]) -> tuple[jax.Array, Any]:
        parts, kept = all_losses(networks, settings, hyper, state.params | trained, state, batch, noise, axis_name)
        if parts.keys() != scaled:
            raise ValueError(f"losses {sorted(parts)} and scales {sorted(scaled)} differ")
        return sum((hyper.scales[name] * value for name, value in parts.items()), jnp.zeros(())), (parts, kept)

    gradients, (parts, (metrics, posterior, return_scale)) = jax.grad(total, has_aux=True)(trained)
    metrics |= {f"loss/{name}": value for name, value in parts.items()}
    if axis_name is not None:
        gradients, metrics = jax.lax.pmean((gradients, metrics), axis_name)
    params, optimizer, norms = apply_gradients(hyper, state, gradients)
    slow_critic = state.slow_critic
    if "critic" in trained:
        slow_critic = normalization.ema_update(slow_critic, params["critic"], hyper.slow_rate)
    rate = 1.0 / (1.0 + jnp.minimum(AVERAGE_SHARE * state.updates, hyper.average_updates))
    new = TrainState(
        params=params,
        average=normalization.ema_update(state.average, params, rate),
        slow_critic=slow_critic,
        optimizer=optimizer,
        return_scale=return_scale,
        key=key,
        updates=state.updates + 1,
    )
    return new, (metrics | norms, jax.lax.stop_gradient(posterior.latent))


def _with_statistics(state: TrainState, batch: Batch, axis_name: str | None) -> TrainState:
    """The state with the batch counted, if observations are standardised."""
    model = state.params["world_model"]
    if "statistics" not in model:
        return state
    counted = {"statistics": count_batch(model["statistics"], batch.observations, axis_name)}
    return state._replace(params=state.params | {"world_model": model | counted})


def apply_gradients(
    hyper: Hyper, state: TrainState, gradients: dict[str, Params]
) -> tuple[dict[str, Params], dict[str, optim.LaPropState], Metrics]:
    """AGC, LaProp and warm-up for each part that has gradients, with its own learning rate; the rest is passed on."""
    rates = {"world_model": hyper.model_lr, "actor": hyper.actor_lr, "critic": hyper.critic_lr}
    params, optimizer, norms = dict(state.params), dict(state.optimizer), {}
    for part, gradient in gradients.items():
        old = state.optimizer[part]
        step = -rates[part] * optim.linear_warmup(old.step, hyper.warmup)
        clipped = optim.agc(gradient, state.params[part], hyper.agc)
        updates, optimizer[part] = optim.laprop_update(clipped, old, beta1=hyper.beta1, beta2=hyper.beta2, eps=hyper.eps)
        params[part] = jax.tree.map(lambda p, u, step=step: p + step * u, state.params[part], updates)
        squares = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradient)]
        norms[f"gradient_norm/{part}"] = jnp.sqrt(jnp.sum(jnp.stack(squares)))
    return params, optimizer, norms


def train_many(
    networks: Networks,
    settings: Settings,
    hyper: Hyper,
    state: TrainState,
    batches: Batch,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics, Latent, dict[str, Params]]:
    """Several updates in one `lax.scan` over batches [K, T, B, ...].

    Returns the state, the metrics of each update [K], the latents [K, T, B, ...] with class indices (uint8 or int32) in
    place of one-hots, and a copy of the acting parameters (the state's own buffers may be donated to the next call).
    """

    def step(carry: TrainState, batch: Batch) -> tuple[TrainState, tuple[Metrics, Latent]]:
        new, (metrics, latent) = train_step(networks, settings, hyper, carry, batch, axis_name)
        indices = jnp.argmax(latent.stoch, axis=-1).astype(stoch_dtype(networks))
        return new, (metrics, Latent(latent.deter, indices))

    state, (metrics, latents) = jax.lax.scan(step, state, batches)
    return state, metrics, latents, jax.tree.map(jnp.copy, acting_params(state.params))
