"""Everything that a training run holds, and how it goes into and out of a checkpoint."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np

from dreamerjax import agent, family
from dreamerjax.acting import Policy
from dreamerjax.build import ACTING_SEED, EVALUATION_SEED, RANDOM_SEED, build_replay, build_world, derived_seed
from dreamerjax.checkpoint import CheckpointStore
from dreamerjax.cli import config_to_yaml
from dreamerjax.collect import Collector, EvaluationResult, evaluate_policy, random_policy
from dreamerjax.config import Config
from dreamerjax.envs import Envs, Purpose, episode_seed, make_vector_env
from dreamerjax.errors import UserError
from dreamerjax.files import write_text
from dreamerjax.logs import RunLogger
from dreamerjax.rundir import RunDirectory, collect_meta
from dreamerjax.runtime import Stopwatch, Trace
from dreamerjax.sinks import chosen_sinks

EVALUATION_ENVS = 32  # at most so many environments side by side


@dataclass
class Counters:
    """Where a run is, next to what the collector counts."""

    updates: int = 0
    last_step: int | None = None  # of the last evaluation
    last_return: float | None = None
    last_sampled_return: float | None = None
    best_step: int | None = None
    best_return: float | None = None  # of the greedy evaluations
    solved_step: int | None = None  # first evaluation that reached train.stop_at_return
    solved_seconds: float | None = None
    baseline_return: float | None = None  # mean episode return of the random policy
    baseline_returns: list[float] = field(default_factory=list)
    metric_sums: dict[str, float] = field(default_factory=dict)  # over the updates since the last log
    metric_count: int = 0
    fault: str | None = None  # an error in the middle of a tick, after which this state was saved
    seconds: float = 0.0  # spent in earlier processes of this run


class Session:
    """A run in progress. Its pieces are public: the loop in `train.py` reads as what it does with them."""

    def __init__(self, config: Config, run: RunDirectory | None) -> None:
        """Build everything; `run` is the directory to continue, None makes a new one.

        Raises UserError for an environment, device or directory that cannot be used.
        """
        sinks = chosen_sinks(config)  # before anything is made: a package may be missing
        self.config = config
        self.started = time.monotonic()
        self.counters = Counters()
        self.stopwatch = Stopwatch()
        self.world = build_world(config)
        self.family = family.fingerprint(config, self.world.spec)
        self.replay = build_replay(self.world)
        self.run = run or self._new_run()
        self.logger = RunLogger(self.run.path, progress=True, total_steps=config.train.steps, sinks=sinks)
        profiled = range(config.profile_start, config.profile_start + config.profile_updates) if config.profile else range(0)
        self.trace = Trace(self.run.path / "profile", profiled.start, profiled.stop, self.logger.message)
        self.latest = CheckpointStore(self.run.checkpoints / "latest", config.run.checkpoints_to_keep)
        self.best = CheckpointStore(self.run.checkpoints / "best", 1)
        self.collector = Collector(self.world.envs, self.world.spec, self.replay, config.train.seed)
        self.random = np.random.Generator(np.random.PCG64((config.train.seed, RANDOM_SEED)))
        self.random_policy = random_policy(self.world.spec.action, self.random)
        self.learner = self.world.learner(self.world.initial_state())
        self.policy = self._policy(ACTING_SEED, config.env.num_envs, greedy=False)
        self._evaluation: tuple[Envs, dict[str, Policy]] | None = None

    def _new_run(self) -> RunDirectory:
        config, world = self.config, self.world
        meta = collect_meta(
            hypothesis=config.run.hypothesis,
            primary_metric=config.run.primary_metric,
            family=self.family,
            devices=[str(device) for device in world.devices],
            seed=config.train.seed,
        )
        return RunDirectory.create(config.run.root, config.run.name, config_to_yaml(config), meta)

    def _policy(self, stream: int, num_envs: int, *, greedy: bool) -> Policy:
        seed = derived_seed(self.config.train.seed, stream)
        return Policy(self.world.networks, self.learner.acting, num_envs, seed, greedy=greedy)

    @property
    def env_steps(self) -> int:
        """Environment steps so far, over all streams."""
        return self.collector.env_steps

    @property
    def seconds(self) -> float:
        """Wall time of the run, earlier processes included."""
        return self.counters.seconds + time.monotonic() - self.started

    @property
    def solved(self) -> bool:
        """Whether a greedy evaluation has reached `train.stop_at_return`."""
        wanted, best = self.config.train.stop_at_return, self.counters.best_return
        return wanted is not None and best is not None and best >= wanted

    def evaluate(self) -> dict[str, EvaluationResult]:
        """Play `train.eval_episodes` episodes with each of the greedy and the sampled policy, in separate environments."""
        episodes = self.config.train.eval_episodes
        if self._evaluation is None:
            count = min(episodes, EVALUATION_ENVS)
            policies = {name: self._policy(EVALUATION_SEED, count, greedy=name == "greedy") for name in ("greedy", "sampled")}
            self._evaluation = make_vector_env(self.config.env, count), policies
        envs, policies = self._evaluation
        seed = episode_seed(self.config.train.seed, Purpose.evaluation, EVALUATION_SEED, self.env_steps)
        results = {}
        for name, policy in policies.items():
            policy.params = self.learner.acting
            policy.reset()
            results[name] = evaluate_policy(envs, self.world.spec, policy, episodes, seed)
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
        arrays = {"train": pack(self.learner.state()), "policy": self.policy.state_dict(), "collector": collector}
        store.save(self.env_steps, arrays, replay, info)

    def restore(self) -> tuple[bool, str]:
        """Load the newest undamaged checkpoint: (whether the run goes on exactly, or why not).

        Raises UserError if there is none or it is of another family.
        """
        restored = self.latest.restore()
        family.require_same(restored.info["family"], self.family, str(self.run.path))
        if restored.replay is None:
            raise UserError(f"the checkpoint in {self.latest.directory} has no replay", exit_code=1)
        self.learner = self.world.learner(unpack(restored.arrays["train"], self.learner.state()))
        self.replay.load_state_dict(restored.replay, restored.info["replay"])
        self.random.bit_generator.state = restored.info["random"]
        self.policy.params = self.learner.acting
        self.policy.load_state_dict(restored.arrays["policy"])
        self.counters = Counters(**restored.info["counters"])
        exact, reason = self.collector.load_state_dict(restored.arrays["collector"], restored.info["collector"])
        if self.counters.fault is not None:
            exact, reason = False, f"the run was saved after a fault in the middle of a step: {self.counters.fault}"
            self.counters.fault = None
        self.logger.truncate_after(self.counters.updates, self.env_steps)
        write_text(self.run.config_path, config_to_yaml(replace(self.config, resume=None)))
        return exact, reason

    def close(self) -> None:
        """Finish background writes and end every process, thread and lock."""
        try:
            self.trace.close()
            self.latest.close()
            self.best.close()
        finally:
            self.logger.close()
            self.world.envs.close()
            if self._evaluation is not None:
                self._evaluation[0].close()
            self.run.close()


def pack(state: agent.TrainState) -> dict[str, Any]:
    """A training state as nested dicts of arrays, the key as its raw numbers."""
    packed: dict[str, Any] = flax.serialization.to_state_dict(state._replace(key=jax.random.key_data(state.key)))
    return packed


def unpack(packed: dict[str, Any], like: agent.TrainState) -> agent.TrainState:
    """The inverse of `pack`; `like` gives the structure."""
    raw = like._replace(key=jax.random.key_data(like.key))
    state: agent.TrainState = jax.tree.map(jnp.asarray, flax.serialization.from_state_dict(raw, packed))
    return state._replace(key=jax.random.wrap_key_data(state.key))
