"""What the next iteration of the loop does: pure functions of step counts and the configuration."""

from __future__ import annotations

import math

from dreamerjax.config import TrainConfig


def crossed(before: int, now: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, now]; never for an `every` of 0."""
    return every > 0 and now // every > before // every


def update_rate(config: TrainConfig) -> float:
    """Updates per environment step: the train ratio over the steps that one update replays."""
    return config.train_ratio / (config.batch_size * config.batch_length)


def updates_due(config: TrainConfig, env_steps: int, updates: int) -> int:
    """Updates that the train ratio owes for the environment steps since the random ones; below 0 if none."""
    return math.floor((env_steps - config.random_steps) * update_rate(config)) - updates


def steps_until_event(config: TrainConfig, env_steps: int, updates: int) -> int:
    """Environment steps until the next update is due, or until an evaluation, a checkpoint, or the end, if sooner.

    0 if an update is due already. While the random policy acts, its end is an event too.
    """
    if env_steps >= config.random_steps and updates_due(config, env_steps, updates) >= config.updates_per_call:
        return 0
    events = [(env_steps // n + 1) * n for n in (config.eval_every, config.checkpoint_every) if n]
    events += [config.steps, config.random_steps] if env_steps < config.random_steps else [config.steps]
    events.append(config.random_steps + math.ceil((updates + config.updates_per_call) / update_rate(config)))
    return max(1, min(events) - env_steps)
