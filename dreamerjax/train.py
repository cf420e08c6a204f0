"""Train an agent: `python -m dreamerjax.train [key=value ...]`. The loop, read top to bottom, is `train`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dreamerjax.config.cli import Result, main
from dreamerjax.config.schema import Config
from dreamerjax.core.errors import UserError
from dreamerjax.core.machine import give_back_memory, memory_bytes, memory_mb
from dreamerjax.core.run_directory import RunDirectory, find_run
from dreamerjax.core.stopping import Stop, Stopped, leave, stop_on_signals
from dreamerjax.data.exploration import explored_share
from dreamerjax.data.replay import Sample
from dreamerjax.diagnostics import surprise
from dreamerjax.envs import Source
from dreamerjax.envs.surroundings import forget
from dreamerjax.training import reporting, resuming, summary, update_schedule
from dreamerjax.training.hosts import joined
from dreamerjax.training.outcome import Ending, Outcome, decide
from dreamerjax.training.population import train_together
from dreamerjax.training.run_state import LearnerOf, RunState
from dreamerjax.training.runtime import prepare
from dreamerjax.training.world import replay_batch


@dataclass
class Update:
    """An update that the device works on."""

    sample: Sample
    plan: update_schedule.Plan
    env_step: int  # when it was handed over
    started: float  # time.monotonic() when it was handed over
    metrics: dict[str, jax.Array]
    latents: Any


class DivergedError(UserError):
    """A loss is NaN or infinite: the state must not overwrite a good checkpoint."""


def train(run: RunState) -> Outcome:
    """Collect, replay, update, log, save, until it is decided that the run is over.

    The device works on an update while the environments are stepped with the parameters before it. Between two updates
    everything stands still: there, and only there, evaluations and checkpoints are made.

    A run that is to end breaks off wherever it is, and goes on from there when it is resumed.
    """
    counters = run.counters
    try:
        if counters.evaluation_due:
            reporting.evaluate(run)
        while (outcome := decide(run)) is None:
            play_round(run)
    except Stopped as stopped:
        if stopped.args:  # in the middle of a step
            counters.fault = str(stopped)
            run.logger.message(f"given up: {stopped}")
        return Outcome.interrupted
    return outcome


def play_round(run: RunState) -> None:
    """An update, if one is due, while the environments are stepped; then what is due between two updates.

    Raises Stopped where the run is to end.
    """
    config, counters = run.config.train, run.counters
    before, plan = run.env_steps, run.due()
    update = None
    if plan is not None:
        compile_update(run, plan)
        update = begin(run, plan)
    try:
        collect(run)
    finally:
        if update is not None:
            finish(run, update)
    run.follow(run.learner.acting)
    log(run)
    run.logger.progress(run.env_steps, counters.updates)
    if update_schedule.crossed(before, run.env_steps, config.eval_every) and counters.updates and run.evaluates:
        counters.evaluation_due = True
        reporting.evaluate(run)
    ended = update_schedule.ended(config, run.env_steps, counters.updates)
    if update_schedule.crossed(before, run.env_steps, config.checkpoint_every) and not ended:
        resuming.save(run, run.latest, with_replay=True)


def compile_update(run: RunState, plan: update_schedule.Plan) -> None:
    """Compile the update before it is begun.

    Raises Stopped if the run is to end before that is done; UserError if the update could not be computed in this memory.
    """
    config = run.config.train
    if not run.config.jit or plan.trains in run.learner.compiled:
        return
    if run.stopwatch.first_update is None:
        run.logger.message(f"step {run.env_steps}: compiling the update")
    batches = replay_batch(run.world.spec, run.replay.blank(config.updates_per_call, run.batch_size))
    needed = run.stop.wait_for(run.learner.compile, run.hyper(plan), batches, plan.trains)
    give_back_memory()
    if run.world.devices[0].platform == "cpu" and needed > memory_bytes():
        raise UserError(
            f"an update needs {needed / 1e9:.1f} GB of memory and this machine has {memory_bytes() / 1e9:.1f}: lower "
            "train.batch_size, train.batch_length, behavior.starts, behavior.horizon, model.bins.count or the size"
        )
    run.agree([])  # one that compiles longer keeps no collective waiting: gloo gives up the first after half a minute


def begin(run: RunState, plan: update_schedule.Plan) -> Update:
    """Hand an update over to the device; returns at once."""
    config, counters = run.config.train, run.counters
    run.trace.before(counters.updates, config.updates_per_call)
    sample = run.replay.sample(config.updates_per_call, run.batch_size)
    batches, started = replay_batch(run.world.spec, sample), time.monotonic()
    metrics, latents = run.learner.update(run.hyper(plan), batches, plan.trains)
    counters.updates += config.updates_per_call
    return Update(sample, plan, run.env_steps, started, metrics, latents)


def collect(run: RunState) -> None:
    """Step the environments until the next event: with the random policy first, then with the run's own.

    Raises Stopped, between two steps, if the run is to end.
    """
    config, counters = run.config.train, run.counters
    random = run.env_steps < config.random_steps
    if update_schedule.ended(config, run.env_steps, counters.updates):
        return
    steps = update_schedule.steps_until_event(config, run.env_steps, counters.owed_updates)
    if not run.ready:  # an update may be due before there is a sequence to learn from
        steps = max(steps, 1)
    ticks = -(-steps // update_schedule.all_streams(run.config))
    policy = run.random_policy if random else run.collecting
    for _ in range(ticks):  # one by one: a fault must not lose the episodes before it
        run.stop.look()
        for episode in run.agree(run.collector.collect(policy, 1)):
            reporting.log_episode(run, episode, random=random)
    if not ticks:
        run.agree([])
    if random and run.env_steps >= config.random_steps:
        reporting.log_baseline(run)


def finish(run: RunState, update: Update) -> None:
    """Wait for an update: take over its latents, check its losses, let the schedule see it."""
    config, counters = run.config, run.counters
    metrics = run.learner.metrics(update.metrics)
    run.stopwatch.update(update.started)
    require_finite(run, metrics)
    if config.behavior.explore and "actor/randomness" in metrics:
        spread, randomness = float(metrics["dream/return_spread"][-1]), float(metrics["actor/randomness"][-1])
        run.exploration.share = explored_share(spread, randomness)
    if config.replay.context:
        latent = run.learner.latents(update.latents)
        run.replay.refresh(update.sample.position, {"deter": latent.deter, "stoch": latent.stoch})
    for k in range(config.train.updates_per_call):
        number = counters.updates - config.train.updates_per_call + k + 1
        note(run, update, number, {name: float(values[k]) for name, values in metrics.items()})


def log(run: RunState) -> None:
    """Write the means of the updates' metrics since the last time, if so many were made."""
    counters = run.counters
    if counters.metric_count >= run.config.train.log_every:
        means = {name: total / count for name, (total, count) in counters.metric_sums.items()}
        now = {
            "time/seconds": run.seconds,
            "time/loop_overhead": run.stopwatch.overhead,
            "explore/share": run.exploration.share,
            "time/memory_mb": memory_mb(),
        }
        run.record(means | now)
        counters.metric_sums, counters.metric_count = {}, 0


