"""The collapse watch: every failure of docs/findings_of_the_log.md is recognised in time, and a healthy run is left alone.

`#01-20a` and the like are sections of that page.
"""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from dreamerjax.diagnostics.collapse import GATES, CollapseWatch, Finding
from tests.experiment.fakes import watch_settings

Points = Sequence[tuple[float, float]]  # (update, value)
Record = dict[str, float]

CLIP = watch_settings(0.1)
GREEDY = "eval/greedy/return_mean"
BASELINE: Record = {"env_step": 0, "update": 0, "baseline/return_mean": 22.0}


def logs(series: Mapping[str, Points], evaluations: Points = (), every: int = 25) -> list[Record]:
    """A run: metrics between the points of their tables, and evaluations as they stand. 1 environment step per update."""
    first, last = (int(pick(points[edge][0] for points in series.values())) for pick, edge in ((min, 0), (max, -1)))
    records = [BASELINE]
    for update in range(first, last + 1, every):
        values = {name: float(np.interp(update, *np.array(points, np.float64).T)) for name, points in series.items()}
        records.append(values | {"env_step": update, "update": update})
    records += [{GREEDY: value, "env_step": update, "update": update} for update, value in evaluations]
    return sorted(records, key=lambda record: (record["update"], GREEDY in record))


def constant(updates: int, **values: float) -> list[Record]:
    """Logs of constant metrics, `__` in a name for `/`, from update 25 on."""
    return logs({name.replace("__", "/"): [(25, value), (updates, value)] for name, value in values.items()})


def watch(records: Iterable[Record], settings: Mapping[str, Any] = CLIP) -> list[Finding]:
    collapse = CollapseWatch(settings)
    return [finding for record in records for finding in collapse.observe(record)]


def begun(records: Iterable[Record], settings: Mapping[str, Any] = CLIP) -> dict[str, int]:
    """The updates at which findings begin; none may begin twice."""
    findings = watch(records, settings)
    assert len({finding.name for finding in findings}) == len(findings)
    return {finding.name: finding.update for finding in findings}


def small_model() -> list[Record]:
    """The run of #01-20a with d_hidden 64: solved from 10k on, collapsed from 21k on."""
    actor = [(10_000, 0.005), (13_000, 0.006), (15_000, 0.036), (16_000, 0.107), (20_000, 0.176), (21_000, 0.136)]
    series: dict[str, Points] = {
        "dream/value_mean": [(10_000, 141), (15_000, 142), (16_000, 143), (20_000, 147), (25_000, 147)],
        "loss/actor": [*actor, (25_000, 0.214)],
        "model/kl": [(10_000, 0.004), (14_500, 0.004), (15_000, 0.010), (16_000, 0.017), (20_000, 0.006), (25_000, 0.006)],
    }
    return logs(series, [(10_000, 500), (15_000, 500), (16_000, 500), (20_000, 500), (21_000, 363), (25_000, 157)])


def healthy() -> list[Record]:
    """A tiny model that solved CartPole after 4,000 environment steps: all that was logged, every 100 updates."""
    updates = [25, 50, 75, 100, 125, 150, 200, 300, 400, 500, 600, 700, 850]
    actor = [0.0, -0.002, 0.065, 0.36, 0.629, 0.571, 0.39, 0.244, 0.206, 0.177, 0.137, 0.107, 0.082]
    kl = [2.15, 1.46, 0.912, 0.668, 0.394, 0.232, 0.166, 0.191, 0.221, 0.241, 0.3, 0.277, 0.303]
    entropy = [0.693, 0.693, 0.693, 0.68, 0.633, 0.629, 0.651, 0.449, 0.327, 0.262, 0.232, 0.185, 0.156]
    value = [0.01, 0.12, 0.62, 1.6, 2.83, 4.58, 7.42, 13.4, 19.6, 27.5, 36.5, 45.0, 60.2]
    columns = {
        "loss/actor": actor,
        "model/kl": kl,
        "loss/dynamics": [max(number, 0.1) for number in kl],
        "actor/randomness": [number / math.log(2) for number in entropy],
        "dream/value_mean": value,
    }
    series = {name: list(zip(updates, column, strict=True)) for name, column in columns.items()}
    greedy = [(125, 9.3), (250, 70.75), (375, 121.35), (500, 162.15), (625, 319.0), (750, 368.95), (875, 500.0)]
    return logs(series, greedy)


def test_healthy_run_has_no_finding() -> None:
    assert watch(healthy()) == []


