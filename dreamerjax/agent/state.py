"""The pytrees that the update reads and writes, with the shapes of their fields.

Legend: K updates per call, T time, B batch, N environments, n imagination starts per sequence, H horizon, S x C stochastic
groups x classes, A encoded action, C action components.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax

from dreamerjax.agent.observation_normalization import Statistics, initial_statistics
from dreamerjax.agent.world_model import Latent, feature, initial_latent
from dreamerjax.config.schema import Config, FreeBits
from dreamerjax.core.types import Array
from dreamerjax.networks.build import Networks
from dreamerjax.networks.layers import draw_kernels
from dreamerjax.ops import normalization
from dreamerjax.ops.optimizer import laprop_init

Params = Any
Metrics = dict[str, jax.Array]

BEHAVIOR_LOSSES = {"actor", "critic", "replay_critic"}  # the others are of the world model


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
    average_updates: Any
    free_nats: Any
    gamma: Any
    lambda_: Any
    entropy: Any
    continuous_entropy: Any
    pessimism: Any
    anchor: Any
    slow_rate: Any
    slow_regularizer: Any
    return_norm_rate: Any
    scales: dict[str, Any]


class Trains(Enum):
    """Which parts of the parameters an update trains; the others, and all that belongs to them, stay as they are."""

    everything = ("world_model", "actor", "critic")
    model = ("world_model",)
    behavior = ("actor", "critic")


@dataclass(frozen=True)
class UpdateOptions:
    """What shapes the compiled program."""

    trains: Trains
    horizon: int
    starts_per_sequence: int  # 0: every step of the sequence
    straight_through: bool
    return_norm: bool
    center_advantages: bool
    replay_critic_gradient: bool
    context: bool
    anchor: bool


class TrainState(NamedTuple):
    """Everything that an update reads and writes. Names repeat across updates; nothing else is remembered."""

    params: dict[str, Params]  # world_model, actor, critic
    average: dict[str, Params]  # of `params` over the updates: what is evaluated and examined, and what is loaded to act
    slow_critic: Params
    statistics: Statistics  # of the observations; counted, not trained
    optimizer: dict[str, optax.OptState]  # of each part, which counts its own updates
    return_scale: normalization.ReturnScaleState
    key: jax.Array
    updates: jax.Array  # int32 []

    @property
    def newest(self) -> dict[str, Params]:
        """All that an agent is made of, as the last update left it: world_model, actor, critic, statistics."""
        return {**self.params, "statistics": self.statistics}

    @property
    def averaged(self) -> dict[str, Params]:
        """The same with the averaged parameters: what is evaluated."""
        return {**self.average, "statistics": self.statistics}


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
        average_updates=optim_.average_updates,
        free_nats=loss.free_nats,
        gamma=behavior.gamma,
        lambda_=behavior.lambda_,
        entropy=behavior.entropy,
        continuous_entropy=behavior.continuous_entropy,
        pessimism=behavior.pessimism,
        anchor=behavior.anchor,
        slow_rate=behavior.slow_rate,
        slow_regularizer=behavior.slow_regularizer,
        return_norm_rate=behavior.return_norm_rate,
        scales=dict(vars(loss.scales)),
    )
    return jax.tree.map(np.float32, values)


def options_from_config(config: Config) -> UpdateOptions:
    """Static choices; an update of everything."""
    return UpdateOptions(
        trains=Trains.everything,
        horizon=config.behavior.horizon,
        starts_per_sequence=config.behavior.starts // config.train.batch_size,
        straight_through=config.loss.free_bits is FreeBits.straight_through,
        return_norm=config.behavior.return_norm,
        center_advantages=config.behavior.center_advantages,
        replay_critic_gradient=config.behavior.replay_critic_gradient,
        context=config.replay.context,
        anchor=config.behavior.anchor > 0,
    )


def init_train_state(networks: Networks, key: jax.Array) -> TrainState:
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
    return TrainState(
        params=params,
        average=jax.tree.map(jnp.copy, params),
        slow_critic=jax.tree.map(jnp.copy, params["critic"]),
        statistics=initial_statistics(spec.observations) if networks.standardize else {},
        optimizer={part: laprop_init(tree) for part, tree in params.items()},
        return_scale=normalization.return_scale_init(),
        key=train_key,
        updates=jnp.zeros((), jnp.int32),
    )


def acting_params(agent: dict[str, Params]) -> dict[str, Params]:
    """What acting needs of `TrainState.newest` or `.averaged`."""
    model = agent["world_model"]
    return {"encoder": model["encoder"], "rssm": model["rssm"], "actor": agent["actor"], "statistics": agent["statistics"]}


def state_to_dict(state: TrainState) -> dict[str, Any]:
    """A training state as nested dicts of arrays, the key as its raw numbers."""
    packed: dict[str, Any] = flax.serialization.to_state_dict(state._replace(key=jax.random.key_data(state.key)))
    return packed


def state_from_dict(packed: dict[str, Any], like: TrainState) -> TrainState:
    """The inverse of `state_to_dict`; `like` gives the structure."""
    raw = like._replace(key=jax.random.key_data(like.key))
    state: TrainState = jax.tree.map(jnp.asarray, flax.serialization.from_state_dict(raw, packed))
    return state._replace(key=jax.random.wrap_key_data(state.key))
