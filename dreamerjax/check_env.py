"""Check an environment before training on it: `python -m dreamerjax.check_env env.id=module:EnvId [key=value ...]`.

It plays the environment with random actions, alone and as training has several of them, and says what the agent would see and
do, what the random policy reaches, how fast it is, and what is wrong with it. Nothing is trained and nothing is written.

    dreamerjax check-env env.id=CartPole-v1
    dreamerjax check-env env.id=my_module:Parking-v0 env.kwargs.size=3
    dreamerjax check-env env=pendulum env.vectorization=subprocess

It takes what training takes, so that the same words can follow `dreamerjax train`; `env.*` and `train.seed` count here.
It exits with 1 if something would break training or mislead it.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec as Registration
from gymnasium.utils.env_checker import check_env

from dreamerjax.config.cli import main
from dreamerjax.config.schema import Config, EnvConfig
from dreamerjax.core.console import say
from dreamerjax.core.errors import UserError
from dreamerjax.core.stopping import Stop, stop_on_signals
from dreamerjax.core.types import EnvSpec
from dreamerjax.envs import env_spec, make_env, make_vector_env
from dreamerjax.envs.boundary import fault
from dreamerjax.envs.descriptions import describe_action, describe_observation
from dreamerjax.envs.findings import problems, remarks
from dreamerjax.envs.random_rollouts import Alone, Together, play_alone, play_together

STEPS = 10_000  # of one environment alone
SECONDS_ALONE = 20.0  # at most, for a slow one
SECONDS_TOGETHER = 1.0  # of the vector environment
SHOWN = 8  # components whose range is printed one by one
# Recommendations of gymnasium's checker that do not matter here: actions are rescaled, bounds of observations are not used.
_NOISE = r".*(A Box (observation|action) space (minimum|maximum) value is|For Box action spaces, we recommend)"


def run(config: Config) -> int:
    """Play the environment with a random policy and print what it is, what was met, and what is wrong with it."""
    with stop_on_signals(Stop(at_once=True)), warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("ignore", _NOISE)
        with closing(make_env(config.env)) as env:
            registered = env.spec
            assert registered is not None
            spec = env_spec(env.observation_space, env.action_space)
            say("\n".join(introduction(config.env, registered, env.env, spec)))
            alone = play_alone(env, spec, config.train.seed, STEPS, SECONDS_ALONE)
            say("\n".join(statistics(alone, spec, config.train.seed)))
            together = Together(fault=alone.fault) if alone.fault else side_by_side(config, spec)
            complaints = complaints_of_gymnasium(env.unwrapped, config.env.id)
    if not together.fault:
        say("\n".join(repetitions(alone, together, config.env)))
    wrong = list(problems(registered, config.model, alone, together))
    notes = [*env.remarks, *remarks(registered, config.model, spec, alone, together), *complaints, *spoken(caught)]
    say("\n".join(verdict(wrong, notes)))
    return 1 if wrong else 0


def side_by_side(config: Config, spec: EnvSpec) -> Together:
    """Play the vector environment of training, until something happens that would end it."""
    with closing(make_vector_env(config.env, config.env.num_envs)) as envs:
        try:
            return play_together(envs, spec, config.train.seed, SECONDS_TOGETHER)
        except UserError as error:
            return Together(fault=str(error))


def complaints_of_gymnasium(env: gym.Env[Any, Any], name: str) -> list[str]:
    """What gymnasium's own checker fails on, apart from the warnings that it gives: the first such thing, if any."""
    try:
        check_env(env, skip_render_check=True, skip_close_check=True)
    except AssertionError as error:
        return [f"gymnasium's checker: {' '.join(str(error).split()) or type(error).__name__}"]
    except BaseException as error:
        return [str(fault(name, "gymnasium's checker", error))]
    return []


def spoken(caught: Sequence[warnings.WarningMessage]) -> list[str]:
    """The texts of warnings, each once, without gymnasium's colours."""
    texts = [" ".join(re.sub(r"\x1b\[[0-9;]*m|WARN: ", "", str(warning.message)).split()) for warning in caught]
    return [f"warning: {text}" for text in dict.fromkeys(texts)]


