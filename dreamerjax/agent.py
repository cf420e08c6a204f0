"""The agent as three pure functions: `init`, `act`, `train_step`. Composition only; the mathematics is one floor below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dreamerjax import actor_critic, policy
from dreamerjax.config import Config, FreeBits
from dreamerjax.imagination import imagine
from dreamerjax.networks.build import Networks
from dreamerjax.networks.layers import apply
from dreamerjax.ops import normalize, optim
from dreamerjax.world_model import (
    Latent,
    Posterior,
    encode_action,
    feature,
    initial_latent,
    observe,
    posterior_step,
    project_inputs,
    world_model_loss,
)

Params = Any
Metrics = dict[str, jax.Array]
Array = Any  # of JAX, or of NumPy on its way to the device


class Hyper(NamedTuple):
    """Numbers that a sweep varies: traced, so that changing one does not recompile."""

    model_lr: Any
    actor_lr: Any
    critic_lr: Any
    warmup: Any
    agc: Any
    beta1: Any
    beta2: Any
    eps: Any
    free_nats: Any
    gamma: Any
    lambda_: Any
    entropy: Any
    slow_rate: Any
    slow_regularizer: Any
    return_norm_rate: Any
    scales: dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """What shapes the compiled program."""

    horizon: int
    starts_per_sequence: int  # 0: every step of the sequence
    straight_through: bool
    return_norm: bool
    replay_critic_gradient: bool
    context: bool


class TrainState(NamedTuple):
    """Everything that an update reads and writes. Names repeat across updates; nothing else is remembered."""

    params: dict[str, Params]  # world_model, actor, critic
    slow_critic: Params
    optimizer: optim.LaPropState
    return_scale: normalize.ReturnScaleState
    key: jax.Array
    updates: jax.Array  # int32 []


class Batch(NamedTuple):
    """Replayed sequences, time-major, and the step before each of them."""

    observations: dict[str, Array]  # [T, B, ...]
    action: Array  # [T, B, C] taken at each step
    reward: Array  # [T, B] that came with the observation
    is_first: Array  # [T, B]
    is_last: Array  # [T, B]
    is_terminal: Array  # [T, B]
    context_action: Array  # [B, C] taken at the step before
    context_deter: Array  # [B, D] stored latent of the step before
    context_stoch: Array  # [B, S] class indices


class PolicyState(NamedTuple):
    """What acting remembers between steps of N environments."""

    latent: Latent  # [N, ...]
    action: jax.Array  # [N, C] the last one


class Noise(NamedTuple):
    """All randomness of one update. Each sequence draws its own, so that splitting the batch over devices changes nothing."""

    posterior: jax.Array  # [T, B, S]
    starts: jax.Array  # int32 [n, B] time indices of the imagination starts
    action: jax.Array  # [H, n, B, C]
    latent: jax.Array  # [H, n, B, S]


def hyper_from_config(config: Config) -> Hyper:
    """Traced numbers as float32 scalars."""
    optim_, behavior, loss = config.optim, config.behavior, config.loss
    values = Hyper(
        model_lr=optim_.model_lr,
        actor_lr=optim_.actor_lr,
        critic_lr=optim_.critic_lr,
        warmup=optim_.warmup,
        agc=optim_.agc,
        beta1=optim_.beta1,
        beta2=optim_.beta2,
        eps=optim_.eps,
        free_nats=loss.free_nats,
        gamma=behavior.gamma,
        lambda_=behavior.lambda_,
        entropy=behavior.entropy,
        slow_rate=behavior.slow_rate,
        slow_regularizer=behavior.slow_regularizer,
        return_norm_rate=behavior.return_norm_rate,
        scales=dict(vars(loss.scales)),
    )
    return jax.tree.map(jnp.float32, values)


def settings_from_config(config: Config) -> Settings:
    """Static choices."""
    return Settings(
        horizon=config.behavior.horizon,
        starts_per_sequence=config.behavior.starts // config.train.batch_size,
        straight_through=config.loss.free_bits is FreeBits.straight_through,
        return_norm=config.behavior.return_norm,
        replay_critic_gradient=config.behavior.replay_critic_gradient,
        context=config.replay.context,
    )


def init(networks: Networks, key: jax.Array) -> TrainState:
    """Fresh parameters and optimiser state."""
    spec, rssm = networks.spec, networks.rssm
    names = ("encoder", "rssm", "decoder", "reward", "continue", "actor", "critic", "train")
    keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
    observations = {name: jnp.zeros((1, *s.shape), jnp.int32 if s.is_discrete else jnp.float32)
                    for name, s in spec.observations.items()}  # fmt: skip
    latent = initial_latent(networks, 1)
    inputs = feature(latent)
    embedding_size = networks.encoder.units

    def rssm_all(module: Any) -> None:
        action = module.project_action(jnp.zeros((1, spec.action.encoded_size)))
        deter = module.recurrent(latent.deter, latent.stoch, action)
        module.prior(deter)
        module.posterior(deter, module.project_embedding(jnp.zeros((1, embedding_size))))

    params = {
        "world_model": {
            "encoder": networks.encoder.init(keys["encoder"], observations)["params"],
            "rssm": rssm.init(keys["rssm"], method=rssm_all)["params"],
            "decoder": networks.decoder.init(keys["decoder"], inputs)["params"],
            "reward": networks.reward.init(keys["reward"], inputs)["params"],
            "continue": networks.continue_.init(keys["continue"], inputs)["params"],
        },
        "actor": networks.actor.init(keys["actor"], inputs)["params"],
        "critic": networks.critic.init(keys["critic"], inputs)["params"],
    }
    return TrainState(
        params=params,
        slow_critic=jax.tree.map(jnp.copy, params["critic"]),
        optimizer=optim.laprop_init(params),
        return_scale=normalize.return_scale_init(),
        key=keys["train"],
        updates=jnp.zeros((), jnp.int32),
    )


def acting_params(params: dict[str, Params]) -> dict[str, Params]:
    """The part of the parameters that acting needs."""
    model = params["world_model"]
    return {"encoder": model["encoder"], "rssm": model["rssm"], "actor": params["actor"]}


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


def draw_noise(networks: Networks, keys: jax.Array, length: int, settings: Settings) -> Noise:
    """All uniforms of one update, sequence by sequence: keys [B]."""
    count = settings.starts_per_sequence or length
    groups, horizon = networks.rssm.groups, settings.horizon

    def one_sequence(key: jax.Array) -> tuple[jax.Array, ...]:
        posterior_key, starts_key, action_key, latent_key = jax.random.split(key, 4)
        starts = jnp.arange(length)
        if count < length:
            starts = jnp.sort(jax.random.permutation(starts_key, length)[:count])
        posterior = jax.random.uniform(posterior_key, (length, groups))
        action = jax.random.uniform(action_key, (horizon, count, *policy.noise_shape(networks)))
        return posterior, starts, action, jax.random.uniform(latent_key, (horizon, count, groups))

    return Noise(*jax.vmap(one_sequence, out_axes=(1, 1, 2, 2))(keys))


def _imagination_starts(latent: Latent, starts: jax.Array) -> Latent:
    """Latents [T, B, ...] at the time indices [n, B], flattened to [n*B, ...], without gradient."""
    batch = jnp.arange(starts.shape[1])[None, :]
    picked = jax.tree.map(lambda x: x[starts, batch].reshape(-1, *x.shape[2:]), latent)
    return jax.lax.stop_gradient(picked)


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
    """World model, then imagination, then replay critic: every loss as a scalar mean, plus what the update keeps."""
    model = params["world_model"]
    previous_action, is_first, first_latent = _sequence_start(networks, settings, batch)
    posterior = observe(networks, model, batch.observations, previous_action, is_first, first_latent, noise.posterior)
    model_losses, model_metrics = world_model_loss(
        networks, model, posterior, batch.observations, batch.reward, batch.is_terminal,
        gamma=hyper.gamma, free_nats=hyper.free_nats, straight_through=settings.straight_through,
    )  # fmt: skip

    start = _imagination_starts(posterior.latent, noise.starts)
    flat = (settings.horizon, start.deter.shape[0], -1)
    dream = imagine(networks, model, params["actor"], start, noise.action.reshape(flat), noise.latent.reshape(flat))
    columns = jnp.arange(noise.starts.shape[1])[None, :]
    start_continue = 1.0 - batch.is_terminal[noise.starts, columns].astype(jnp.float32).reshape(-1)
    targets = actor_critic.dream_targets(
        networks, model, params["critic"], state.slow_critic, dream, start_continue, lambda_=hyper.lambda_
    )
    return_scale = normalize.return_scale_update(
        state.return_scale, targets.returns, rate=hyper.return_norm_rate, axis_name=axis_name
    )
    scale = actor_critic.normalized_scale(return_scale, settings.return_norm)
    actor_loss, actor_metrics = actor_critic.actor_loss(networks, params["actor"], dream, targets, scale, hyper.entropy)
    critic_loss = actor_critic.dream_critic_loss(networks, params["critic"], dream, targets, hyper.slow_regularizer)

    replay_loss, replay_metrics = _replay_critic(networks, settings, hyper, params, state, batch, posterior, noise, targets)
    result = {
        **model_losses,
        "actor": actor_loss,
        "critic": critic_loss,
        "replay_critic": replay_loss,
    }
    metrics = {f"model/{k}": v for k, v in model_metrics.items()} | {f"actor/{k}": v for k, v in actor_metrics.items()}
    metrics |= replay_metrics | _dream_metrics(targets, scale)
    return {name: jnp.mean(value) for name, value in result.items()}, (metrics, posterior, return_scale)


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
    columns = jnp.arange(noise.starts.shape[1])[None, :]
    imagined = targets.returns[0].reshape(noise.starts.shape)
    loss = actor_critic.replay_critic_loss(
        networks, params["critic"], state.slow_critic, inputs, batch.reward, batch.is_last, batch.is_terminal,
        values.at[noise.starts, columns].set(imagined),
        gamma=hyper.gamma, lambda_=hyper.lambda_, slow_regularizer=hyper.slow_regularizer,
    )  # fmt: skip
    return loss, {"critic/replay_value": jnp.mean(values)}


def _dream_metrics(targets: actor_critic.DreamTargets, scale: jax.Array) -> Metrics:
    return {
        "dream/return_mean": jnp.mean(targets.returns),
        "dream/value_mean": jnp.mean(targets.values),
        "dream/weight_last": jnp.mean(targets.weights[-1]),
        "dream/return_scale": scale,
    }


def train_step(
    networks: Networks,
    settings: Settings,
    hyper: Hyper,
    state: TrainState,
    batch: Batch,
    axis_name: str | None = None,
) -> tuple[TrainState, tuple[Metrics, Latent]]:
    """One update from one batch: returns the new state, scalar metrics and the fresh posterior latents [T, B, ...].

    With `axis_name` the batch is this device's share; gradients and metrics are averaged over the axis.
    """
    key, step_key = jax.random.split(state.key)
    length, sequences = batch.reward.shape
    devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
    keys = jax.random.split(step_key, sequences * devices)
    if axis_name is not None:
        keys = jax.lax.dynamic_slice_in_dim(keys, jax.lax.axis_index(axis_name) * sequences, sequences)
    noise = draw_noise(networks, keys, length, settings)

    def total(params: dict[str, Params]) -> tuple[jax.Array, Any]:
        parts, kept = losses(networks, settings, hyper, params, state, batch, noise, axis_name)
        if parts.keys() != hyper.scales.keys():
            raise ValueError(f"losses {sorted(parts)} and scales {sorted(hyper.scales)} differ")
        return sum((hyper.scales[name] * value for name, value in parts.items()), jnp.zeros(())), (parts, kept)

    gradients, (parts, (metrics, posterior, return_scale)) = jax.grad(total, has_aux=True)(state.params)
    metrics |= {f"loss/{name}": value for name, value in parts.items()}
    if axis_name is not None:
        gradients, metrics = jax.lax.pmean((gradients, metrics), axis_name)
    params, optimizer, norms = apply_gradients(hyper, state, gradients)
    new = TrainState(
        params=params,
        slow_critic=normalize.ema_update(state.slow_critic, params["critic"], hyper.slow_rate),
        optimizer=optimizer,
        return_scale=return_scale,
        key=key,
        updates=state.updates + 1,
    )
    return new, (metrics | norms, jax.lax.stop_gradient(posterior.latent))


def apply_gradients(
    hyper: Hyper, state: TrainState, gradients: dict[str, Params]
) -> tuple[dict[str, Params], optim.LaPropState, Metrics]:
    """AGC, LaProp, warm-up, and each part's own learning rate."""
    clipped = optim.agc(gradients, state.params, hyper.agc)
    updates, optimizer = optim.laprop_update(clipped, state.optimizer, beta1=hyper.beta1, beta2=hyper.beta2, eps=hyper.eps)
    warm = optim.linear_warmup(state.updates, hyper.warmup)
    rates = {"world_model": hyper.model_lr, "actor": hyper.actor_lr, "critic": hyper.critic_lr}
    params, norms = {}, {}
    for part, rate in rates.items():
        step = -rate * warm
        params[part] = jax.tree.map(lambda p, u, step=step: p + step * u, state.params[part], updates[part])
        squares = [jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(gradients[part])]
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


def stoch_dtype(networks: Networks) -> Any:
    """The integer type that holds a class index in replay."""
    return jnp.uint8 if networks.rssm.classes <= 256 else jnp.int32