def note(run: RunState, update: Update, number: int, metrics: dict[str, float]) -> None:
    """The metrics of update `number`: measure surprise, move the schedule's gates, add to the sums for the next log."""
    config, counters = run.config, run.counters
    losses = surprise.components(metrics, run.world.images)
    losses["total"] = sum(scale * metrics[f"loss/{name}"] for name, scale in run.model_scales.items())
    counters.surprise, measured = surprise.measure(counters.surprise, losses, config.monitor.surprise_beta)
    metrics = metrics | measured | update.plan.metrics()
    counters.pacing = update_schedule.observe(
        config, counters.pacing, update.plan, metrics, env_steps=update.env_step, updates=number
    )
    for name, value in metrics.items():
        total, count = counters.metric_sums.get(name, (0.0, 0))
        counters.metric_sums[name] = (total + value, count + 1)
    counters.metric_count += 1


def require_finite(run: RunState, metrics: dict[str, np.ndarray]) -> None:
    """Raise DivergedError, naming them, if a loss is NaN or infinite, or a gradient, which would spoil the parameters."""
    bad = sorted(name for name, values in metrics.items() if not np.isfinite(values).all())
    losses = [name.removeprefix("loss/") for name in bad if name.startswith("loss/")]
    gradients = [name.removeprefix("gradient_norm/") for name in bad if name.startswith("gradient_norm/")]
    if losses or gradients:
        what = f"loss {', '.join(losses)}" if losses else f"gradient of {', '.join(gradients)}"
        last = run.latest.latest_step()
        kept = f"the checkpoint of environment step {last} is kept" if last is not None else "no checkpoint was made yet"
        raise DivergedError(f"update {run.counters.updates}: {what} is not finite; {kept}", 1)


