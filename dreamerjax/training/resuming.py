"""How a run goes into a checkpoint, and on from one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import jax
import jax.numpy as jnp

from dreamerjax.agent.state import state_from_dict, state_to_dict
from dreamerjax.config.composition import config_from_yaml, config_to_yaml
from dreamerjax.config.flat import flatten
from dreamerjax.config.keys import written
from dreamerjax.core.errors import UserError
from dreamerjax.core.files import file_faults, write_text
from dreamerjax.storage import compatibility
from dreamerjax.storage.checkpoints import CheckpointStore, Restored
from dreamerjax.storage.logger import CHANGED, mark, read_metrics
from dreamerjax.training.counters import Counters
from dreamerjax.training.run_state import RunState


def save(run: RunState, store: CheckpointStore, *, with_replay: bool) -> None:
    """Write a checkpoint in the background: all that `restore` needs to go on bit for bit.

    Of several processes, the first writes what all have in common, and each what it has alone.
    """
    if with_replay and run.group.size > 1:
        store.wait()
        run.group.gather(None)  # the one before is on every process's disk
    collector, collector_info = run.collector.state_dict()
    replay, replay_info = run.replay.state_dict() if with_replay else (None, {})
    info: dict[str, Any] = {
        "family": run.family,
        "counters": asdict(run.counters) | {"seconds": run.seconds},
        "collector": collector_info,
        "replay": replay_info,
        "random": run.random.bit_generator.state,
    }
    if run.group.size > 1:
        info["session"] = run.session
    arrays = {"policy": run.policy.state_dict(), "exploration": run.exploration.state_dict(), "collector": collector}
    if run.group.first:
        arrays["train"] = state_to_dict(run.learner.state())
        with file_faults(run.directory.config_path, "read"):
            config = run.directory.config_path.read_bytes()
        info["files"] = {"config.yaml": mark(config), "metrics.jsonl": run.logger.mark}
    if run.given is not None:
        arrays["given_policy"] = run.given
    elif run.policy.params is not run.learner.acting:  # in the middle of a round
        arrays["acting"] = run.policy.params
    store.save(run.env_steps, arrays, replay, info)


def restore(run: RunState) -> tuple[bool, str]:
    """Load the newest undamaged checkpoint: (whether the run goes on exactly, or why not).

    A run that ended before its first checkpoint begins anew, in the same directory.

    Raises UserError if there is no undamaged one or it is of another family.
    """
    path = str(run.directory.path)
    if (saved := run.directory.meta.get("processes", 1)) != run.group.size:
        were = f"run {path} was trained by {saved} process{'es' if saved > 1 else ''} and goes on with as many"
        raise UserError(f"{were}: parallel.processes={saved}, not {run.group.size}")
    if not run.begun:
        family = run.directory.meta.get("family")
        compatibility.require_same(family if isinstance(family, dict) else {}, run.family, path)
        _go_on(run)
        return True, ""
    restored, state = _newest(run)
    compatibility.require_same(restored.info["family"], run.family, path)
    for name, marked in restored.info.get("files", {}).items():
        with file_faults(run.directory.path / name, "read"):
            now = (run.directory.path / name).read_bytes()
        if mark(now[: marked[0]] if name == "metrics.jsonl" else now) != marked:  # what was logged afterwards is forgotten
            run.logger.message(f"warning: {name} is not as it was when the checkpoint was made; it counts as it is now")
    if restored.replay is None:
        raise UserError(f"{path} holds an agent without its replay, as Agent.save writes it: it acts, and is not resumed")
    try:
        _take_over(run, restored, restored.replay, state)
    except (KeyError, TypeError, ValueError) as error:
        text = f"{path} was saved by another version of dreamerjax, which alone can go on from it"
        raise UserError(f"{text} ({type(error).__name__}: {error})") from error
    # To resume a run that pacing stopped is to overrule it.
    run.counters.pacing = replace(run.counters.pacing, stop=False)
    exact, reason = run.collector.load_state_dict(restored.arrays["collector"], restored.info["collector"])
    if run.counters.fault is not None:
        exact, reason = False, f"the run was saved after a fault in the middle of a step: {run.counters.fault}"
        run.counters.fault = None
    reasons = run.group.gather("" if exact else reason)
    _go_on(run)
    return not any(reasons), "; ".join(filter(None, reasons))


def _take_over(run: RunState, restored: Restored, replay: dict[str, Any], state: dict[str, Any]) -> None:
    """All of a checkpoint but what the environments are brought to. Raises what comes of one of another structure."""
    run.learner = run.learner_of(run.world, state_from_dict(state, run.learner.state()))
    run.replay.load_state_dict(replay, restored.info["replay"])
    run.random.bit_generator.state = restored.info["random"]
    if given := restored.arrays.get("given_policy"):
        run.given = jax.tree.map(jnp.asarray, given)
    run.policy.params = run.given or restored.arrays.get("acting") or run.learner.acting
    run.policy.load_state_dict(restored.arrays["policy"])
    run.exploration.load_state_dict(restored.arrays["exploration"])
    run.counters = Counters.from_json(restored.info["counters"])


def _go_on(run: RunState) -> None:
    """Let pace, metrics and configuration be those of the environment step that the run is at."""
    run.agree([])
    run.counters.keep_pace(run.config.train, run.env_steps)
    if run.group.first:
        _go_on_writing(run)


def _newest(run: RunState) -> tuple[Restored, dict[str, Any]]:
    """The newest undamaged checkpoint that all processes have, and the training state in it."""
    if run.group.size == 1:
        restored = run.latest.restore()
        return restored, restored.arrays["train"]
    held = run.group.gather(run.latest.steps())
    common = CheckpointStore(run.directory.checkpoints / "latest", 1)
    for step in sorted(set[int](held[0]).intersection(*held), reverse=True):
        found: tuple[Restored, dict[str, Any]] | None = None
        with suppress(UserError):  # damaged, which is logged
            restored = run.latest.restore(step)
            whole = restored if run.group.first else common.restore(step, with_replay=False)
            found = restored, whole.arrays["train"]
        saved = run.group.gather(found and found[0].info["session"])
        if found is not None and saved.count(saved[0]) == len(saved):
            return found
    steps = "; ".join(f"process {rank}: {', '.join(map(str, steps)) or 'none'}" for rank, steps in enumerate(held))
    raise UserError(f"no undamaged checkpoint that all processes have in {run.directory.checkpoints}: {steps}", exit_code=1)


def _go_on_writing(run: RunState) -> None:
    """Forget what was logged after the checkpoint, and say what has changed in the configuration."""
    run.logger.truncate_after(run.counters.updates, run.env_steps)
    _say_changes(run)
    run.watch = run.new_watch()
    for record in read_metrics(run.directory.metrics):
        run.watch.observe(record)
    write_text(run.directory.config_path, config_to_yaml(replace(run.config, resume=None)))


def _say_changes(run: RunState) -> None:
    configs = config_from_yaml(run.directory.config_path), replace(run.config, resume=None)
    old, new = map(flatten, configs)
    pairs = {key: (written(old.get(key)), written(new[key])) for key in new if new[key] != old.get(key)}
    if pairs:
        changes = ", ".join(f"{key} {before} -> {after}" for key, (before, after) in pairs.items())
        text = f"changed from environment step {run.env_steps} on: {changes}"
        run.logger.message(text)
        run.logger.events.text(run.env_steps, "resume", text)
        where = {"env_step": run.env_steps, "update": run.counters.updates}
        run.directory.record_changes([{**where, "key": key, "from": a, "to": b} for key, (a, b) in pairs.items()])
        run.logger.scalars(run.env_steps, {CHANGED: len(pairs)}, updates=run.counters.updates)