def introduction(config: EnvConfig, registered: Registration, env: gym.Env[Any, Any], spec: EnvSpec) -> Iterator[str]:
    """What the environment declares, and what the agent makes of it."""
    steps = registered.max_episode_steps
    limit = "no time limit" if steps is None else f"time limit {steps:,} steps"
    repeat = f", each action repeated {config.action_repeat} times" if config.action_repeat > 1 else ""
    yield f"{config.id}: {limit}{repeat}"
    yield "\nits spaces, as gymnasium has them"
    for kind, space in (("observation", env.observation_space), ("action", env.action_space)):
        yield f"  {kind:<12} {' '.join(str(space).split())}"
    yield "what the agent sees"
    for name, entry in spec.observations.items():
        yield f"  {name:<12} {describe_observation(entry)}"
    yield f"what it does\n  {'action':<12} {describe_action(spec.action)}"


def statistics(alone: Alone, spec: EnvSpec, seed: int) -> Iterator[str]:
    """Episodes, rewards and observations of the random policy."""
    stopped = "" if alone.complete or alone.fault else f" (stopped after {SECONDS_ALONE:g} s)"
    yield f"\nrandom policy, seed {seed}: {alone.steps:,} steps{stopped}, whole episodes: {len(alone.returns):,}"
    if alone.returns:
        for name, values in (("return", alone.returns), ("length", alone.lengths)):
            yield f"  {name:<12} mean {np.mean(values):.4g}, min {min(values):.4g}, max {max(values):.4g}"
        truncated = len(alone.terminated) - sum(alone.terminated)
        yield f"  {'ends':<12} {sum(alone.terminated):,} terminated, {truncated:,} truncated"
    if alone.rewards:
        share = np.count_nonzero(alone.rewards) / alone.steps
        yield f"  {'reward':<12} {min(alone.rewards):.4g} to {max(alone.rewards):.4g}, {share:.1%} of them not 0"
    for name, low in alone.low.items():
        yield f"  {name:<12} {describe_range(low, alone.high[name], vector=spec.observations[name].is_vector)}"


def describe_range(low: np.ndarray, high: np.ndarray, *, vector: bool) -> str:
    """Where an observation [...] was, and how many of its components stood still or, in a vector, were far from 0."""
    text = f"{low.min():.4g} to {high.max():.4g}"
    if 1 < low.size <= SHOWN:
        text = "; ".join(f"{least:.4g} to {most:.4g}" for least, most in zip(low, high, strict=True))
    beyond = f", {np.count_nonzero(np.maximum(-low, high) > 10):,} beyond 10 in size" if vector else ""
    return f"{text} ({low.size:,} component{'s' * (low.size > 1)}, {np.count_nonzero(low == high):,} constant{beyond})"


def repetitions(alone: Alone, together: Together, config: EnvConfig) -> Iterator[str]:
    """How fast it is, and whether it repeats itself."""
    one, several = alone.steps / alone.seconds, together.steps_per_second
    how = f"{config.num_envs} side by side ({config.vectorization.value})"
    yield f"  {'steps/s':<12} {one:,.0f} alone, {several:,.0f} with {how}"
    repeated = "another trajectory" if together.reset_differs or together.play_differs else "the same trajectory"
    other = "another one" if together.seed_matters else "the same one"
    yield f"  {'determinism':<12} {repeated} with the same seed and actions, {other} with another seed"


def verdict(wrong: Sequence[str], notes: Sequence[str]) -> Iterator[str]:
    """Problems and remarks, and how many."""
    yield ""
    yield from (f"problem: {text}" for text in wrong)
    yield from (f"remark: {text}" for text in notes)
    yield f"{len(wrong) or 'no'} problem{'s' * (len(wrong) != 1)}, {len(notes) or 'no'} remark{'s' * (len(notes) != 1)}"


if __name__ == "__main__":
    sys.exit(main(run))