def test_small_model_of_january_20_is_seen_before_its_fall() -> None:
    begins = begun(small_model())
    assert begins.pop("evaluation_falls_while_values_rise") == 21_000
    assert begins.pop("critic_saturates") == 21_000
    assert begins.keys() == {"kl_spike", "actor_loss_climbs"}
    assert 14_500 < begins["kl_spike"] <= 16_000
    assert 13_000 < begins["actor_loss_climbs"] <= 16_000


def test_evidence_of_january_20() -> None:
    evidence = {finding.name: finding.evidence for finding in watch(small_model())}
    falls = "greedy evaluation fell from 500 (step 10,000) to 363 while imagined values rose from 141 to 147"
    assert evidence["evaluation_falls_while_values_rise"] == falls
    flat = "imagined values stayed within 0.00% of 147 from update 20,025 to 21,000 while greedy evaluation went"
    assert evidence["critic_saturates"] == f"{flat} from 500 to 363"
    assert evidence["kl_spike"].endswith("nats, 3.0 times its median of the logs before, 0.004")
    assert evidence["actor_loss_climbs"].startswith("the actor's loss rose from 0.005")


def test_large_model_of_january_20_recovers_unreported() -> None:
    value = [(9_000, 105), (14_000, 120), (17_000, 95), (21_000, 90), (23_000, 116), (28_000, 107), (30_000, 100)]
    actor = [(9_000, 0.003), (14_000, 0.004), (17_000, 0.003), (21_000, 0.002), (23_000, 0.004), (30_000, 0.006)]
    greedy = [(9_000, 500), (14_000, 500), (17_000, 209), (21_000, 129), (23_000, 421), (28_000, 486), (30_000, 453)]
    assert watch(logs({"dream/value_mean": value, "loss/actor": actor}, greedy)) == []


def test_collapse_of_january_19_is_seen_with_the_fall() -> None:
    value = [(7_000, 5.0), (8_000, 5.0), (21_000, 5.2), (25_000, 5.4), (35_000, 5.5), (59_000, 5.5)]
    greedy = [(7_000, 500), (8_000, 500), (21_000, 500), (25_000, 200), (35_000, 100), (59_000, 98)]
    finding, *others = watch(logs({"dream/value_mean": value}, greedy))
    falls = "greedy evaluation fell from 500 (step 7,000) to 200 while imagined values rose from 5 to 5.398"
    assert finding == Finding("evaluation_falls_while_values_rise", 25_000, 25_000, falls)
    assert others == []


def test_actor_loss_of_january_19_climbs() -> None:
    actor = [(7_000, 0.1), (21_000, 0.1), (35_000, 0.3), (45_000, 0.3)]
    begins = begun(logs({"loss/actor": actor}, [(7_000, 500)]))
    assert 30_000 < begins.pop("actor_loss_climbs") <= 35_000
    assert not begins


def test_actor_loss_may_rise_as_learning_begins() -> None:
    start = {"loss/actor": [(25, 0.0), (2_000, 0.0), (4_000, 0.6), (5_000, 0.1)]}
    assert watch(logs(start, [(1_000, 9.0), (2_000, 20.0), (4_000, 25.0), (4_900, 200.0)])) == []
    assert "actor_loss_climbs" in begun(logs(start, [(25, 200.0)]))


@pytest.mark.parametrize(("values", "greedy", "fires"), [(1.0, 140, True), (1.0, 160, False), (0.95, 140, False)])
def test_evaluation_falls(values: float, greedy: float, fires: bool) -> None:
    value = {"dream/value_mean": [(25, 50.0), (1_000, 50.0), (2_000, 50.0 * values), (3_000, 50.0 * values)]}
    records = logs(value, [(900, 182.0), (1_000, 182.0), (3_000, greedy)])  # 20% of 182 - 22 are 32
    assert ("evaluation_falls_while_values_rise" in begun(records)) == fires


def test_one_lucky_evaluation_is_no_collapse_but_a_lasting_fall_is() -> None:
    value = {"dream/value_mean": [(25, 1.0), (3_000, 30.0), (6_000, 60.0)]}
    lucky = [(1_500, 81.0), (2_000, 380.0), (2_500, 206.0), (3_000, 500.0)]  # a healthy run
    assert watch(logs(value, lucky)) == []
    (finding,) = watch(logs(value, [(3_000, 500.0), (4_000, 196.0), (5_000, 229.0), (6_000, 299.0)]))  # one that was not
    assert (finding.name, finding.update) == ("evaluation_falls_while_values_rise", 5_000)
    assert finding.evidence.startswith("greedy evaluation fell from 500 (step 3,000) to 229 while imagined values rose")


