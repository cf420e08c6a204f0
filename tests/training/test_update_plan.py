"""What pacing decides: every gate on its own, as a fold over the surprise of updates."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamerjax.agent.state import Trains
from dreamerjax.config.schema import BehaviorConfig, Config, Mode, PacingConfig, Schedule, SpikeAction, TrainConfig
from dreamerjax.training import update_schedule
from dreamerjax.training.counters import Counters
from dreamerjax.training.update_schedule import PacingState, Plan

EVERYTHING, MODEL, BEHAVIOR = Trains.everything, Trains.model, Trains.behavior


def config(mode: Mode = Mode.full, *, freeze: bool = False, log_every: int = 5, **changes: Any) -> Config:
    return Config(
        pacing=PacingConfig(surprise_window=1, **changes),
        train=TrainConfig(log_every=log_every),
        mode=mode,
        freeze_world_model=freeze,
    )


def measured(surprise: float, kl: float = 0.0, ready: bool = True) -> dict[str, float]:
    return {update_schedule.TOTAL: surprise, update_schedule.KL: kl, update_schedule.READY: float(ready)}


def simulate(
    config: Config,
    surprises: list[float],
    *,
    kl: list[float] | None = None,
    steps_per_update: int = 4,
    best: float | None = None,
) -> tuple[list[Plan], PacingState]:
    """The plans of as many updates as there are surprises, each seen after its update."""
    state, plans = PacingState(), []
    for n, surprise in enumerate(surprises):
        env_steps = steps_per_update * n
        plans.append(update_schedule.plan(config, state, env_steps, best))
        state = update_schedule.observe(
            config, state, plans[-1], measured(surprise, (kl or [0.0] * 999)[n]), env_steps=env_steps, updates=n + 1
        )
    return plans, state


def trains(plans: list[Plan]) -> list[Trains]:
    return [plan.trains for plan in plans]


def test_by_default_every_update_trains_everything_at_full_rate() -> None:
    plans, state = simulate(config(), [0.0, 5.0, -5.0, 0.3])
    assert trains(plans) == [EVERYTHING] * 4
    assert {(plan.lr_scale, plan.entropy, plan.ratio, plan.extra) for plan in plans} == {(1.0, 3e-4, 1, False)}
    assert (state.model_updates, state.behavior_updates, state.extra_updates) == (4, 4, 0)


@pytest.mark.parametrize("ratio", [1, 2, 4, 8])
def test_actor_and_critic_are_trained_on_every_nth_update(ratio: int) -> None:
    plans, state = simulate(config(wm_ac_ratio=ratio), [0.0] * 16)
    assert trains(plans) == ([MODEL] * (ratio - 1) + [EVERYTHING]) * (16 // ratio)
    assert (state.model_updates, state.behavior_updates) == (16, 16 // ratio)


def test_warm_up_trains_the_model_alone_for_exactly_so_many_updates() -> None:
    assert trains(simulate(config(model_warmup=3), [0.0] * 5)[0]) == [MODEL] * 3 + [EVERYTHING] * 2


def test_modes() -> None:
    assert trains(simulate(config(Mode.bootstrap), [0.0] * 3)[0]) == [MODEL] * 3
    assert trains(simulate(config(Mode.dreamer), [0.0] * 3)[0]) == [EVERYTHING] * 3
    frozen = config(Mode.dreamer, freeze=True, focus_threshold=0.1, wm_ac_ratio=4)
    assert trains(simulate(frozen, [9.0] * 3)[0]) == [BEHAVIOR] * 3  # there is no model to wait for


def test_the_model_is_frozen_from_the_evaluation_that_solves_it() -> None:
    chosen = config(freeze_at_return=475.0)
    for best, expected in ((None, EVERYTHING), (474.9, EVERYTHING), (475.0, BEHAVIOR)):
        assert update_schedule.plan(chosen, PacingState(), 0, best).trains is expected


def test_throttle_counts_environment_steps() -> None:
    plans, _ = simulate(config(ac_throttle=10), [0.0] * 7, steps_per_update=4)
    assert [n * 4 for n, plan in enumerate(plans) if plan.trains is EVERYTHING] == [0, 12, 24]


def test_surprise_scales_the_rates_down_and_never_up() -> None:
    chosen = config(surprise_scale_ac_lr=True, surprise_sharpness=2.0)
    plans, _ = simulate(chosen, [0.5, -3.0, 1.0, 0.0])
    assert [plan.lr_scale for plan in plans] == pytest.approx([1.0, math.exp(-1.0), 1.0, math.exp(-2.0)])
    assert {plan.lr_scale for plan in simulate(config(), [0.5, 1.0])[0]} == {1.0}


@given(st.floats(0, 3), st.floats(0, 3))
def test_more_surprise_never_means_a_higher_rate(one: float, other: float) -> None:
    chosen = PacingConfig(surprise_scale_ac_lr=True)
    low, high = (update_schedule.lr_scale(chosen, PacingState(surprises=(value,))) for value in sorted((one, other)))
    assert 0 < high <= low <= 1


def test_focus_begins_above_the_threshold_and_ends_below_the_release() -> None:
    """Hysteresis: between the two it stays as it is."""
    surprises = [0.0, 0.15, 0.09, 0.06, 0.04, 0.09, 0.0]
    plans, _ = simulate(config(focus_threshold=0.1, focus_release=0.5), surprises)
    assert [plan.focus for plan in plans] == [False, False, True, True, True, False, False]
    assert trains(plans) == [MODEL if plan.focus else EVERYTHING for plan in plans]
    assert [plan.metrics()["pacing/focus"] for plan in plans] == [0, 0, 1, 1, 1, 0, 0]


def test_focus_has_a_maximum_length_and_then_waits_for_calm() -> None:
    """A threshold of 0.02 was always exceeded, and no actor-critic was ever trained (findings_of_the_log.md#01-18b)."""
    surprises = [0.5] * 10 + [0.0] + [0.5] * 3
    plans, _ = simulate(config(focus_threshold=0.02, focus_max=4), surprises)
    assert [plan.focus for plan in plans] == [False] + [True] * 4 + [False] * 6 + [False] + [True] * 2


def test_no_gate_moves_before_the_surprise_is_ready() -> None:
    chosen = config(focus_threshold=0.1, camp_ratio=1.2, camp_logs=1, log_every=1, kl_spike=SpikeAction.stop)
    plan = update_schedule.plan(chosen, PacingState(), 0, None)
    state = update_schedule.observe(chosen, PacingState(), plan, measured(9.0, 9.0, ready=False), env_steps=0, updates=1)
    assert (state.focus, state.camp, state.stop, state.surprises) == (0, 0, False, ())


def test_a_camp_begins_after_n_surprised_logs_in_a_row_and_trains_the_model_twice_as_much() -> None:
    chosen = config(camp_ratio=1.2, camp_logs=3, camp_updates=6, camp_extra=1, log_every=2)
    calm, high = math.log(1.2) - 0.01, math.log(1.2) + 0.01
    surprises = [high] * 4 + [calm] * 2 + [high] * 6 + [calm] * 8  # logs: high high calm high high high
    plans, state = simulate(chosen, surprises)
    assert [n for n, plan in enumerate(plans) if plan.camp] == list(range(12, 18))
    assert trains(plans)[12:18] == [MODEL] * 6
    assert [plan.extra for plan in plans[12:18]] == [True, False] * 3
    assert trains(plans)[18:] == [EVERYTHING] * 2
    assert (state.extra_updates, state.camp) == (3, 0)
    assert Counters(updates=20, pacing=state).owed_updates == 17


def test_the_log_ratio_of_a_camp_is_the_mean_over_the_log() -> None:
    chosen = config(camp_ratio=1.2, camp_logs=1, log_every=2)
    assert simulate(chosen, [0.5, -0.5])[1].camp == 0
    assert simulate(chosen, [0.5, 0.0])[1].camp == chosen.pacing.camp_updates


def test_the_adaptive_ratio_starts_high_falls_as_the_model_settles_and_rises_while_it_is_surprised() -> None:
    chosen = config(adaptive_ratio=True, wm_ac_ratio=2, wm_ac_ratio_max=4, adaptive_threshold=0.05, log_every=1)
    surprises = [-0.1] * 5 + [0.01] * 2 + [0.1] * 4
    _, state = simulate(chosen, surprises)
    ratios = [plan.ratio for plan in simulate(chosen, surprises)[0]]
    assert ratios == [4, 3, 2, 2, 2, 2, 2, 2, 3, 4, 4]
    assert state.ratio == 4


@pytest.mark.parametrize(("action", "pause", "stop"), [("pause", 3, False), ("stop", 0, True), ("ignore", 0, False)])
def test_a_kl_spike(action: str, pause: int, stop: bool) -> None:
    chosen = config(kl_spike=SpikeAction[action], kl_spike_factor=3.0, kl_pause=3)
    spike = math.log(3.0)
    below, _ = simulate(chosen, [0.0] * 5, kl=[spike - 0.01] * 5)
    assert trains(below) == [EVERYTHING] * 5
    plans, state = simulate(chosen, [0.0] * 7, kl=[0.0, spike + 0.01, *[0.0] * 5])
    assert [n for n, plan in enumerate(plans) if plan.kl_pause] == list(range(2, 2 + pause))
    assert trains(plans) == [MODEL if plan.kl_pause else EVERYTHING for plan in plans]
    assert state.stop is stop


def test_surprise_is_a_mean_over_the_window() -> None:
    chosen = Config(pacing=PacingConfig(surprise_window=3))
    state = PacingState()
    for n, value in enumerate([9.0, 0.3, 0.6, 0.9]):
        state = update_schedule.observe(
            chosen, state, update_schedule.plan(chosen, state, n, None), measured(value), env_steps=n, updates=n + 1
        )
    assert update_schedule.surprise(state) == pytest.approx(0.6)


@pytest.mark.parametrize(("schedule", "half"), [("constant", 0.1), ("linear", 0.06), ("cosine", 0.06)])
def test_entropy_schedules(schedule: str, half: float) -> None:
    behavior = BehaviorConfig(entropy=0.1, entropy_end=0.02, entropy_updates=100, entropy_schedule=Schedule[schedule])
    at = [update_schedule.entropy_coefficient(behavior, n) for n in (0, 50, 100, 1000)]
    end = 0.1 if schedule == "constant" else 0.02
    assert at == pytest.approx([0.1, half, end, end])


def test_the_cosine_is_flat_at_both_ends() -> None:
    behavior = BehaviorConfig(entropy=1.0, entropy_end=0.0, entropy_updates=100, entropy_schedule=Schedule.cosine)
    assert update_schedule.entropy_coefficient(behavior, 25) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40), st.integers(0, 39))
