"""When updates and events happen: the loop of train.py, simulated with counters."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dreamerjax.config.composition import load_config
from dreamerjax.config.schema import TrainConfig
from dreamerjax.training import update_schedule
from dreamerjax.training.counters import Counters, pace_of


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


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["train.steps=200", "train.random_steps=500"], "train.random_steps=500"),
        (["train.steps=500", "train.random_steps=500"], "train.random_steps=500"),
        (["train.steps=600", "env.num_envs=16"], "train.batch_length=64"),
        (["train.steps=600", "train.train_ratio=1"], "train.train_ratio=1"),
        (["train.steps=600", "train.updates_per_call=99"], "train.updates_per_call=99"),
        (["replay.capacity=400"], "replay.capacity=400"),
        (["train.stop_at_return=400", "train.eval_every=0"], "train.eval_every=0"),
    ],
)
def test_that_nothing_will_be_learned_is_known_before(words: list[str], key: str) -> None:
    (text,) = update_schedule.obstacles(load_config(words))
    assert key in text


@pytest.mark.parametrize("words", [[], ["train.steps=600"], ["train.updates=10", "train.steps=1"], ["+experiment=published"]])
def test_nothing_is_said_where_something_can_be_learned(words: list[str]) -> None:
    assert list(update_schedule.obstacles(load_config(words))) == []


@pytest.mark.parametrize("ratio", [4.0, 16.0, 64.0])
@pytest.mark.parametrize("made", [0, 49, 50, 60])
def test_another_train_ratio_counts_from_there_on(ratio: float, made: int) -> None:
    """200 steps at 16 owe 50 updates of 64 steps, made or not."""
    before = load_config(["train.random_steps=64", "train.train_ratio=16", "train.batch_size=4", "train.batch_length=16",
                          "behavior.starts=0"]).train  # fmt: skip
    now = dataclasses.replace(before, train_ratio=ratio)
    counters = Counters.from_json(json.loads(json.dumps(dataclasses.asdict(Counters(updates=made, pace=pace_of(before))))))
    counters.keep_pace(now, 264)
    owed = [update_schedule.updates_due(now, step, counters.owed_updates) for step in (264, 464)]
    if ratio == 16.0:
        assert owed == [50 - made, 100 - made]
    else:
        assert owed[0] == 0
        assert abs(owed[1] - 200 * ratio / 64) <= 1
    again = dataclasses.replace(counters)
    again.keep_pace(now, 300)
    assert again == counters


def test_another_number_of_random_steps_leaves_no_debt_either() -> None:
    config = load_config(["train.random_steps=400"]).train
    counters = Counters(updates=30, pace=(64, 0.25))
    counters.keep_pace(config, 264)
    assert update_schedule.updates_due(config, 400, counters.owed_updates) == 0