def test_a_best_near_the_baseline_is_no_best() -> None:
    value = {"dream/value_mean": [(25, 1.0), (3_000, 9.0)]}
    assert watch(logs(value, [(900, 32.0), (1_000, 32.0), (2_000, 9.0), (3_000, 9.0)])) == []


def test_negative_returns() -> None:
    value = {"dream/value_mean": [(25, -90.0), (800, -40.0), (1_000, -40.0), (2_900, -30.0), (3_000, -30.0)]}
    records = [
        {**BASELINE, "baseline/return_mean": -1_200.0},
        *logs(value, [(900, -150.0), (1_000, -140.0), (3_000, -800.0)])[1:],
    ]
    (finding,) = watch(records)
    falls = "greedy evaluation fell from -150 (step 900) to -800 while imagined values rose from -40 to -30"
    assert finding.evidence == falls


def test_first_evaluation_stands_in_for_the_baseline() -> None:
    value = {"dream/value_mean": [(25, 1.0), (3_000, 9.0)]}
    greedy = [(1_000, 20.0), (1_500, 300.0), (2_000, 300.0), (3_000, 100.0)]
    assert begun(logs(value, greedy)[1:])["evaluation_falls_while_values_rise"] == 3_000


def test_critic_at_the_end_of_its_bins() -> None:
    (finding,) = watch(constant(1_000, critic__limit_share=0.4))
    assert (finding.name, finding.update) == ("critic_saturates", 200)
    assert finding.evidence == "40% of imagined values are at the largest value of the critic's bins, over 8 logs"
    assert watch(constant(1_000, critic__limit_share=0.2)) == []


@pytest.mark.parametrize(("drift", "after", "fires"), [(1.0, 70, True), (1.0, 90, False), (1.05, 70, False)])
def test_flat_values_while_training_returns_change(drift: float, after: float, fires: bool) -> None:
    value = {"dream/value_mean": [(25, 50.0), (1_000, 50.0 * drift)]}
    episodes = [
        {"episode/return": 100.0 if step < 500 else after, "env_step": step, "update": step} for step in range(30, 1_000, 30)
    ]
    records = sorted(logs(value) + episodes, key=lambda record: record["update"])
    findings = watch(records)
    assert bool(findings) == fires
    if fires:
        assert findings[0].name == "critic_saturates"
        assert findings[0].evidence.endswith("of 16 training returns went from 100 to 70")


@pytest.mark.parametrize(("before", "after", "fires"), [(0.004, 0.017, True), (0.004, 0.011, False), (0.001, 0.009, False)])
def test_kl_spike(before: float, after: float, fires: bool) -> None:
    kl = {"model/kl": [(25, before), (2_000, before), (2_025, after), (3_000, after)]}
    assert begun(logs(kl)) == ({"kl_spike": 2_075} if fires else {})  # the median of 4 logs moves with the third


def test_kl_may_do_anything_in_the_first_updates() -> None:
    early: Points = [(25, 0.1), (300, 0.1), (325, 2.0), (450, 2.0), (475, 0.1), (3_000, 0.1)]
    assert watch(logs({"model/kl": early})) == []
    late: Points = [(25, 0.1), *((update + 1_000, value) for update, value in early)]
    assert begun(logs({"model/kl": late})).keys() == {"kl_spike"}


def test_kl_collapse_of_january_17() -> None:
    kl = [(5_500, 0.0025), (6_500, 0.0015), (7_500, 0.0015), (8_250, 0.0001), (10_000, 0.00001)]
    series: dict[str, Points] = {"model/kl": kl, "model/posterior_entropy": [(5_500, 1.2), (10_000, 1.2)]}
    (finding,) = watch(logs(series))
    assert finding.name == "kl_collapse"
    assert 7_500 < finding.update <= 8_250
    assert finding.evidence == "the KL is 0.00015 nats, below 0.0005, the posterior's entropy 1.2, in 8 logs in a row"
    assert watch(constant(3_000, model__kl=0.001)) == []  # healthy: after the cure (#01-15b)