def test_state_survives_a_checkpoint(surprises: list[float], cut: int) -> None:
    """Through JSON in the middle: the same plans as without."""
    chosen = config(
        focus_threshold=0.2, focus_max=3, camp_ratio=1.3, camp_logs=2, camp_updates=4, adaptive_ratio=True, log_every=2
    )
    state, other = PacingState(), PacingState()
    for n, value in enumerate(surprises):
        if n == cut:
            saved = json.loads(json.dumps(asdict(Counters(pacing=other, metric_sums={"a": (1.0, 2)}))))
            other = Counters.from_json(saved).pacing
        plan = update_schedule.plan(chosen, state, 4 * n, None)
        assert update_schedule.plan(chosen, other, 4 * n, None) == plan
        state = update_schedule.observe(chosen, state, plan, measured(value), env_steps=4 * n, updates=n + 1)
        other = update_schedule.observe(chosen, other, plan, measured(value), env_steps=4 * n, updates=n + 1)
    assert state == other


def test_a_run_of_so_many_updates_has_no_other_end() -> None:
    train = TrainConfig(steps=100, updates=300, train_ratio=128.0, batch_size=16, batch_length=32, random_steps=500)
    assert not update_schedule.ended(train, 10_000, 299)
    assert update_schedule.ended(train, 0, 300)
    assert update_schedule.last_step(train) == 500 + 1200
    assert update_schedule.steps_until_event(train, 90, 0) == 410  # not cut at 100
