"""What a run says about itself: episodes, evaluations, the summary, the learning curve, the closing words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dreamerjax.config.schema import Mode
from dreamerjax.core.errors import UserError
from dreamerjax.data.collector import Episode
from dreamerjax.data.episodes import PlayedEpisode
from dreamerjax.storage.logger import EPISODE_RETURN, read_metrics
from dreamerjax.training.run_state import Session
from dreamerjax.training.runtime import process_seconds
from dreamerjax.visualization.calibration_figures import write_examination
from dreamerjax.visualization.learning_curve import write_learning_curve


@dataclass
class Ending:
    """How a run ended: `finished`, `solved`, `stopped`, `interrupted` or `failed`, and the error that ended it."""

    name: str = ""
    began: bool = False  # whether there is anything to save: not before a resumed run is restored
    error: BaseException | None = None

    def failed(self, error: BaseException) -> None:
        """An exception ended the run, however far it was; Ctrl-C twice is no fault."""
        self.error, self.name = error, "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"


def log_episode(session: Session, episode: Episode, *, random: bool) -> None:
    """One line per finished training episode."""
    if random:
        session.counters.baseline_returns.append(episode.return_)
    values = {EPISODE_RETURN: episode.return_, "episode/length": episode.length}
    session.record(values, episode.env_step)


def log_baseline(session: Session) -> None:
    """The mean return of the random policy, once it is done."""
    returns = session.counters.baseline_returns
    if not returns:
        session.logger.message("random policy: no episode ended, so there is no baseline return")
        return
    mean = session.counters.baseline_return = float(np.mean(returns))
    values = {"baseline/return_mean": mean, "baseline/episodes": len(returns)}
    session.record(values)
    session.logger.message(f"random policy: mean return {mean:.1f} over {len(returns)} episodes")


def evaluate(session: Session) -> None:
    """Evaluate the greedy and the sampled policy, log, and keep the best checkpoint."""
    counters = session.counters
    values: dict[str, float] = {}
    results = session.evaluate()
    for name, result in results.items():
        for statistic in ("mean", "std", "min", "max"):
            values[f"eval/{name}/return_{statistic}"] = float(getattr(result.returns, statistic)())
        values[f"eval/{name}/length_mean"] = float(result.lengths.mean())
    values["time/process_seconds"] = process_seconds()
    session.record(values)
    mean = counters.last_return = values["eval/greedy/return_mean"]
    counters.last_sampled_return, counters.last_step = values["eval/sampled/return_mean"], session.env_steps
    session.logger.message(
        f"step {session.env_steps}: evaluation greedy {mean:.1f} "
        f"(worst {values['eval/greedy/return_min']:.1f}), sampled {counters.last_sampled_return:.1f}"
    )
    if counters.best_return is None or mean > counters.best_return:
        solved_before = session.solved
        counters.best_return, counters.best_step = mean, session.env_steps
        if session.solved and not solved_before:
            counters.solved_step, counters.solved_seconds = session.env_steps, session.seconds
        session.save(session.best, with_replay=False)
    if played := results["sampled"].played:
        examine(session, played)


def examine(session: Session, played: Sequence[PlayedEpisode]) -> None:
    """Compare dreams with held-out episodes: metrics, figures in media/ and TensorBoard, and one line on the console."""
    found, step = session.examine(played), session.env_steps
    session.record(found.metrics)
    gap = {name.removeprefix("gap/"): value for name, value in found.metrics.items()}
    session.logger.message(
        f"step {step}: dreams promise a return of {gap['return_imagined']:.1f}, {gap['return_real']:.1f} follows; rank "
        f"correlation {gap['return_rank']:.2f}, worst step {gap['worst_step']:.0f}, KL {gap['kl']:.3f} nats"
    )
    title = f"{session.config.env.id}, {session.run.path.name}, step {step}"
    for path in write_examination(found, session.run.media, step, title, session.config.env.frame_stack):
        if path.suffix == ".png":
            session.logger.image(f"gap/{path.stem.rpartition('_')[0]}", path, step)
    if session.config.monitor.dream_videos and found.open_loop is not None:
        film_dream(session, played[0], title)


def film_dream(session: Session, episode: PlayedEpisode, title: str) -> None:
    """A video of the averaged agent dreaming along with a held-out episode, in media/ and TensorBoard."""
    from dreamerjax.visualization.dream_film import FPS, draw_dream  # slow to import, as the next
    from dreamerjax.visualization.video import write_video

    env, step = session.config.env, session.env_steps
    dream = session.evaluator.watch(session.learner.average(), episode, step)
    write_video(
        draw_dream(dream, env.id, title, env.frame_stack),
        FPS,
        session.run.media / f"dream_{step:09d}_sampled",
        "video/dream",
        step,
    )


def announce_resume(session: Session, exact: bool, reason: str) -> None:
    """Say from where the run goes on, and whether it is bit for bit the run that was interrupted."""
    where = f"resumed {session.run.path} at environment step {session.env_steps}, update {session.counters.updates}"
    how = "exactly" if exact else f"continued, not exact: {reason}"
    session.logger.message(f"{where}: {how}")
    session.logger.log_text("resume", f"{where}: {how}", step=session.env_steps)


def wrap_up(session: Session, ending: Ending) -> None:
    """A last evaluation unless interrupted, and the last checkpoint; returns when it is on disk."""
    session.trace.close()
    due = session.evaluates and session.counters.updates and session.counters.last_step != session.env_steps
    if due and ending.name != "interrupted":
        evaluate(session)
    if ending.name == "finished" and session.solved:
        ending.name = "solved"
    session.save(session.latest, with_replay=True)
    session.latest.wait()
    session.best.wait()


def rescue(session: Session, error: UserError) -> None:
    """A last checkpoint of a run that an error ends; that it cannot be written is said, but does not hide the error."""
    session.counters.fault = str(error)
    try:
        session.save(session.latest, with_replay=True)
        session.latest.wait()
    except UserError as failed:
        session.logger.message(f"error: {failed}")


def close(session: Session, ending: Ending) -> None:
    """Write the report and end everything that the session started.

    A run that could not be continued is left as it was. A fault in here does not hide the error that ended the run.
    """
    if not ending.began:
        session.close()
        return
    try:
        try:
            write_report(session, ending)
        finally:
            session.close()
    except UserError:
        if ending.error is None:
            raise
    say_goodbye(session, ending)


def write_report(session: Session, ending: Ending) -> None:
    """The summary, then the learning curve."""
    counters, run = session.counters, session.run
    run.write_summary(
        {
            "outcome": ending.name,
            "error": None if ending.error is None else f"{type(ending.error).__name__}: {ending.error}",
            "env_steps": session.env_steps,
            "updates": counters.updates,
            "episodes": session.collector.episodes,
            "seconds": session.seconds,
            "process_seconds": process_seconds(),
            "first_update_seconds": session.stopwatch.first_update,
            "loop_overhead": session.stopwatch.overhead,
            "baseline_return": counters.baseline_return,
            "solved_step": counters.solved_step if session.solved else None,
            "solved_seconds": counters.solved_seconds if session.solved else None,
            "last_return": counters.last_return,
            "last_sampled_return": counters.last_sampled_return,
            "last_step": counters.last_step,
            "best_return": counters.best_return,
            "best_step": counters.best_step,
            "findings": session.watch.summary(),
            "replay_steps": len(session.replay),
            "replay_bytes": session.replay.nbytes,
        }
    )
    write_learning_curve(
        read_metrics(run.metrics),
        run.media / "learning_curve.png",
        title=f"{session.config.env.id}, {run.path.name}",
        threshold=session.config.train.stop_at_return,
    )


def say_goodbye(session: Session, ending: Ending) -> None:
    """Where the run ended, what it reached, and where to look."""
    counters, path = session.counters, session.run.path
    reached, dream = "no evaluation", ""
    if session.config.mode is Mode.bootstrap:
        reached = "a world model"
        dream = f"  dream:     python -m dreamerjax.train mode=dreamer from={path}\n"
    if counters.last_return is not None and counters.best_return is not None:
        reached = f"evaluation {counters.last_return:.1f}, best {counters.best_return:.1f} at step {counters.best_step}"
    findings = [f"  finding:   {found['name']} at step {found['first_step']}\n" for found in session.watch.summary()]
    print(
        f"{ending.name} after {session.env_steps} environment steps, {counters.updates} updates, "
        f"{process_seconds():.0f} s since the process started: {reached}\n"
        f"{''.join(findings)}{dream}  evaluate:  python -m dreamerjax.evaluate run={path} episodes=100\n"
        f"  continue:  python -m dreamerjax.train resume={path}\n"
        f"  curve:     {path / 'media' / 'learning_curve.png'}\n"
        f"  metrics:   {path / 'metrics.jsonl'} and TensorBoard events in {path}",
        flush=True,
    )