def test_latents_that_carry_nothing_over_a_kl_on_the_free_nats() -> None:
    """A representation weight of 0.99 (#01-17d), as experiments/representation_unimix saw it; sound runs begin at 0.94."""
    (finding,) = watch(constant(1_000, model__posterior_randomness=0.98, model__kl=0.076))
    assert (finding.name, finding.env_step) == ("latents_carry_nothing", 200)
    assert finding.evidence.startswith(
        "the posterior's randomness is 98.0% (uniform is 100%), above 96%, over a KL of 0.076 nats"
    )
    assert watch(constant(1_000, model__posterior_randomness=0.94)) == []


def test_entropy_collapses() -> None:
    (finding,) = watch(constant(1_000, actor__randomness=0.015))
    assert (finding.name, finding.env_step) == ("entropy_collapses", 200)
    assert finding.evidence.startswith("the policy's randomness is 1.50% (uniform is 100%), below 2%")
    assert watch(constant(1_000, actor__randomness=0.03)) == []


def test_free_bits_of_january_15() -> None:
    metrics = {"loss__dynamics": 1.0, "model__kl": 0.84, "dream__continue_3": 0.001, "batch__terminal_rate": 0.04}
    stuck = constant(1_000, **metrics)
    assert begun(stuck, watch_settings(1.0)) == {"dynamics_on_free_bits": 200, "continue_crash": 375}
    assert begun(stuck, watch_settings(1.0, clip=False)) == {"continue_crash": 375}
    evidence = [finding.evidence for finding in watch(stuck, watch_settings(1.0))]
    assert evidence == [
        "the dynamics loss is 1, the free nats, over a KL of 0.84: no gradient, in 8 logs in a row",
        "0.001 of dreams go on after 3 steps; 4.00% terminal steps in the batch imply 0.885, in 8 logs in a row",
    ]


def test_healthy_near_misses_of_january_15() -> None:
    above = constant(1_000, loss__dynamics=1.001, model__kl=0.95, dream__continue_3=0.5, batch__terminal_rate=0.04)
    assert watch(above, watch_settings(1.0)) == []
    fresh = constant(350, dream__continue_3=0.125, batch__terminal_rate=0.04)
    assert watch(fresh) == []


def gap(step: int, imagined: float, real: float) -> Record:
    return {"env_step": step, "update": step, "gap/return_imagined": imagined, "gap/return_real": real}


def test_delusional_dreams() -> None:
    low_kl: Record = {"env_step": 2_100, "update": 2_100, "model/kl": 0.0006}
    (finding,) = watch([*constant(2_000, model__kl=0.003), gap(2_000, 14.0, 10.0), low_kl, gap(2_500, 500.0, 10.0)])
    evidence = "dreams promise a return of 500 where 10 follows; the KL is 0.0006 nats, its median 0.003"
    assert finding == Finding("delusional_dreams", 2_500, 2_500, evidence)


@pytest.mark.parametrize(
    ("imagined", "real", "fires"),
    [(-40.0, -100.0, True), (-180.0, -100.0, False), (-60.0, -100.0, False), (0.4, 0.0, False), (0.6, 0.0, True)],
)
def test_dreams_of_costs_are_delusional_when_they_promise_less_cost(imagined: float, real: float, fires: bool) -> None:
    """Pessimism is no delusion, and returns near 0 are measured against 1."""
    assert bool(watch([gap(100, imagined, real)])) == fires


def test_focus_of_january_18_is_always_on() -> None:
    (finding,) = watch(constant(2_000, pacing__focus=1.0))
    assert (finding.name, finding.update) == ("focus_always_on", 1_000)
    assert finding.evidence == "pacing/focus was on for 100% of the last 40 logs"
    assert watch(constant(2_000, pacing__focus=0.45)) == []


@pytest.mark.parametrize("gate", GATES)
def test_gates_of_january_18_that_never_come_on(gate: str) -> None:
    """Surprise stayed below the threshold of 0.05 for 17,200 updates (#01-18a)."""
    surprise = "kl_dyn" if gate == "kl_pause" else "total"
    idle = constant(17_200, **{f"pacing__{gate}": 0.0, f"wm__surprise__{surprise}_log_ratio": 0.04})
    (finding,) = watch(idle, watch_settings(0.1, gates=[gate]))
    assert (finding.name, finding.update) == (f"{gate}_never_on", 5_000)
    assert finding.evidence == f"pacing/{gate} was never on in 200 logs; wm/surprise/{surprise}_log_ratio was at most 0.04"
    assert watch(idle) == []
    once = [record | {f"pacing/{gate}": 0.04} if record["update"] == 4_000 else record for record in idle]
    assert watch(once, watch_settings(0.1, gates=[gate])) == []


