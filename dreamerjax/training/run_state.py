"""Everything that a training run holds, and how it goes into and out of a checkpoint."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import jax
import jax.numpy as jnp
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
    state_from_dict,
    state_to_dict,
)
from dreamerjax.config.cli import config_from_yaml, config_to_yaml, run_name
from dreamerjax.config.flat import flatten
from dreamerjax.config.keys import written
from dreamerjax.config.schema import Config, Mode
from dreamerjax.core.errors import UserError
from dreamerjax.core.files import file_faults, read_json_object, write_text
from dreamerjax.core.run_directory import RunDirectory, collect_meta
from dreamerjax.core.stopping import Stop
from dreamerjax.core.types import ActFunction
from dreamerjax.data.collector import Collector, Episode
from dreamerjax.data.exploration import Exploration
from dreamerjax.diagnostics.collapse import CollapseWatch
from dreamerjax.envs import Source, descriptions
from dreamerjax.envs.random_rollouts import random_policy
from dreamerjax.storage import compatibility
from dreamerjax.storage.checkpoints import CheckpointStore, Restored, saved_in
from dreamerjax.storage.logger import CHANGED, RunLogger, SilentLogger, mark, read_metrics
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
        self._session = group.lead(lambda: uuid.uuid4().hex)  # tells checkpoints of one step, made before and after a resume
        seed = config.train.seed if group.first else derived_seed(config.train.seed, PROCESS_SEED + group.rank)
        self.replay = build_replay(self.world, seed)
        self.ready = False  # whether every process has a sequence to learn from
        shard = "latest" if group.first else f"process_{group.rank}"
        self._begun = False  # whether each process has, or had, what to go on from: a run that has ended is not begun anew
        if directory is not None:
            ended = read_json_object(directory.summary).get("outcome") in ("finished", "solved", "stopped")
            self._begun = all(group.gather(ended or bool(saved_in(directory.checkpoints / shard))))
        start = WarmStart(self.world.initial_state()) if self._begun else warm_start(self.world, self.family)
        self._given = start.policy  # acting parameters that this run does not train
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
        self._learner_of = learner_of or World.learner
        self.learner = self._learner_of(self.world, start.state)
        acting = self._given or self.learner.acting
        streams, longest = config.env.num_envs, config.train.batch_length
        self.exploration = Exploration(self.world.spec.action, streams, longest, self.random)
        acting_seed = derived_seed(seed, ACTING_SEED)
        self.policy = Policy(self.world.networks, acting, streams, acting_seed, greedy=False, explore=self.exploration)
        self._hyper = hyper_from_config(config)
        self.watch = self._new_watch()
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

    def _new_watch(self) -> CollapseWatch:
        return CollapseWatch(flatten(self.config))

    def follow(self, acting: dict[str, Params]) -> None:
        """Collect with these parameters from now on, unless the policy was given from elsewhere."""
        if self._given is None:
            self.policy.params = acting

    @property
    def collecting(self) -> ActFunction:
        """What acts once the random steps are over.

        While only the world model is trained that is the random policy or a given one, whose latents are of another model and
        not stored.
        """
        if self.config.mode is not Mode.bootstrap:
            return self.policy
        return self.random_policy if self._given is None else lambda *inputs: (self.policy(*inputs)[0], {})

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

    def save(self, store: CheckpointStore, *, with_replay: bool) -> None:
        """Write a checkpoint in the background: all that `restore` needs to go on bit for bit.

        Of several processes, the first writes what all have in common, and each what it has alone.
        """
        if with_replay and self.group.size > 1:
            store.wait()
            self.group.gather(None)  # the one before is on every process's disk
        collector, collector_info = self.collector.state_dict()
        replay, replay_info = self.replay.state_dict() if with_replay else (None, {})
        info: dict[str, Any] = {
            "family": self.family,
            "counters": asdict(self.counters) | {"seconds": self.seconds},
            "collector": collector_info,
            "replay": replay_info,
            "random": self.random.bit_generator.state,
        }
        if self.group.size > 1:
            info["session"] = self._session
        arrays = {"policy": self.policy.state_dict(), "exploration": self.exploration.state_dict(), "collector": collector}
        if self.group.first:
            arrays["train"] = state_to_dict(self.learner.state())
            with file_faults(self.directory.path):
                config = self.directory.config_path.read_bytes()
            info["files"] = {"config.yaml": mark(config), "metrics.jsonl": self.logger.mark}
        if self._given is not None:
            arrays["given_policy"] = self._given
        elif self.policy.params is not self.learner.acting:  # in the middle of a round
            arrays["acting"] = self.policy.params
        store.save(self.env_steps, arrays, replay, info)

    def restore(self) -> tuple[bool, str]:
        """Load the newest undamaged checkpoint: (whether the run goes on exactly, or why not).

        A run that ended before its first checkpoint begins anew, in the same directory.

        Raises UserError if there is no undamaged one or it is of another family.
        """
        path = str(self.directory.path)
        if (saved := self.directory.meta.get("processes", 1)) != self.group.size:
            were = f"run {path} was trained by {saved} process{'es' if saved > 1 else ''} and goes on with as many"
            raise UserError(f"{were}: parallel.processes={saved}, not {self.group.size}")
        if not self._begun:
            family = self.directory.meta.get("family")
            compatibility.require_same(family if isinstance(family, dict) else {}, self.family, path)
            self._go_on()
            return True, ""
        restored, state = self._newest()
        compatibility.require_same(restored.info["family"], self.family, path)
        for name, marked in restored.info.get("files", {}).items():
            with file_faults(self.directory.path / name):
                now = (self.directory.path / name).read_bytes()
            if mark(now[: marked[0]] if name == "metrics.jsonl" else now) != marked:  # what was logged afterwards is forgotten
                self.logger.message(f"warning: {name} is not as it was when the checkpoint was made; it counts as it is now")
        if restored.replay is None:
            raise UserError(f"{path} holds an agent without its replay, as Agent.save writes it: it acts, and is not resumed")
        try:
            self._take_over(restored, restored.replay, state)
        except (KeyError, TypeError, ValueError) as error:
            text = f"{path} was saved by another version of dreamerjax, which alone can go on from it"
            raise UserError(f"{text} ({type(error).__name__}: {error})") from error
        # To resume a run that pacing stopped is to overrule it.
        self.counters.pacing = replace(self.counters.pacing, stop=False)
        exact, reason = self.collector.load_state_dict(restored.arrays["collector"], restored.info["collector"])
        if self.counters.fault is not None:
            exact, reason = False, f"the run was saved after a fault in the middle of a step: {self.counters.fault}"
            self.counters.fault = None
        reasons = self.group.gather("" if exact else reason)
        self._go_on()
        return not any(reasons), "; ".join(filter(None, reasons))

    def _take_over(self, restored: Restored, replay: dict[str, Any], state: dict[str, Any]) -> None:
        """All of a checkpoint but what the environments are brought to. Raises what comes of one of another structure."""
        self.learner = self._learner_of(self.world, state_from_dict(state, self.learner.state()))
        self.replay.load_state_dict(replay, restored.info["replay"])
        self.random.bit_generator.state = restored.info["random"]
        if given := restored.arrays.get("given_policy"):
            self._given = jax.tree.map(jnp.asarray, given)
        self.policy.params = self._given or restored.arrays.get("acting") or self.learner.acting
        self.policy.load_state_dict(restored.arrays["policy"])
        self.exploration.load_state_dict(restored.arrays["exploration"])
        self.counters = Counters.from_json(restored.info["counters"])

    def _go_on(self) -> None:
        """Let pace, metrics and configuration be those of the environment step that the run is at."""
        self.agree([])
        self.counters.keep_pace(self.config.train, self.env_steps)
        if self.group.first:
            self._go_on_writing()

    def _newest(self) -> tuple[Restored, dict[str, Any]]:
        """The newest undamaged checkpoint that all processes have, and the training state in it."""
        if self.group.size == 1:
            restored = self.latest.restore()
            return restored, restored.arrays["train"]
        held = self.group.gather(self.latest.steps())
        common = CheckpointStore(self.directory.checkpoints / "latest", 1)
        for step in sorted(set[int](held[0]).intersection(*held), reverse=True):
            found: tuple[Restored, dict[str, Any]] | None = None
            with suppress(UserError):  # damaged, which is logged
                restored = self.latest.restore(step)
                whole = restored if self.group.first else common.restore(step, with_replay=False)
                found = restored, whole.arrays["train"]
            saved = self.group.gather(found and found[0].info["session"])
            if found is not None and saved.count(saved[0]) == len(saved):
                return found
        steps = "; ".join(f"process {rank}: {', '.join(map(str, steps)) or 'none'}" for rank, steps in enumerate(held))
        raise UserError(
            f"no undamaged checkpoint that all processes have in {self.directory.checkpoints}: {steps}", exit_code=1
        )

    def _go_on_writing(self) -> None:
        """Forget what was logged after the checkpoint, and say what has changed in the configuration."""
        self.logger.truncate_after(self.counters.updates, self.env_steps)
        self._say_changes()
        self.watch = self._new_watch()
        for record in read_metrics(self.directory.metrics):
            self.watch.observe(record)
        write_text(self.directory.config_path, config_to_yaml(replace(self.config, resume=None)))

    def _say_changes(self) -> None:
        configs = config_from_yaml(self.directory.config_path), replace(self.config, resume=None)
        old, new = map(flatten, configs)
        pairs = {key: (written(old.get(key)), written(new[key])) for key in new if new[key] != old.get(key)}
        if pairs:
            changes = ", ".join(f"{key} {before} -> {after}" for key, (before, after) in pairs.items())
            text = f"changed from environment step {self.env_steps} on: {changes}"
            self.logger.message(text)
            self.logger.events.text(self.env_steps, "resume", text)
            where = {"env_step": self.env_steps, "update": self.counters.updates}
            self.directory.record_changes([{**where, "key": key, "from": a, "to": b} for key, (a, b) in pairs.items()])
            self.logger.scalars(self.env_steps, {CHANGED: len(pairs)}, updates=self.counters.updates)

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
