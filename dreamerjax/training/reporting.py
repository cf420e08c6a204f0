"""What a run says and keeps while it goes on: episodes, the random baseline, evaluations, dreams against reality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from dreamerjax.core.formatting import number
from dreamerjax.core.machine import process_seconds
from dreamerjax.data.collector import Episode
from dreamerjax.data.playing import PlayedEpisode
from dreamerjax.diagnostics.calibration import EPISODES, CalibrationReport
from dreamerjax.envs import Purpose, episode_seed
from dreamerjax.storage.logger import EPISODE_RETURN
from dreamerjax.training import resuming, update_schedule
from dreamerjax.training.counters import Counters
from dreamerjax.training.evaluation import Acting
from dreamerjax.training.run_state import RunState
from dreamerjax.training.world import EVALUATION_SEED
from dreamerjax.visualization.calibration_figures import write_calibration


def log_episode(run: RunState, episode: Episode, *, random: bool) -> None:
    """One line per finished training episode."""
    if random:
        run.counters.baseline_returns.append(episode.return_)
    values = {EPISODE_RETURN: episode.return_, "episode/length": episode.length}
    run.record(values, episode.env_step)


def log_baseline(run: RunState) -> None:
    """The mean return of the random policy, once it is done."""
    returns = run.counters.baseline_returns
    if not returns:
        run.logger.message("random policy: no episode ended, so there is no baseline return")
        return
    mean = run.counters.baseline_return = float(np.mean(returns))
    run.record({"baseline/return_mean": mean, "baseline/episodes": len(returns)})
    run.logger.message(f"random policy: mean return {number(mean)} over {len(returns)} episodes")


def evaluate(run: RunState) -> None:
    """Evaluate the averaged agent, greedy and sampled, log, keep the best checkpoint, and examine dreams if that is due.

    The first of several processes does, and the others take over what it counts.

    Raises Stopped if the run is to end first: nothing is logged then, and the evaluation stays due.
    """
    if run.group.size == 1:
        _evaluate(run)
    else:
        counted = run.group.lead(lambda: asdict(_evaluate(run)))
        vars(run.counters).update(vars(Counters.from_json(counted)))


def _evaluate(run: RunState) -> Counters:
    config, counters, step = run.config, run.counters, run.env_steps
    seed = episode_seed(config.train.seed, Purpose.evaluation, EVALUATION_SEED, step)
    examined = update_schedule.crossed(counters.examined_step, step, config.monitor.dreams_every)
    agent, results, values = run.learner.averaged(), {}, {}
    for acting in Acting:
        keep = EPISODES if examined and acting is Acting.sampled else 0
        result = results[acting] = run.evaluator.play(agent, acting, config.train.eval_episodes, seed, keep=keep)
        for statistic in ("mean", "std", "min", "max"):
            values[f"eval/{acting.value}/return_{statistic}"] = float(getattr(result.returns, statistic)())
        values[f"eval/{acting.value}/length_mean"] = float(result.lengths.mean())
    played = results[Acting.sampled].played
    found = run.evaluator.calibrate(agent, played, step) if played else None
    counters.evaluation_due = False
    if run.evaluator.shared is not None:
        run.collector.begin_again()
    values["time/process_seconds"] = process_seconds()
    run.record(values)
    greedy, sampled = values["eval/greedy/return_mean"], values["eval/sampled/return_mean"]
    worst = values["eval/greedy/return_min"]
    run.logger.message(f"step {step}: evaluation greedy {number(greedy)} (worst {number(worst)}), sampled {number(sampled)}")
    for acting, result in results.items():
        if result.remark:
            run.logger.message(f"step {step}: warning: evaluation {acting.value}: {result.remark}")
    solved_before = run.solved
    if counters.improves(step, greedy, sampled):
        if run.solved and not solved_before:
            counters.solved_step, counters.solved_seconds = step, run.seconds
        resuming.save(run, run.best, with_replay=False)
    if found is not None:
        log_calibration(run, found, played)
    return counters


def log_calibration(run: RunState, found: CalibrationReport, played: Sequence[PlayedEpisode]) -> None:
    """Dreams against held-out episodes: metrics, figures in media/ and TensorBoard, and one line on the console.

    Raises Stopped if the run is to end before every figure is drawn.
    """
    step = run.counters.examined_step = run.env_steps
    run.record(found.metrics)
    gap = {name.removeprefix("gap/"): value for name, value in found.metrics.items()}
    run.logger.message(
        f"step {step}: dreams promise a return of {number(gap['return_imagined'])}, {number(gap['return_real'])} follows; "
        f"rank correlation {gap['return_rank']:.2f}, worst step {gap['worst_step']:.0f}, KL {gap['kl']:.3f} nats"
    )
    run.own_stop.look()
    title = f"{run.config.env.id}, {run.directory.path.name}, step {step}"
    for path in write_calibration(found, run.directory.media, step, title, run.config.env.frame_stack):
        if path.suffix == ".png":
            run.logger.events.image(step, f"gap/{path.stem.rpartition('_')[0]}", path.read_bytes())
    if run.config.monitor.dream_videos and found.open_loop is not None:
        run.own_stop.look()
        film_dream(run, played[0], title)


def film_dream(run: RunState, episode: PlayedEpisode, title: str) -> None:
    """A video of the averaged agent dreaming along with a held-out episode, in media/ and TensorBoard."""
    from dreamerjax.visualization.dream_film import FPS, draw_dream  # slow to import, as the next
    from dreamerjax.visualization.video import write_video

    env, step = run.config.env, run.env_steps
    dream = run.evaluator.watch(run.learner.averaged(), episode, step)
    frames = run.own_stop.wait_for(draw_dream, dream, env.id, title, env.frame_stack)
    write_video(frames, FPS, run.directory.media / f"dream_{step:09d}_sampled", "video/dream", step)


def announce_resume(run: RunState, exact: bool, reason: str) -> None:
    """Say from where the run goes on, and whether it is bit for bit the run that was interrupted."""
    if not run.group.first:
        return
    where = f"resumed {run.directory.path} at environment step {run.env_steps}, update {run.counters.updates}"
    how = "exactly" if exact else f"continued, not exact: {reason}"
    run.logger.message(f"{where}: {how}")
    run.logger.events.text(run.env_steps, "resume", f"{where}: {how}")