def wrap_up(run: RunState, outcome: Outcome) -> Outcome:
    """A last evaluation if one is due, and the last checkpoint; returns when it is on disk: how the run ended after all."""
    run.trace.close()
    if outcome is Outcome.stopped:
        run.logger.message(f"stopped by a KL spike at update {run.counters.updates} (pacing.kl_spike=stop)")
    unseen = run.counters.updates > 0 and run.counters.last_step != run.env_steps
    if unseen and run.evaluates and run.config.train.eval_every and outcome is not Outcome.interrupted:
        try:
            reporting.evaluate(run)
        except Stopped:
            outcome = Outcome.interrupted
    resuming.save(run, run.latest, with_replay=True)
    run.latest.wait()
    run.best.wait()
    return Outcome.solved if outcome is Outcome.finished and run.solved else outcome


def rescue(run: RunState, error: UserError) -> None:
    """A last checkpoint of a run that an error ends; that it cannot be written is said, but does not hide the error.

    Of several processes, the others are at another step: they keep the checkpoint before.
    """
    if run.group.size > 1:
        return
    run.counters.fault = str(error)
    try:
        resuming.save(run, run.latest, with_replay=True)
        run.latest.wait()
    except UserError as failed:
        run.logger.message(f"error: {failed}")


def close(run: RunState, ending: Ending) -> None:
    """Write the summary and end everything that the run started.

    A run that could not be continued is left as it was, and only one of several processes writes. A fault in here does not
    hide the error that ended the run.
    """
    if not ending.began or not run.group.first:
        run.close()
        return
    try:
        try:
            summary.write_summary(run, ending)
        finally:
            run.close()
    except UserError:
        if ending.error is None:
            raise
    summary.say_goodbye(run, ending)


def run(config: Config) -> Result:
    """Train as configured, in a new run directory or continuing one; returns the exit code and how it ended."""
    stop = Stop()
    path = conduct(config, stop)
    return Result(stop.exit_code, summary.brief(path))


def run_together(members: Sequence[Config]) -> list[Result]:
    """Train a population; what each member ended with."""
    return train_together(members, conduct)


def conduct(
    config: Config,
    stop: Stop,
    *,
    source: Source | None = None,
    listener: Callable[[dict[str, float]], None] | None = None,
    learner_of: LearnerOf | None = None,
) -> Path:
    """`run`, for the command line and for Python: returns the run's directory when it has ended.

    Before it has begun, what asks `stop` to end it ends it at once. `source` makes the environments in place of `env.id`,
    `listener` is told each line of metrics, and `learner_of` makes the learner of a member of a population, of which others may
    go on.
    """
    stop.at_once = True
    with stop_on_signals(stop):
        prepare(config)
        forget()
        with joined(config, stop) as (group, config), ExitStack() as at_end:
            if learner_of is None:  # a sweep makes many runs in one process, and a process can map only so many programs
                at_end.callback(jax.clear_caches)
            directory = None
            if config.resume:
                path = group.gather(str(find_run(config.resume, config.run.root)))[0]
                directory = at_end.enter_context(closing(RunDirectory.open(path, lock=group.first)))
            state = RunState(config, directory, stop, group=group, source=source, listener=listener, learner_of=learner_of)
            carry_out(state, resumed=directory is not None)
            return state.directory.path


def carry_out(run: RunState, *, resumed: bool) -> None:
    """From the first step, or the last checkpoint of a run that is `resumed`, to the summary, whatever ends it."""
    ending = Ending()
    try:
        with jax.disable_jit(not run.config.jit), run.group.explained():
            if resumed:
                reporting.announce_resume(run, *resuming.restore(run))
            ending.began, run.own_stop.at_once = True, False
            ending.outcome = wrap_up(run, train(run))
    except BaseException as error:
        ending.failed(error)
        if isinstance(error, UserError):
            error.run = run.directory.path
            if ending.began and not isinstance(error, DivergedError):
                rescue(run, error)
        raise
    finally:
        close(run, ending)


if __name__ == "__main__":
    leave(main(run, together=run_together))
