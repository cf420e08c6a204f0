"""When updates and events happen: the loop of train.py, simulated with counters."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dreamerjax.config.schema import TrainConfig
from dreamerjax.training import update_schedule


@dataclass(frozen=True)
class Visit:
    """One pass of the loop: counters before it, after its updates, and after its environment steps."""

    before: int
    updates: int
    after: int


@st.composite
def configs(draw: st.DrawFn) -> TrainConfig:
    """Small runs, of more and of less than one update per environment step."""
    return TrainConfig(
        steps=draw(st.integers(1, 400)),
        train_ratio=draw(st.sampled_from([0.5, 1.0, 3.0, 16.0, 128.0])),
        batch_size=draw(st.sampled_from([1, 2, 3])),
        batch_length=draw(st.sampled_from([2, 5, 16])),
        updates_per_call=draw(st.integers(1, 4)),
        random_steps=draw(st.integers(0, 120)),
        eval_every=draw(st.sampled_from([0, 7, 50])),
        checkpoint_every=draw(st.sampled_from([11, 100])),
    )


def simulate(config: TrainConfig, num_envs: int) -> list[Visit]:
    """The loop: dispatch an update if one is due, then step all environments until the next event."""
    env_steps, updates, visits = 0, 0, []
    while env_steps < config.steps:
        before, old = env_steps, updates
        due = update_schedule.updates_due(config, env_steps, updates)
        if env_steps >= config.random_steps and due >= config.updates_per_call:
            updates += config.updates_per_call
        steps = update_schedule.steps_until_event(config, env_steps, updates)
        env_steps += math.ceil(steps / num_envs) * num_envs
        assert env_steps > before or updates > old, "the loop stands still"
        visits.append(Visit(before, updates, env_steps))
    return visits


def owed(config: TrainConfig, env_steps: int) -> int:
    """floor((steps - random) * rate), exactly."""
    rate = Fraction(config.train_ratio) / (config.batch_size * config.batch_length)
    return math.floor((env_steps - config.random_steps) * rate)


@given(configs(), st.integers(1, 9))
@settings(deadline=None, max_examples=200)
def test_updates_are_what_the_train_ratio_owes(config: TrainConfig, num_envs: int) -> None:
    """Never ahead, and less than one call behind whenever the environments are stepped on."""
    rounding = 1  # the rate is a float: a product that is a whole number may round down
    for visit in simulate(config, num_envs):
        debt = owed(config, visit.before) - visit.updates
        assert debt >= 0 or visit.updates == 0
        if visit.after > visit.before and visit.before >= config.random_steps:
            assert debt < config.updates_per_call + rounding


@given(configs(), st.integers(1, 9))
@settings(deadline=None, max_examples=200)
def test_no_event_is_overshot_by_more_than_one_tick(config: TrainConfig, num_envs: int) -> None:
    for visit in simulate(config, num_envs):
        events = [config.steps, *(n for n in (config.random_steps,) if visit.before < n)]
        events += [(visit.before // n + 1) * n for n in (config.eval_every, config.checkpoint_every) if n]
        assert visit.after <= min(events) + num_envs - 1


@given(configs(), st.integers(1, 9))
@settings(deadline=None, max_examples=100)
def test_no_update_before_the_random_steps_are_over(config: TrainConfig, num_envs: int) -> None:
    for visit in simulate(config, num_envs):
        assert visit.updates == 0 or visit.before >= config.random_steps


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 20))
def test_crossed_counts_multiples(before: int, length: int, every: int) -> None:
    now = before + length
    multiples = [n for n in range(before + 1, now + 1) if every and n % every == 0]
    assert update_schedule.crossed(before, now, every) == bool(multiples)


def test_the_defaults_update_once_in_four_steps_after_the_random_ones() -> None:
    config = TrainConfig(train_ratio=128.0, batch_size=16, batch_length=32, random_steps=500)
    assert update_schedule.update_rate(config) == 0.25
    assert [update_schedule.updates_due(config, 500 + steps, 0) for steps in (-4, 0, 3, 4, 7, 400)] == [-1, 0, 0, 1, 1, 100]
    assert update_schedule.steps_until_event(config, 500, 0) == 4
    assert update_schedule.steps_until_event(config, 504, 0) == 0
    assert update_schedule.steps_until_event(config, 504, 1) == 4


@given(configs())
def test_an_event_is_always_ahead(config: TrainConfig) -> None:
    assume(config.random_steps < config.steps)
    for env_steps in range(0, config.steps, 13):
        updates = max(0, owed(config, env_steps))
        assert update_schedule.steps_until_event(config, env_steps, updates + 5) >= 1
