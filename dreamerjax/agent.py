"""The agent as three pure functions: `init`, `act`, `train_step`. Composition only; the mathematics is one floor below."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from dreamerjax import policy
from dreamerjax.losses import draw_noise, losses
from dreamerjax.networks.build import Networks
from dreamerjax.networks.layers import apply, draw_kernels
from dreamerjax.ops import normalize
from dreamerjax.ops.optimizer import laprop, laprop_init
from dreamerjax.pytrees import (
    BEHAVIOR_LOSSES,
    Array,
    Batch,
    Hyper,
    Metrics,
    Noise,
    Params,
    PolicyState,
    Settings,
    Trains,
    TrainState,
    hyper_from_config,
    settings_from_config,
)
from dreamerjax.standardization import count_batch, initial_statistics
from dreamerjax.world_model import Latent, encode_action, feature, initial_latent, posterior_step, project_inputs

__all__ = [
    "Batch",
    "Hyper",
    "Latent",
    "Noise",
    "PolicyState",
    "Settings",
    "TrainState",
    "Trains",
    "act",
    "acting_params",
    "apply_gradients",
    "draw_noise",
    "hyper_from_config",
    "init",
    "initial_policy_state",
    "losses",
    "settings_from_config",
    "stoch_dtype",
    "train_many",
    "train_step",
]

AVERAGE_SHARE = 0.25  # of all updates, the newest ones, which the average weighs until it is as long as it gets


def init(networks: Networks, key: jax.Array) -> TrainState:
    """Fresh parameters and optimiser state."""
    spec, rssm = networks.spec, networks.rssm
    kernel_key, train_key, unused = jax.random.split(key, 3)
    observations = {name: jnp.zeros((1, *entry.shape), entry.dtype) for name, entry in spec.observations.items()}
    embedding, variables = networks.encoder.init_with_output(unused, observations)
    latent = initial_latent(networks, 1)
    inputs = feature(latent)

    def rssm_all(module: Any) -> None:
        action = module.project_action(jnp.zeros((1, spec.action.encoded_size)))
        deter = module.recurrent(latent.deter, latent.stoch, action)
        module.prior(deter)
        module.posterior(deter, module.project_embedding(embedding))

    params = {
        "world_model": {
            "encoder": variables["params"],
            "rssm": rssm.init(unused, method=rssm_all)["params"],
            "decoder": networks.decoder.init(unused, inputs)["params"],
            "reward": networks.reward.init(unused, inputs)["params"],
            "continue": networks.continue_.init(unused, inputs)["params"],
        },
        "actor": networks.actor.init(unused, inputs)["params"],
        "critic": networks.critic.init(unused, inputs)["params"],
    }
    params = draw_kernels(params, kernel_key)
    if networks.standardize:
        params["world_model"]["statistics"] = initial_statistics(spec.observations)
    return TrainState(
        params=params,
        average=jax.tree.map(jnp.copy, params),
        slow_critic=jax.tree.map(jnp.copy, params["critic"]),
        optimizer={part: laprop_init(tree) for part, tree in params.items()},
        return_scale=normalize.return_scale_init(),
        key=train_key,
        updates=jnp.zeros((), jnp.int32),
    )


def acting_params(params: dict[str, Params]) -> dict[str, Params]:
    """The part of the parameters that acting needs."""
    model = {name: part for name, part in params["world_model"].items() if name in ("encoder", "rssm", "statistics")}
    return model | {"actor": params["actor"]}


def initial_policy_state(networks: Networks, batch: int) -> PolicyState:
    """Zeros; the first observation of an episode erases it anyway."""
    action = jnp.zeros((batch, *networks.spec.action.shape), networks.spec.action.dtype)
    return PolicyState(initial_latent(networks, batch), action)


def act(
    networks: Networks,
    params: dict[str, Params],
    state: PolicyState,
    observations: dict[str, Array],
    is_first: Array,
    key: jax.Array,
    *,
    greedy: bool,
) -> tuple[jax.Array, PolicyState]:
    """Filter one observation of N environments and choose an action [N, C]: the actor's mode if `greedy`, else a sample."""
    latent_key, action_key = jax.random.split(key)
    previous = encode_action(networks, state.action)
    action_in, embedding_in = project_inputs(networks, params, observations, previous, is_first)
    uniform = jax.random.uniform(latent_key, (*is_first.shape, networks.rssm.groups))
    latent = posterior_step(networks, params, state.latent, action_in, embedding_in, is_first, uniform).latent
    outputs = apply(networks.actor, params["actor"], feature(latent))
    if greedy:
        action = policy.mode(networks, outputs)
    else:
        uniform = jax.random.uniform(action_key, (*is_first.shape, *policy.noise_shape(networks)))
        action = policy.sample(networks, outputs, uniform)
    return action, PolicyState(latent, action)


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
        parts, kept = losses(networks, settings, hyper, state.params | trained, state, batch, noise, axis_name)
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
        slow_critic = normalize.ema_update(slow_critic, params["critic"], hyper.slow_rate)
    rate = 1.0 / (1.0 + jnp.minimum(AVERAGE_SHARE * state.updates, hyper.average_updates))
    new = TrainState(
        params=params,
        average=normalize.ema_update(state.average, params, rate),
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
) -> tuple[dict[str, Params], dict[str, optax.OptState], Metrics]:
    """One update of each part that has gradients, with its own learning rate; the rest is passed on."""
    rates = {"world_model": hyper.model_lr, "actor": hyper.actor_lr, "critic": hyper.critic_lr}
    params, optimizer, norms = dict(state.params), dict(state.optimizer), {}
    for part, gradient in gradients.items():
        numbers = {"clip": hyper.agc, "beta1": hyper.beta1, "beta2": hyper.beta2, "eps": hyper.eps}
        chain = laprop(rates[part], hyper.warmup, **numbers)
        updates, optimizer[part] = chain.update(gradient, state.optimizer[part], state.params[part])
        params[part] = optax.apply_updates(state.params[part], updates)
        norms[f"gradient_norm/{part}"] = optax.tree.norm(gradient)
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


def stoch_dtype(networks: Networks) -> Any:
    """The integer type that holds a class index in replay."""
    return jnp.uint8 if networks.rssm.classes <= 256 else jnp.int32