def evaluated(greedy: Points, **more: float) -> list[Record]:
    """The random policy's 22, and evaluations (step, mean), each with more of it."""
    named = {name.replace("__", "/"): value for name, value in more.items()}
    return [BASELINE, *({GREEDY: value, "env_step": step, "update": step} | named for step, value in greedy)]


def test_worse_than_random_as_on_december_31() -> None:
    greedy = [(2_500, 9.0), (7_500, 9.8), (15_000, 9.4), (25_000, 16.8)]
    (finding,) = watch(evaluated(greedy, eval__greedy__return_max=11.0, eval__sampled__return_max=14.0))
    evidence = "the best evaluated episode has a return of 14, the random policy 22 on average, in 3 logs in a row"
    assert finding == Finding("worse_than_random", 15_000, 15_000, evidence)
    unlearned = evaluated(greedy, eval__greedy__return_max=11.0, eval__sampled__return_max=40.0)
    assert watch(unlearned) == []  # always one action, when it acts greedily, and any when it does not
    assert watch(evaluated(greedy[:2], eval__greedy__return_max=11.0)) == []


def test_oscillation_of_january_18_and_of_january_20() -> None:
    steps = (2_000, 4_000, 6_000, 8_000, 13_000, 16_000, 17_200)
    (finding,) = watch(evaluated(list(zip(steps, (24.0, 400.0, 125.0, 125.0, 300.0, 40.0, 112.0), strict=True))))
    assert (finding.name, finding.env_step) == ("evaluations_oscillate", 16_000)
    assert finding.evidence.startswith("since the best of 400 greedy evaluations fell 2 times by 75.6 or more")
    ratio_of_4 = [(7_000, 488.0), (10_000, 385.0), (15_000, 259.0), (17_000, 364.0), (18_000, 261.0)]
    assert begun(evaluated(ratio_of_4)) == {"evaluations_oscillate": 18_000}


RISING = (127, 173, 141, 193, 372, 220, 468, 360, 481)  # cartpole_swingup with the present defaults


@pytest.mark.parametrize("greedy", [(81, 380, 206, 500, 500, 500), (500, 129, 421, 486, 453), RISING])
def test_one_fall_or_a_jagged_rise_is_no_oscillation(greedy: Sequence[float]) -> None:
    assert watch(evaluated([(1_000 * n, value) for n, value in enumerate(greedy)])) == []


def test_evaluations_whose_episodes_differ_as_much_do_not_oscillate() -> None:
    greedy = [(1_000, 500.0), (2_000, 300.0), (3_000, 500.0), (4_000, 300.0)]
    assert "evaluations_oscillate" in begun(evaluated(greedy, eval__greedy__return_std=100.0))
    assert watch(evaluated(greedy, eval__greedy__return_std=350.0)) == []


def test_critic_of_january_15_underestimates() -> None:
    (finding,) = watch([gap(1_000, 14.0, 38.0), gap(2_000, 14.0, 38.0)])
    evidence = "dreams promise a return of 14 where 38 follows, in 2 logs in a row"
    assert finding == Finding("critic_underestimates", 2_000, 2_000, evidence)
    assert watch([gap(1_000, 14.0, 38.0), gap(2_000, 25.0, 38.0), gap(3_000, 14.0, 38.0)]) == []
    assert watch([gap(30, 0.1, 14.4), gap(61, 3.0, 11.7), gap(200, 21.0, 23.4)]) == []  # a run that solved CartPole


def test_dreams_that_end_early() -> None:
    def compared(step: int, *biases: float) -> Record:
        return {f"gap/continue_bias/{k:02d}": bias for k, bias in enumerate(biases, 1)} | {"env_step": step, "update": step}

    (finding,) = watch([compared(1_000, -0.02, -0.3, -0.4), compared(2_000, -0.02, -0.3, -0.4)])
    evidence = "40% fewer dreams than real episodes go on after step 3, in 2 logs in a row"
    assert finding == Finding("dreams_end_early", 2_000, 2_000, evidence)
    assert watch([compared(step, -0.02, -0.1, 0.5) for step in (1_000, 2_000, 3_000)]) == []


