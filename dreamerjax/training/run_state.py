"""Everything that a training run holds. How it goes into a checkpoint and on from one is in `resuming`."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from dreamerjax.agent.learner import Learner
from dreamerjax.agent.policy import Policy
from dreamerjax.agent.population_learner import MemberLearner
from dreamerjax.agent.state import (
    BEHAVIOR_LOSSES,
    Hyper,
    Params,
    TrainState,
    hyper_from_config,
)
from dreamerjax.config.composition import config_to_yaml, run_name
from dreamerjax.config.flat import flatten
from dreamerjax.config.schema import Config, Mode
from dreamerjax.core.errors import UserError
from dreamerjax.core.files import read_json_object
from dreamerjax.core.run_directory import RunDirectory, collect_meta
from dreamerjax.core.stopping import Stop
from dreamerjax.core.types import ActFunction
from dreamerjax.data.collector import Collector, Episode
from dreamerjax.data.exploration import Exploration
from dreamerjax.diagnostics.collapse import CollapseWatch
from dreamerjax.envs import Source, descriptions
from dreamerjax.envs.random_rollouts import random_policy
from dreamerjax.storage import compatibility
from dreamerjax.storage.checkpoints import CheckpointStore, saved_in
from dreamerjax.storage.logger import RunLogger, SilentLogger
from dreamerjax.storage.sinks import chosen_sinks
from dreamerjax.training import update_schedule
from dreamerjax.training.counters import Counters, pace_of
from dreamerjax.training.evaluation import Evaluator
from dreamerjax.training.hosts import ALONE, Group
from dreamerjax.training.runtime import Stopwatch, Trace
from dreamerjax.training.warm_start import WarmStart, warm_start
from dreamerjax.training.world import (
    ACTING_SEED,
    EVALUATION_SEED,
    PROCESS_SEED,
    RANDOM_SEED,
    World,
    build_replay,
    build_world,
    derived_seed,
)

LearnerOf = Callable[[World, TrainState], Learner | MemberLearner]


class RunState:
    """A run in progress. Its pieces are public: the loop in `train.py` reads as what it does with them."""

    def __init__(
        self,
        config: Config,
        directory: RunDirectory | None,
        stop: Stop,
        *,
        group: Group = ALONE,
        source: Source | None = None,
        listener: Callable[[dict[str, float]], None] | None = None,
        learner_of: LearnerOf | None = None,
    ) -> None:
        """Build everything.

        Args:
            config: of the run.
            directory: the one to continue; None makes a new one.
            stop: says whether the run is to end.
            group: the processes that train together.
            source: of the environments, in place of `env.id`.
            listener: is told each line of metrics, with `env_step` and `update`.
            learner_of: makes the learner, by default one of its own.

        Raises UserError for an environment, device or directory that cannot be used.
        """
        sinks = chosen_sinks(config)  # before anything is made: a package may be missing
        self.config, self.source, self._listener, self.group = config, source, listener, group
        self.own_stop = stop  # of this process, which may break off what it does for itself alone
        self.stop = stop if group.size == 1 else Stop()  # asked for when all have agreed on it
        self.started = time.monotonic()
        self.counters = Counters(pace=pace_of(config.train))
        self.stopwatch = Stopwatch()
        self.world = build_world(config, source, stop)
        self.family = compatibility.fingerprint(config, self.world.spec)
        families = group.gather(self.family)
        for rank, family in enumerate(families):
            compatibility.require_same(family, families[0], f"the environment of process {rank}")
        self.session = group.lead(lambda: uuid.uuid4().hex)  # tells checkpoints of one step, made before and after a resume
        seed = config.train.seed if group.first else derived_seed(config.train.seed, PROCESS_SEED + group.rank)
        self.replay = build_replay(self.world, seed)
        self.ready = False  # whether every process has a sequence to learn from
        shard = "latest" if group.first else f"process_{group.rank}"
        self.begun = False  # whether each process has, or had, what to go on from: a run that has ended is not begun anew
        if directory is not None:
            ended = read_json_object(directory.summary).get("outcome") in ("finished", "solved", "stopped")
            self.begun = all(group.gather(ended or bool(saved_in(directory.checkpoints / shard))))
        start = WarmStart(self.world.initial_state()) if self.begun else warm_start(self.world, self.family)
        self.given = start.policy  # acting parameters that this run does not train
        self.directory = directory or self._new_run(start.source)
        total = update_schedule.last_step(config.train)
        self.logger = RunLogger(self.directory.path, total_steps=total, sinks=sinks) if group.first else SilentLogger()
        self.logger.message(descriptions.summary(self.world.spec))
        for text in self.world.remarks:
            self.logger.message(f"remark: {text}")
        for text in update_schedule.obstacles(config):
            self.logger.message(f"warning: {text}")
        after = config.profile_start + config.profile_updates if config.profile and group.first else 0
        self.trace = Trace(self.directory.path / "profile", config.profile_start, after, self.logger.message)
        # Of several processes some may have written the newest when all are killed: then the one before is needed.
        keep = config.run.checkpoints_to_keep if group.size == 1 else max(2, config.run.checkpoints_to_keep)
        self.latest = CheckpointStore(self.directory.checkpoints / shard, keep)
        self.best = CheckpointStore(self.directory.checkpoints / "best", 1)
        self.collector = Collector(self.world.envs, self.world.spec, self.replay, seed, stop=self.stop, processes=group.size)
        self.random = np.random.Generator(np.random.PCG64((seed, RANDOM_SEED)))
        self.random_policy = random_policy(self.world.spec.action, self.random)
        self.learner_of = learner_of or World.learner
        self.learner = self.learner_of(self.world, start.state)
        acting = self.given or self.learner.acting
        streams, longest = config.env.num_envs, config.train.batch_length
        self.exploration = Exploration(self.world.spec.action, streams, longest, self.random)
        acting_seed = derived_seed(seed, ACTING_SEED)
        self.policy = Policy(self.world.networks, acting, streams, acting_seed, greedy=False, explore=self.exploration)
        self._hyper = hyper_from_config(config)
        self.watch = self.new_watch()
        world, seed = self.world, derived_seed(config.train.seed, EVALUATION_SEED)
        self.evaluator = Evaluator(config, world.networks, seed, self.own_stop, source=source)
        self._make_evaluation_envs()

    def _make_evaluation_envs(self) -> None:
        """Now rather than after hours: where the environment exists only once, evaluations are played in the training's."""
        train = self.config.train
        evaluates = self.evaluates and self.group.first and train.eval_every
        if not (evaluates and update_schedule.last_step(train) > train.random_steps):
            return
        try:
            self.evaluator.make(train.eval_episodes)
        except UserError as error:
            self.evaluator.shared = self.world.envs
            self.logger.message(f"evaluations are played in the training's environments, between its episodes: {error}")

    def _new_run(self, source: dict[str, Any] | None) -> RunDirectory:
        """Made by the first process. Raises UserError in another that does not see it."""
        config, made = self.config, None
        if self.group.first:
            meta = {"source": source, "processes": self.group.size} | collect_meta(
                hypothesis=config.run.hypothesis,
                primary_metric=config.run.primary_metric,
                family=self.family,
                devices=[str(device) for device in self.world.devices],
                seed=config.train.seed,
            )
            made = RunDirectory.create(config.run.root, run_name(config), config_to_yaml(config), meta)
        path = self.group.gather(str(made.path) if made else "")[0]
        return made or RunDirectory.open(path)

    def new_watch(self) -> CollapseWatch:
        return CollapseWatch(flatten(self.config))

    def follow(self, acting: dict[str, Params]) -> None:
        """Collect with these parameters from now on, unless the policy was given from elsewhere."""
        if self.given is None:
            self.policy.params = acting

    @property
    def collecting(self) -> ActFunction:
        """What acts once the random steps are over.

        While only the world model is trained that is the random policy or a given one, whose latents are of another model and
        not stored.
        """
        if self.config.mode is not Mode.bootstrap:
            return self.policy
        return self.random_policy if self.given is None else lambda *inputs: (self.policy(*inputs)[0], {})

    @property
    def evaluates(self) -> bool:
        """Whether there is a policy in training to evaluate."""
        return self.config.mode is not Mode.bootstrap

    @property
    def model_scales(self) -> dict[str, float]:
        """Weight of each loss of the world model."""
        return {name: scale for name, scale in vars(self.config.loss.scales).items() if name not in BEHAVIOR_LOSSES}

    def due(self) -> update_schedule.Plan | None:
        """What the update that is due now trains; None if none is due."""
        config, counters = self.config, self.counters
        if self.env_steps < config.train.random_steps or not self.ready:
            return None
        plan = update_schedule.plan(config, counters.pacing, self.env_steps, counters.best_return)
        owed = update_schedule.updates_due(config.train, self.env_steps, counters.owed_updates)
        return plan if owed >= config.train.updates_per_call else None

    def hyper(self, plan: update_schedule.Plan) -> Hyper:
        """The traced numbers of an update."""
        scale = np.float32(plan.lr_scale)
        return self._hyper._replace(
            actor_lr=self._hyper.actor_lr * scale, critic_lr=self._hyper.critic_lr * scale, entropy=np.float32(plan.entropy)
        )

    def record(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics at an environment step, by default the present one, and say what the collapse watch finds in them."""
        if not self.group.first:
            return
        step, updates = self.env_steps if step is None else step, self.counters.updates
        self.logger.scalars(step, values, updates=updates)
        for finding in self.watch.observe({**values, "env_step": step, "update": updates}):
            text = f"{finding.name}: {finding.evidence}"
            self.logger.message(f"step {step}: warning: {text}")
            self.logger.events.text(step, "findings", text)
        if self._listener is not None:
            self._listener({**values, "env_step": step, "update": updates})

    def agree(self, episodes: Sequence[Episode]) -> list[Episode]:
        """After a step of every process: the episodes that ended in any; now all know whether one is to stop."""
        own: dict[str, Any] = {"stop": self.own_stop.requested, "ready": self.replay.ready()}
        said = self.group.gather(own | {"episodes": [asdict(episode) for episode in episodes]})
        self.stop.requested = any(one["stop"] for one in said)
        self.ready = all(one["ready"] for one in said)
        return [Episode(**episode) for one in said for episode in one["episodes"]]

    @property
    def batch_size(self) -> int:
        """Sequences of a batch that are this process's."""
        return self.config.train.batch_size // self.group.size

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

    def close(self) -> None:
        """Finish background writes and end every process, thread and lock."""
        try:
            self.trace.close()
            self.latest.close()
            self.best.close()
        finally:
            self.logger.close()
            self.world.envs.close()
            self.evaluator.close()
            self.directory.close()
