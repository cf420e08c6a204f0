"""Evaluate a trained run: `python -m dreamerjax.evaluate run=runs/<id> episodes=100 video=true dream=true`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import MISSING
from PIL.Image import Image

from dreamerjax.agent.inference import Agent
from dreamerjax.config.cli import main
from dreamerjax.config.keys import key
from dreamerjax.core.console import say
from dreamerjax.core.files import user_path, write_json
from dreamerjax.core.stopping import Stop, leave, stop_on_signals
from dreamerjax.data.playing import EvaluationResult
from dreamerjax.diagnostics.calibration import EPISODES, words
from dreamerjax.training.evaluation import Acting, Evaluator
from dreamerjax.training.runtime import keep_programs, single_precision
from dreamerjax.visualization.calibration_figures import write_calibration
from dreamerjax.visualization.dream_film import FPS, draw_dream
from dreamerjax.visualization.episode_film import Film
from dreamerjax.visualization.video import write_video


class Checkpoint(Enum):
    """Which checkpoint of the run."""

    latest = "latest"
    best = "best"


@dataclass
class EvaluateConfig:
    """What to evaluate. The environment and the model come from the run itself."""

    run: str = key(MISSING, "A run directory, its name under `root`, or latest")
    episodes: int = key(100, "How many are played", least=1)
    checkpoint: Checkpoint = key(Checkpoint.latest)
    policy: Acting = key(Acting.greedy)
    seed: int = key(0, "Of the episodes and the policy", least=0, most=2**31 - 1)
    num_envs: int = key(20, "Environments side by side", least=1)
    root: str = key("runs", "Where runs lie")
    gap: bool = key(False, "Also compare dreams with reality: numbers into the JSON, pictures into the run's media/")
    video: bool = key(False, "Also film one more episode, that of the first seed, into the run's media/")
    dream: bool = key(False, "Also film a dream of that episode beside it, into the run's media/")
    output: str | None = key(None, "JSON file; by default evaluation_<checkpoint>_<policy>.json in the run directory")


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95% percentile-bootstrap interval of the mean of values [n]."""
    from scipy.stats import bootstrap

    if len(values) < 2 or np.ptp(values) == 0:
        return float(values.mean()), float(values.mean())
    rng = np.random.default_rng(seed)
    interval = bootstrap((values,), np.mean, method="percentile", n_resamples=10_000, rng=rng).confidence_interval
    return float(interval.low), float(interval.high)


def describe(result: EvaluationResult) -> dict[str, Any]:
    """Statistics over episodes."""
    low, high = bootstrap_interval(result.returns)
    return {
        "episodes": len(result.returns),
        "return_mean": float(result.returns.mean()),
        "return_std": float(result.returns.std()),
        "return_min": float(result.returns.min()),
        "return_max": float(result.returns.max()),
        "return_mean_95": [low, high],
        "length_mean": float(result.lengths.mean()),
        "episodes_cut": result.cut,
        "returns": result.returns.tolist(),
    }


def write_videos(agent: Agent, evaluator: Evaluator, film: Film | None, config: EvaluateConfig) -> list[Path]:
    """Play one more episode with the seed of the first: film it if there is a film for it, and dream along if asked to."""
    envs = None if film is None else film.envs
    (episode,) = evaluator.play(agent.all_params, config.policy, 1, config.seed, keep=1, envs=envs).played

    def write(kind: str, frames: Sequence[Image], fps: float) -> Path:
        name = f"{kind}_{agent.env_step:09d}_{config.checkpoint.value}_{config.policy.value}"
        return write_video(frames, fps, agent.run.media / name, f"video/{kind}", agent.env_step)

    written = [write("episode", film.frames(episode), film.fps)] if film is not None else []
    if config.dream:
        env = agent.config.env
        dream = evaluator.watch(agent.all_params, episode, config.seed)
        written.append(write("dream", draw_dream(dream, env.id, heading(agent, config), env.frame_stack), FPS))
    return written


def heading(agent: Agent, config: EvaluateConfig) -> str:
    """What a picture shows."""
    return f"{agent.config.env.id}, {agent.run.path.name}, {config.checkpoint.value} checkpoint, step {agent.env_step}"


def run(config: EvaluateConfig) -> int:
    """Play the episodes, print the statistics, write them as JSON; a signal ends it at once, and what is written is whole."""
    started = time.monotonic()
    single_precision()
    keep_programs()
    with stop_on_signals(Stop(at_once=True)) as stop:
        agent = Agent.load(config.run, checkpoint=config.checkpoint.value, root=config.root)
        evaluator = Evaluator(agent.config, agent.networks, config.seed, stop, most_envs=config.num_envs)
        with closing(evaluator), closing(Film(agent.config.env)) if config.video else nullcontext() as film:
            evaluate(agent, evaluator, config, started)
            if config.video or config.dream:
                say("videos:\n  " + "\n  ".join(map(str, write_videos(agent, evaluator, film, config))))
    return 0


def evaluate(agent: Agent, evaluator: Evaluator, config: EvaluateConfig, started: float) -> None:
    """Everything but the videos; `started` is when the command was."""
    keep = EPISODES if config.gap and config.policy is Acting.sampled else 0
    result = evaluator.play(agent.all_params, config.policy, config.episodes, config.seed, keep=keep)
    source = {
        "run": str(agent.run.path),
        "checkpoint": config.checkpoint.value,
        "env_step": agent.env_step,
        "env_id": agent.config.env.id,
        "policy": config.policy.value,
        "seed": config.seed,
    }
    report = source | describe(result)
    calibration = None
    if config.gap:
        sampled = result if keep else evaluator.play(agent.all_params, Acting.sampled, EPISODES, config.seed, keep=EPISODES)
        calibration = evaluator.calibrate(agent.all_params, sampled.played, config.seed)
        report["gap"] = {name.removeprefix("gap/"): value for name, value in calibration.metrics.items()}
    name = f"evaluation_{config.checkpoint.value}_{config.policy.value}.json"
    output = user_path(config.output) if config.output else agent.run.path / name
    low, high = report["return_mean_95"]
    if result.remark:
        say(f"warning: {result.remark}")
    say(
        f"{agent.config.env.id}, {config.policy.value} policy of {agent.run.path}, {config.checkpoint.value} checkpoint "
        f"(environment step {agent.env_step})\n"
        f"return over {config.episodes} episodes: mean {report['return_mean']:.2f} (95% interval {low:.2f} to {high:.2f}), "
        f"std {report['return_std']:.2f}, min {report['return_min']:.2f}, max {report['return_max']:.2f}"
    )
    write_json(output, report)
    say(f"{time.monotonic() - started:.1f} s, written to {output}")
    if calibration is not None:
        say(words(calibration, len(sampled.played), extra=config.policy is Acting.greedy))
        title, stack = heading(agent, config), agent.config.env.frame_stack
        pictures = write_calibration(calibration, agent.run.media, agent.env_step, title, stack)
        say("  " + "\n  ".join(map(str, pictures)))


if __name__ == "__main__":
    leave(main(run, schema=EvaluateConfig))
