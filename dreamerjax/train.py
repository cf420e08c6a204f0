"""Train an agent: `python -m dreamerjax.train [key=value ...]`. The loop, read top to bottom, is `train`."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from dreamerjax.config.cli import main
from dreamerjax.config.schema import Config
from dreamerjax.core.errors import UserError
from dreamerjax.core.run_directory import RunDirectory
from dreamerjax.data.replay import Sample
from dreamerjax.diagnostics import surprise
from dreamerjax.training import summary, update_schedule
from dreamerjax.training.build import replay_batch
from dreamerjax.training.run_state import Session
from dreamerjax.training.runtime import Stop, memory_mb, prepare, stop_on_signals


@dataclass
class Update:
    """An update that the device works on."""

    sample: Sample
    plan: update_schedule.Plan
    env_step: int  # when it was handed over
    metrics: dict[str, jax.Array]
    latents: Any
    started: float  # time.monotonic() when it was handed over


class DivergedError(UserError):
    """A loss is NaN or infinite: the state must not overwrite a good checkpoint."""


def train(session: Session, stop: Stop) -> str:
    """Collect, update, log, save, until done; returns the outcome: `finished`, `solved`, `stopped` or `interrupted`.

    The device works on an update while the environments are stepped with the parameters before it. Between two updates
    everything stands still: there, and only there, evaluations and checkpoints are made.
    """
    config, counters = session.config.train, session.counters
    while not update_schedule.ended(config, session.env_steps, counters.updates):
        if session.solved:
            return "solved"
        if counters.pacing.stop:
            session.logger.message(f"stopped by a KL spike at update {counters.updates} (update_schedule.kl_spike=stop)")
            return "stopped"
        if stop.signal is not None:
            return "interrupted"
        before = session.env_steps
        update = dispatch(session)
        try:
            collect(session)
        finally:
            if update is not None:
                finish(session, update)
        session.logger.progress(session.env_steps, counters.updates)
        if update_schedule.crossed(before, session.env_steps, config.eval_every) and counters.updates and session.evaluates:
            summary.evaluate(session)
        ended = update_schedule.ended(config, session.env_steps, counters.updates)
        if update_schedule.crossed(before, session.env_steps, config.checkpoint_every) and not ended:
            session.save(session.latest, with_replay=True)
    return "finished"


def dispatch(session: Session) -> Update | None:
    """Sample and start an update of what pacing chooses, if one is due; returns at once."""
    config, counters = session.config, session.counters
    calls = config.train.updates_per_call
    if session.env_steps < config.train.random_steps or not session.replay.ready():
        return None
    plan = update_schedule.plan(config, counters.pacing, session.env_steps, counters.best_return)
    if update_schedule.updates_due(config.train, session.env_steps, counters.owed_updates) < calls:
        return None
    session.trace.before(counters.updates, calls)
    sample = session.replay.sample(calls, config.train.batch_size)
    batches, started = replay_batch(session.world.spec, sample), time.monotonic()
    metrics, latents = session.learner.update(session.hyper(plan), batches, plan.trains)
    counters.updates += calls
    return Update(sample, plan, session.env_steps, metrics, latents, started)


def collect(session: Session) -> None:
    """Step the environments until the next event: with the random policy first, then with the run's own."""
    config, counters = session.config.train, session.counters
    random = session.env_steps < config.random_steps
    if update_schedule.ended(config, session.env_steps, counters.updates):
        return
    steps = update_schedule.steps_until_event(config, session.env_steps, counters.owed_updates)
    if not session.replay.ready():  # an update may be due before there is a sequence to learn from
        steps = max(steps, 1)
    ticks = -(-steps // session.config.env.num_envs)
    policy = session.random_policy if random else session.collecting
    for _ in range(ticks):  # one by one: a fault must not lose the episodes before it
        for episode in session.collector.collect(policy, 1):
            summary.log_episode(session, episode, random=random)
    if random and session.env_steps >= config.random_steps:
        summary.log_baseline(session)


def finish(session: Session, update: Update) -> None:
    """Wait for an update: take over its parameters and latents, check its losses, let pacing see it, log."""
    config, counters = session.config, session.counters
    metrics = {name: np.asarray(values, np.float64) for name, values in jax.device_get(update.metrics).items()}
    session.stopwatch.update(update.started)
    require_finite(session, metrics)
    session.follow(session.learner.acting)
    if config.replay.context:
        latent = session.learner.latents(update.latents)
        session.replay.refresh(update.sample.position, {"deter": latent.deter, "stoch": latent.stoch})
    for k in range(config.train.updates_per_call):
        number = counters.updates - config.train.updates_per_call + k + 1
        note(session, update, number, {name: float(values[k]) for name, values in metrics.items()})
    if counters.metric_count >= config.train.log_every:
        means = {name: total / count for name, (total, count) in counters.metric_sums.items()}
        times = {
            "time/seconds": session.seconds,
            "time/loop_overhead": session.stopwatch.overhead,
            "time/memory_mb": memory_mb(),
        }
        session.record(means | times)
        counters.metric_sums, counters.metric_count = {}, 0


def note(session: Session, update: Update, number: int, metrics: dict[str, float]) -> None:
    """The metrics of update `number`: measure surprise, move the gates of pacing, add to the sums for the next log."""
    config, counters = session.config, session.counters
    losses = surprise.components(metrics, session.world.images)
    losses["total"] = sum(scale * metrics[f"loss/{name}"] for name, scale in session.model_scales.items())
    counters.surprise, measured = surprise.measure(counters.surprise, losses, config.monitor.surprise_beta)
    metrics = metrics | measured | update.plan.metrics()
    counters.pacing = update_schedule.observe(config, counters.pacing, update.plan, metrics, update.env_step, number)
    for name, value in metrics.items():
        total, count = counters.metric_sums.get(name, (0.0, 0))
        counters.metric_sums[name] = (total + value, count + 1)
    counters.metric_count += 1


def require_finite(session: Session, metrics: dict[str, np.ndarray]) -> None:
    """Raise DivergedError, naming them, if a loss is NaN or infinite, or a gradient, which would spoil the parameters."""
    bad = sorted(name for name, values in metrics.items() if not np.isfinite(values).all())
    losses = [name.removeprefix("loss/") for name in bad if name.startswith("loss/")]
    gradients = [name.removeprefix("gradient_norm/") for name in bad if name.startswith("gradient_norm/")]
    if losses or gradients:
        what = f"loss {', '.join(losses)}" if losses else f"gradient of {', '.join(gradients)}"
        last = session.latest.latest_step()
        kept = f"the checkpoint of environment step {last} is kept" if last is not None else "no checkpoint was made yet"
        raise DivergedError(f"update {session.counters.updates}: {what} is not finite; {kept}", 1)


def run(config: Config) -> int:
    """Train as configured, in a new run directory or continuing one; returns the exit code."""
    prepare(config)
    directory = RunDirectory.open(config.resume, root=config.run.root, lock=True) if config.resume else None
    session = Session(config, directory)
    ending = summary.Ending()
    try:
        with jax.disable_jit(not config.jit), stop_on_signals() as stop:
            if directory is not None:
                summary.announce_resume(session, *session.restore())
            ending.began = True
            ending.name = train(session, stop)
            summary.wrap_up(session, ending)
            return stop.exit_code
    except BaseException as error:
        ending.failed(error)
        if ending.began and isinstance(error, UserError) and not isinstance(error, DivergedError):
            summary.rescue(session, error)
        raise
    finally:
        summary.close(session, ending)
        jax.clear_caches()  # a sweep makes many runs in one process, and a process can map only so many programs


if __name__ == "__main__":
    sys.exit(main(run))
