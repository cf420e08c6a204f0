"""What a uniformly random policy meets in an environment: alone, and side by side with others as training steps it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from dreamerjax.core.errors import EnvironmentFault
from dreamerjax.core.types import ActFunction, ActionSpec, Arrays, EnvSpec
from dreamerjax.envs import Adapter, Envs, Progress, Purpose, Snapshot, Stepper, episode_seed
from dreamerjax.envs.membership import Mismatch, mismatches


def random_policy(action_spec: ActionSpec, rng: np.random.Generator) -> ActFunction:
    """Uniform over the action space, without latents. Draws from (and advances) the caller's generator."""

    def policy(observations: Arrays, is_first: np.ndarray) -> tuple[np.ndarray, Mapping[str, Any]]:
        shape = (len(is_first), *action_spec.shape)
        if action_spec.is_discrete:
            return rng.integers(0, action_spec.sizes, size=shape, dtype=np.int32), {}
        return rng.uniform(-1.0, 1.0, size=shape).astype(np.float32), {}

    return policy


@dataclass
class Alone:
    """One environment, played for a number of steps. An episode that was cut there is in `rewards` alone."""

    returns: list[float] = field(default_factory=list)  # of the episodes that ended
    lengths: list[int] = field(default_factory=list)
    terminated: list[bool] = field(default_factory=list)  # False: truncated
    rewards: list[float] = field(default_factory=list)  # of every step
    low: Arrays = field(default_factory=dict)  # {name: [size]}, the least of each component that the agent was shown
    high: Arrays = field(default_factory=dict)  # ... and the greatest
    observations: int = 0
    outside: Counter[Mismatch] = field(default_factory=Counter)  # how many observations; the words are those of the first
    seconds: float = 0.0  # inside the environment's `reset` and `step`
    complete: bool = False  # all steps were played
    fault: str = ""  # what ended it, and would end training

    @property
    def steps(self) -> int:
        return len(self.rewards)


@dataclass(frozen=True)
class Together:
    """A vector environment, played for a time."""

    steps_per_second: float = 0.0  # over all environments, the drawing of actions included
    reset_differs: str = ""  # what differs when an episode is begun again with its seed; "" if nothing
    play_differs: str = ""  # what differs when an episode is played again with its seed and actions; "" if nothing
    seed_matters: bool = False  # another seed leads elsewhere
    fault: str = ""  # what ended it, and would end training; the rest is then unknown


def play_alone(env: Adapter, spec: EnvSpec, seed: int, steps: int, seconds: float) -> Alone:
    """Play `steps` steps, or as many as `seconds` inside the environment allow.

    The first thing that would end training (an exception, an observation or reward that is not valid) ends this too.
    """
    result = Alone()
    env.watch = partial(_compare, result, env.env.observation_space)
    policy = random_policy(spec.action, np.random.default_rng(seed))
    try:
        while result.steps < steps and result.seconds < seconds:
            begun = result.steps
            episode = episode_seed(seed, Purpose.training, 0, len(result.returns))
            _note(result, _timed(result, env.reset, seed=episode)[0])
            over = False
            while not over and result.steps < steps and result.seconds < seconds:
                action = policy({}, np.ones(1, np.bool_))[0][0]
                observation, reward, terminated, truncated, _ = _timed(result, env.step, action)
                over = terminated or truncated
                _note(result, observation)
                result.rewards.append(reward)
            if over:
                result.returns.append(sum(result.rewards[begun:]))
                result.lengths.append(result.steps - begun)
                result.terminated.append(terminated)
        result.complete = result.steps >= steps
    except EnvironmentFault as error:
        result.fault = f"after environment step {result.steps}: {error}"
    finally:
        env.watch = lambda observation: None
    return result


def play_together(envs: Envs, spec: EnvSpec, seed: int, seconds: float) -> Together:
    """Step all environments for `seconds`, then play the episodes they are in again, as a resumed run does.

    Raises UserError for the first thing that would end training.
    """
    n, everyone = envs.num_envs, np.ones(envs.num_envs, np.bool_)
    policy = random_policy(spec.action, np.random.default_rng(seed))
    stepper, progress = Stepper(envs), Progress(n, spec.action, seed)
    reset_differs = _again(envs, progress.snapshots(stepper.reset(everyone, progress.seeds, 0)))
    observations, done, steps = stepper.reset(everyone, progress.seeds, 0), everyone, 0
    started = time.perf_counter()
    # A little longer if all episodes begin together at that moment: there would be nothing to play again.
    while (elapsed := time.perf_counter() - started) < seconds or (done.all() and elapsed < 2 * seconds):
        action = np.asarray(policy(observations, done)[0])
        observations, reward, terminated, truncated = stepper.step(action, steps)
        steps += n
        progress.advance(action, reward)
        done = terminated | truncated
        if done.any():
            progress.begin(done.nonzero()[0])
            observations = stepper.reset(done, progress.seeds, steps)
    snapshots = progress.snapshots(observations)
    play_differs = _again(envs, snapshots)
    elsewhere = _again(envs, [replace(snapshot, seed=snapshot.seed ^ 1) for snapshot in snapshots])
    return Together(steps / elapsed, reset_differs, play_differs, bool(elsewhere))


def _again(envs: Envs, snapshots: Sequence[Snapshot]) -> str:
    """What differs, in the first stream where something does; "" if every stream gets to its snapshot."""
    envs.set_attr("pending", list(snapshots))
    return next((reason for reason in envs.call("restore") if reason), "")


def _timed(result: Alone, function: Any, *args: Any, **kwargs: Any) -> Any:
    started = time.perf_counter()
    try:
        return function(*args, **kwargs)
    finally:
        result.seconds += time.perf_counter() - started


def _compare(result: Alone, space: gym.Space[Any], observation: Any) -> None:
    """Compare an observation with the environment's own space."""
    result.observations += 1
    result.outside.update(mismatches(space, observation))


def _note(result: Alone, observation: Arrays) -> None:
    for name, values in observation.items():
        result.low[name] = np.minimum(values, result.low.get(name, values))
        result.high[name] = np.maximum(values, result.high.get(name, values))
