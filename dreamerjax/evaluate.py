"""Evaluate a trained run: `python -m dreamerjax.evaluate run=runs/<id> episodes=100`."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import MISSING

from dreamerjax.cli import main
from dreamerjax.collect import EvaluationResult, evaluate_policy
from dreamerjax.envs import make_vector_env
from dreamerjax.errors import UserError
from dreamerjax.files import write_json
from dreamerjax.inference import Agent
from dreamerjax.runtime import keep_programs


class Checkpoint(Enum):
    """Which checkpoint of the run."""

    latest = "latest"
    best = "best"


class Acting(Enum):
    """Which policy: the most probable action, or a sample."""

    greedy = "greedy"
    sampled = "sampled"


@dataclass
class EvaluateConfig:
    """What to evaluate. The environment and the model come from the run itself."""

    run: str = MISSING  # a run directory, an id under `root`, or `latest`
    episodes: int = 100
    checkpoint: Checkpoint = Checkpoint.latest
    policy: Acting = Acting.greedy
    seed: int = 0  # of the episodes and the policy
    num_envs: int = 20  # environments side by side
    root: str = "runs"
    output: str | None = None  # JSON file; by default evaluation_<checkpoint>_<policy>.json in the run directory


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
        "returns": result.returns.tolist(),
    }


def run(config: EvaluateConfig) -> int:
    """Play the episodes, print the statistics, write them as JSON."""
    for key in ("episodes", "num_envs"):
        if getattr(config, key) < 1:
            raise UserError(f"{key}={getattr(config, key)} must be at least 1")
    started = time.monotonic()
    keep_programs()
    agent = Agent.load(config.run, checkpoint=config.checkpoint.value, root=config.root)
    count = min(config.num_envs, config.episodes)
    envs = make_vector_env(agent.config.env, count)
    try:
        policy = agent.policy(count, greedy=config.policy is Acting.greedy, seed=config.seed)
        result = evaluate_policy(envs, agent.spec, policy, config.episodes, config.seed)
    finally:
        envs.close()
    source = {
        "run": str(agent.run.path),
        "checkpoint": config.checkpoint.value,
        "env_step": agent.env_step,
        "env_id": agent.config.env.id,
        "policy": config.policy.value,
        "seed": config.seed,
    }
    report = source | describe(result)
    name = f"evaluation_{config.checkpoint.value}_{config.policy.value}.json"
    output = Path(config.output) if config.output else agent.run.path / name
    write_json(output, report)
    low, high = report["return_mean_95"]
    print(
        f"{agent.config.env.id}, {config.policy.value} policy of {agent.run.path}, {config.checkpoint.value} checkpoint "
        f"(environment step {agent.env_step})\n"
        f"return over {config.episodes} episodes: mean {report['return_mean']:.2f} (95% interval {low:.2f} to {high:.2f}), "
        f"std {report['return_std']:.2f}, min {report['return_min']:.2f}, max {report['return_max']:.2f}\n"
        f"{time.monotonic() - started:.1f} s, written to {output}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(run, schema=EvaluateConfig))
