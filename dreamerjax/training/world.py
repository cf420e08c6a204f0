"""The pieces of a run from its configuration: environments, networks, devices, learner, replay."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np

from dreamerjax.agent.learner import Learner, choose_devices
from dreamerjax.agent.state import Batch, TrainState, init_train_state, options_from_config
from dreamerjax.agent.world_model import stoch_dtype
from dreamerjax.config.schema import Config
from dreamerjax.core.stopping import Stop
from dreamerjax.core.types import EnvSpec
from dreamerjax.data.collector import record_fields
from dreamerjax.data.replay import Field, Replay, Sample
from dreamerjax.envs import Envs, Source, env_spec, make_vector_env
from dreamerjax.networks.build import Networks, build_networks
from dreamerjax.training.runtime import single_precision
from dreamerjax.training.update_schedule import all_streams, last_step, processes

ACTING_SEED, EVALUATION_SEED, RANDOM_SEED, REPLAY_SEED = range(1, 5)  # streams of randomness, next to the learner's
PROCESS_SEED = 1_000  # and from there on, the seed of each further process


@dataclass(frozen=True)
class World:
    """What a configuration fixes before anything is learned."""

    config: Config
    envs: Envs
    spec: EnvSpec
    networks: Networks
    devices: list[jax.Device]

    @property
    def images(self) -> frozenset[str]:
        """The names of the observations that are images."""
        return frozenset(name for name, entry in self.spec.observations.items() if entry.is_image)

    @property
    def remarks(self) -> list[str]:
        """What is probably not meant about the environment's spaces."""
        return list(self.envs.get_attr("remarks")[0])

    def initial_state(self) -> TrainState:
        """Fresh parameters, drawn from the run's seed."""
        return jax.jit(lambda key: init_train_state(self.networks, key))(jax.random.key(self.config.train.seed))

    def learner(self, state: TrainState) -> Learner:
        """The compiled update around a training state."""
        options = options_from_config(self.config)
        return Learner(self.networks, options, state, self.devices, jit=self.config.jit)


def build_world(config: Config, source: Source | None = None, stop: Stop | None = None) -> World:
    """Make the environments (close them when done) and the modules that fit them. A `source` takes the place of `env.id`.

    Raises UserError for an environment or a number of devices that cannot be had.
    """
    devices = choose_devices(config.parallel.devices, config.train.batch_size)
    envs = make_vector_env(config.env, config.env.num_envs, source, stop)
    single_precision()  # an environment may have set JAX to another
    spec = env_spec(envs.single_observation_space, envs.single_action_space)
    return World(config, envs, spec, build_networks(spec, config.model), devices)


def build_replay(world: World, seed: int) -> Replay:
    """An empty replay for a world's records, with room for latents if sequences start from stored ones."""
    config, latents = world.config, {}
    if config.replay.context:
        rssm = world.networks.rssm
        stoch: Field = ((rssm.groups,), stoch_dtype(world.networks))
        latents = {"deter": ((rssm.deter,), np.float32), "stoch": stoch}
    return Replay(
        record_fields(world.spec, latents),
        config.env.num_envs,
        most_records(config),
        config.train.batch_length,
        context_fields=("action", *latents),
        online=config.replay.online,
        seed=derived_seed(seed, REPLAY_SEED),
    )


def most_records(config: Config) -> int:
    """Records that a process's replay holds: its share of the capacity, or less if the run cannot fill it.

    Every step leaves one record, and every episode, of one step at least, one more.
    """
    streams, slack = config.env.num_envs, config.train.batch_length + 1
    ticks = -(-last_step(config.train) // all_streams(config))
    return min(config.replay.capacity // processes(config), streams * (2 * ticks + slack))


def replay_batch(spec: EnvSpec, sample: Sample) -> Batch:
    """A replay sample as NumPy batches [K, T, B, ...]."""
    data, context = sample.data, sample.context
    empty = np.zeros((*context["action"].shape[:2], 0), np.float32)
    return Batch(
        observations={name: data[name] for name in spec.observations},
        **{name: data[name] for name in ("action", "reward", "is_first", "is_last", "is_terminal")},
        context_action=context["action"],
        context_deter=context.get("deter", empty),
        context_stoch=context.get("stoch", empty),
    )


def derived_seed(seed: int, stream: int) -> int:
    """A 31-bit seed for one of a run's independent streams of randomness."""
    return int(np.random.SeedSequence((seed, stream)).generate_state(1)[0] >> 1)
