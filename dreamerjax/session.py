"""Everything that a training run holds, built from its configuration, and how it goes into and out of a checkpoint."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np

from dreamerjax import agent, family
from dreamerjax.acting import Policy
from dreamerjax.checkpoint import CheckpointStore
from dreamerjax.cli import config_to_yaml
from dreamerjax.collect import Collector, EvaluationResult, evaluate_policy, random_policy, record_fields
from dreamerjax.config import Config
from dreamerjax.envs import env_spec, episode_seed, make_vector_env
from dreamerjax.envs.checks import Purpose
from dreamerjax.errors import UserError
from dreamerjax.logs import RunLogger
from dreamerjax.networks.build import build_networks
from dreamerjax.parallel import Learner, choose_devices
from dreamerjax.replay import Field, Replay, Sample
from dreamerjax.rundir import RunDirectory, collect_meta

ACTING_SEED, EVALUATION_SEED, RANDOM_SEED, REPLAY_SEED = range(1, 5)  # streams of randomness, next to the learner's


@dataclass
class Counters:
    """Where a run is, next to what the collector counts."""

    updates: int = 0
    best_return: float | None = None  # of the greedy evaluations
    best_step: int | None = None
    last_step: int | None = None  # of the last evaluation
    last_return: float | None = None
    last_sampled_return: float | None = None
    solved_step: int | None = None  # first evaluation that reached train.stop_at_return
    baseline_return: float | None = None  # mean episode return of the random policy
    baseline_returns: list[float] = field(default_factory=list)
    seconds: float = 0.0  # spent in earlier processes of this run
    metric_sums: dict[str, float] = field(default_factory=dict)  # over the updates since the last log
    metric_count: int = 0


class Session:
    """A run in progress. Its pieces are public: the loop in `train.py` reads as what it does with them."""

    def __init__(self, config: Config, run: RunDirectory | None, *, progress: bool = True) -> None:
        """Build everything; `run` is the directory to continue, None makes a new one.

        Raises UserError for an environment, device or directory that cannot be used.
        """
        self.config = config
        self.started = time.monotonic()
        self.counters = Counters()
        self.envs = make_vector_env(config.env, config.env.num_envs)
        self._eval_envs: Any = None
        self.spec = env_spec(self.envs.single_observation_space, self.envs.single_action_space)
        self.networks = build_networks(self.spec, config.model)
        self.family = family.fingerprint(config, self.spec)
        self.devices = choose_devices(config.parallel.devices, config.train.batch_size)
        self.replay = self._new_replay()
        self.collector = Collector(self.envs, self.spec, self.replay, config.train.seed)
        self.random = np.random.Generator(np.random.PCG64((config.train.seed, RANDOM_SEED)))
        self.random_policy = random_policy(self.spec.action, self.random)
        self._set_learner(self._initial_state())
        self.policy = self._policy(ACTING_SEED, config.env.num_envs, greedy=False)
        self.run = run or self._new_run()
        self.logger = RunLogger(self.run.path, progress=progress, total_steps=config.train.steps)
        self.latest = CheckpointStore(self.run.checkpoints / "latest", config.run.checkpoints_to_keep)
        self.best = CheckpointStore(self.run.checkpoints / "best", 1)

    def _new_run(self) -> RunDirectory:
        config = self.config
        meta = collect_meta(
            hypothesis=config.run.hypothesis,
            primary_metric=config.run.primary_metric,
            family=self.family,
            devices=[str(device) for device in self.devices],
            seed=config.train.seed,
        )
        return RunDirectory.create(config.run.root, config.run.name, config_to_yaml(config), meta)

    def _new_replay(self) -> Replay:
        config = self.config
        latents: dict[str, Field] = {}
        if config.replay.context:
            rssm = self.networks.rssm
            stoch: Field = ((rssm.groups,), agent.stoch_dtype(self.networks))
            latents = {"deter": ((rssm.deter,), np.float32), "stoch": stoch}
        return Replay(
            record_fields(self.spec, latents),
            config.env.num_envs,
            config.replay.capacity,
            config.train.batch_length,
            context_fields=("action", *latents),
            online=config.replay.online,
            seed=_derived(config.train.seed, REPLAY_SEED),
        )

    def _initial_state(self) -> agent.TrainState:
        with jax.disable_jit(not self.config.jit):
            init = jax.jit(lambda key: agent.init(self.networks, key))
            return init(jax.random.key(self.config.train.seed))

    def _set_learner(self, state: agent.TrainState) -> None:
        settings, hyper = agent.settings_from_config(self.config), agent.hyper_from_config(self.config)
        self.learner = Learner(self.networks, settings, hyper, state, self.devices, jit=self.config.jit)

    def _policy(self, stream: int, num_envs: int, *, greedy: bool) -> Policy:
        seed = _derived(self.config.train.seed, stream)
        return Policy(self.networks, self.learner.acting, num_envs, seed, greedy=greedy)

    @property
    def env_steps(self) -> int:
        """Environment steps so far, over all streams."""
        return self.collector.env_steps

    def batches(self, sample: Sample) -> agent.Batch:
        """A replay sample as NumPy batches [K, T, B, ...]."""
        data, context = sample.data, sample.context
        empty = np.zeros((*context["action"].shape[:2], 0), np.float32)
        return agent.Batch(
            observations={name: data[name] for name in self.spec.observations},
            action=data["action"],
            reward=data["reward"],
            is_first=data["is_first"],
            is_last=data["is_last"],
            is_terminal=data["is_terminal"],
            context_action=context["action"],
            context_deter=context.get("deter", empty),
            context_stoch=context.get("stoch", empty),
        )

    def evaluate(self) -> dict[str, EvaluationResult]:
        """Play `train.eval_episodes` episodes with each of the greedy and the sampled policy, in separate environments."""
        episodes = self.config.train.eval_episodes
        if self._eval_envs is None:
            self._eval_envs = make_vector_env(self.config.env, min(episodes, 32))
            count = self._eval_envs.num_envs
            self._eval_policies = {
                name: self._policy(EVALUATION_SEED, count, greedy=name == "greedy") for name in ("greedy", "sampled")
            }
        seed = episode_seed(self.config.train.seed, Purpose.evaluation, EVALUATION_SEED, self.env_steps)
        results = {}
        for name, policy in self._eval_policies.items():
            policy.params = self.learner.acting
            policy.reset()
            results[name] = evaluate_policy(self._eval_envs, self.spec, policy, episodes, seed)
        return results

    def save(self, store: CheckpointStore, *, with_replay: bool) -> None:
        """Write a checkpoint in the background: all that `restore` needs to go on bit for bit."""
        collector, collector_info = self.collector.state_dict()
        replay, replay_info = self.replay.state_dict() if with_replay else (None, {})
        info = {
            "family": self.family,
            "counters": asdict(self.counters) | {"seconds": self.seconds},
            "collector": collector_info,
            "replay": replay_info,
            "random": self.random.bit_generator.state,
        }
        arrays = {
            "train": pack(self.learner.state()),
            "policy": self.policy.state_dict(),
            "collector": collector,
        }
        store.save(self.env_steps, arrays, replay, info)

    def restore(self) -> tuple[bool, str]:
        """Load the newest undamaged checkpoint: (whether the run goes on exactly, or why not).

        Raises UserError if there is none or it is of another family.
        """
        restored = self.latest.restore()
        family.require_same(restored.info["family"], self.family, str(self.run.path))
        if restored.replay is None:
            raise UserError(f"the checkpoint in {self.latest.directory} has no replay", exit_code=1)
        self._set_learner(unpack(restored.arrays["train"], self._initial_state()))
        self.replay.load_state_dict(restored.replay, restored.info["replay"])
        self.random.bit_generator.state = restored.info["random"]
        self.policy.params = self.learner.acting
        self.policy.load_state_dict(restored.arrays["policy"])
        self.counters = Counters(**restored.info["counters"])
        exact = self.collector.load_state_dict(restored.arrays["collector"], restored.info["collector"])
        self.logger.truncate_after(self.counters.updates, self.env_steps)
        return exact

    @property
    def seconds(self) -> float:
        """Wall time of the run, earlier processes included."""
        return self.counters.seconds + time.monotonic() - self.started

    def close(self) -> None:
        """Finish background writes and end every process, thread and lock."""
        try:
            self.latest.close()
            self.best.close()
        finally:
            self.logger.close()
            for envs in (self.envs, self._eval_envs):
                if envs is not None:
                    envs.close()
            self.run.close()


def pack(state: agent.TrainState) -> dict[str, Any]:
    """A training state as nested dicts of arrays, the key as its raw numbers."""
    raw = state._replace(key=jax.random.key_data(state.key))
    packed: dict[str, Any] = flax.serialization.to_state_dict(raw)
    return packed


def unpack(packed: dict[str, Any], like: agent.TrainState) -> agent.TrainState:
    """The inverse of `pack`; `like` gives the structure."""
    raw: agent.TrainState = flax.serialization.from_state_dict(pack_template(like), packed)
    state = jax.tree.map(jnp.asarray, raw)
    return state._replace(key=jax.random.wrap_key_data(state.key))


def pack_template(state: agent.TrainState) -> agent.TrainState:
    """The state with its key as raw numbers."""
    return state._replace(key=jax.random.key_data(state.key))


def _derived(seed: int, stream: int) -> int:
    """A 31-bit seed for one of a run's independent streams of randomness."""
    return int(np.random.SeedSequence((seed, stream)).generate_state(1)[0] >> 1)