def test_a_model_that_predicts_worse_than_no_change() -> None:
    def predicted(step: int, error: float, unchanged: float = 1.2) -> Record:
        return {"gap/open_loop_error": error, "gap/open_loop_unchanged": unchanged, "env_step": step, "update": step}

    (finding,) = watch([predicted(1_000, 1.5), predicted(2_000, 1.4)])
    evidence = "the open loop is 1.4 standard deviations off, the last observation 1.2, in 2 logs in a row"
    assert finding == Finding("open_loop_worse_than_no_change", 2_000, 2_000, evidence)
    assert watch([predicted(1_000, 1.5), predicted(2_000, 1.1), predicted(3_000, 1.5)]) == []
    solved = [(561, 0.841, 0.45), (655, 1.169, 0.777), (749, 1.71, 0.789)]  # where hardly anything moves
    assert watch([predicted(*compared) for compared in [(93, 2.47, 1.79), (186, 1.28, 1.08), *solved]]) == []


def test_a_replay_that_forgot_every_failure() -> None:
    rate: Points = [(25, 0.05), (3_000, 0.001), (3_025, 0.0), (6_000, 0.0)]
    (finding,) = watch(logs({"batch/terminal_rate": rate}))
    assert (finding.name, finding.update) == ("replay_without_failures", 4_000)
    assert watch(constant(6_000, batch__terminal_rate=0.0)) == []  # a task in which nothing ever fails
    rare = [record | {"batch/terminal_rate": 1e-4 * (record["update"] % 500 == 0)} for record in constant(6_000, x=0.0)]
    assert watch(rare) == []


def test_a_finding_is_reported_once_and_may_begin_again() -> None:
    levels = [0.01] * 20 + ([0.025] + [0.01] * 8) * 3 + [0.05] + [0.01] * 20 + [0.05]  # over at 0.03
    collapse = CollapseWatch(CLIP)
    found: list[Finding] = []
    for number, level in enumerate(levels, start=1):
        found += collapse.observe({"env_step": 100 * number, "update": 25 * number, "actor/randomness": level})
    assert [finding.env_step for finding in found] == [800, 5_600]
    (summary,) = collapse.summary()
    expected = {"name": "entropy_collapses", "first_step": 800, "last_step": 6_800, "times": 2, "active": False}
    assert summary == expected | {"evidence": found[0].evidence}


def test_missing_and_unusable_numbers_do_not_count() -> None:
    records = constant(1_000, actor__randomness=0.01)
    for number in (math.nan, math.inf, -math.inf):
        assert watch([record | {"actor/randomness": number, "model/kl": number, GREEDY: number} for record in records]) == []
    between = [entry for record in records for entry in (record, {**BASELINE, "actor/randomness": math.nan})]
    assert begun(between) == begun(records) == {"entropy_collapses": 200}


def test_a_resumed_run_goes_on_where_it_was() -> None:
    records = small_model()
    whole, summaries = CollapseWatch(CLIP), []
    findings = [whole.observe(record) for record in records]
    for cut in range(0, len(records), 97):
        resumed = CollapseWatch(CLIP)
        for record in json.loads(json.dumps(records[:cut])):
            resumed.observe(record)
        assert [resumed.observe(record) for record in records[cut:]] == findings[cut:]
        summaries.append(resumed.summary())
    assert all(summary == whole.summary() for summary in summaries)


def test_summary_is_json_in_order_of_appearance() -> None:
    collapse = CollapseWatch(CLIP)
    assert collapse.summary() == []
    for record in small_model():
        collapse.observe(record)
    summary: list[dict[str, Any]] = json.loads(json.dumps(collapse.summary()))
    names = [entry["name"] for entry in summary]
    assert names[:2] == ["kl_spike", "actor_loss_climbs"]
    active = {entry["name"] for entry in summary if entry["active"]}
    assert active == {"actor_loss_climbs", "evaluation_falls_while_values_rise"}
    assert [entry["last_step"] for entry in summary if entry["name"] in active] == [25_000, 25_000]


def test_memory_is_bounded() -> None:
    collapse = CollapseWatch(CLIP)
    entries = {"episode/return": 9.0, GREEDY: 9.0, "loss/actor": 0.1, "dream/value_mean": 1.0, "model/kl": 0.1}
    entries |= {"critic/limit_share": 0.0, "gap/return_ratio": 1.0, "pacing/focus": 0.0}

    def feed(start: int) -> int:
        for number in range(start, start + 1_000):
            record = {name: value + number * 1e-6 for name, value in entries.items()}
            collapse.observe(record | {"env_step": number, "update": number})
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        early = feed(0)
        assert feed(1_000) - early < 20_000
    finally:
        tracemalloc.stop()
