"""The verdict on a run, from the lines of its metrics alone."""

from collections.abc import Mapping, Sequence

import pytest

from dreamerjax.config.composition import load_config
from dreamerjax.config.flat import flatten
from dreamerjax.config.schema import Config
from dreamerjax.diagnostics.collapse import GATES, CollapseWatch
from dreamerjax.diagnostics.verdict import SETTINGS, RunVerdict, judge_run, to_go_on
from tests.experiment.fakes import watch_settings

SETTINGS_OF_A_RUN = flatten(Config())


def evaluations(means: Sequence[float], std: float = 10.0) -> list[dict[str, float]]:
    return [
        {"env_step": 1000.0 * i, "update": 100.0 * i, "eval/greedy/return_mean": mean, "eval/greedy/return_std": std}
        for i, mean in enumerate(means, 1)
    ]


def verdict(
    means: Sequence[float],
    *,
    std: float = 10.0,
    findings: Sequence[str] = (),
    wanted: float | None = None,
    reference: float | None = 475.0,
    more: Mapping[str, float] | None = None,
) -> RunVerdict:
    records = [*evaluations(means, std), *([{"env_step": 9e9, "update": 9e9, **more}] if more else [])]
    settings = SETTINGS_OF_A_RUN | {"train.stop_at_return": wanted}
    return judge_run(records, settings, findings, 22.0, reference)


def test_solved_needs_nothing() -> None:
    found = verdict([100, 490, 500], std=0)
    assert found.sentence == (
        "solved (475 is wanted): 500 [500, 500] in the last evaluation, better than the random policy's 22"
    )
    assert found.advice == ()
    assert "rising" not in verdict([100, 200, 300, 400, 500]).sentence


def test_a_wanted_return_counts_before_the_registrations() -> None:
    assert verdict([400]).sentence.startswith("not solved (475 is wanted)")
    assert verdict([400], wanted=300.0).sentence.startswith("solved (300 is wanted)")
    assert verdict([400], reference=None).sentence.startswith("400 [")


def test_the_interval_is_students_t_of_the_evaluations_episodes() -> None:
    """20 episodes, std 10 of the population: 95% within 2.093 * 10 / sqrt(19)."""
    assert "100 [95.2, 104.8]" in verdict([100]).sentence


@pytest.mark.parametrize(("last", "words"), [(90, "better than"), (25, "no better than"), (5, "worse than")])
def test_it_is_set_beside_the_random_policy(last: float, words: str) -> None:
    assert f"{words} the random policy's 22" in verdict([last]).sentence


def test_a_rise_a_fall_and_noise_are_told_apart() -> None:
    rising = verdict([20, 40, 60, 80, 100, 120, 140, 160])
    assert rising.sentence.endswith("still rising")
    assert rising.advice[0].override == "train.steps=40000"
    lost = verdict([20, 300, 310, 300, 150, 100])
    assert lost.sentence.endswith("below its best, 310 at step 3,000")
    assert lost.advice[0].override == "optim.actor_lr=0.0002"
    flat = verdict([150, 160, 150, 160, 150, 160, 150, 160])
    assert flat.sentence.endswith("random policy's 22")
    assert [advice.override for advice in flat.advice] == ["train.train_ratio=576", "train.steps=40000"]


def test_what_the_watch_found_is_advised_first_and_two_keys_at_most() -> None:
    found = verdict([20, 21], findings=["entropy_collapses", "actor_loss_climbs"])
    keys = [advice.override.partition("=")[0] for advice in found.advice]
    assert keys == ["behavior.entropy", "optim.actor_lr"]


def test_a_model_that_is_lost_and_a_reward_never_found() -> None:
    lost = verdict([20, 21], more={"gap/open_loop_error": 1.4})
    assert lost.advice[0].override == "size=size1m"
    assert "train.steps" in lost.advice[1].override
    for more in (
        {"gap/open_loop_error": 0.4},
        {"gap/open_loop_error": 1.4, "gap/return_ratio": 1.03},
    ):  # its dreams keep promises
        sound = verdict([20, 21], more=more)
        assert "size" not in " ".join(advice.override for advice in sound.advice)


def test_what_goes_on_with_a_run_that_came_to_its_end() -> None:
    assert to_go_on("finished", SETTINGS_OF_A_RUN) == "train.steps=40000"
    assert to_go_on("finished", SETTINGS_OF_A_RUN | {"train.updates": 16}) == "train.updates=32"
    assert to_go_on("solved", SETTINGS_OF_A_RUN) == "train.stop_at_return=null"
    assert to_go_on("interrupted", SETTINGS_OF_A_RUN) == to_go_on("finished", {"train.steps": "many"}) == ""


def test_settings_that_cannot_be_read_give_no_advice() -> None:
    found = judge_run(evaluations([20, 21, 20, 21]), {"train.steps": "many"}, ["entropy_collapses"], 22.0, 475.0)
    assert "21 [21, 21]" in found.sentence
    assert found.advice == ()


def test_nothing_to_judge() -> None:
    assert judge_run([], SETTINGS_OF_A_RUN, []).sentence == "nothing was learned: no update was made"
    unseen = judge_run([{"env_step": 5.0, "update": 3.0, "loss/actor": 1.0}], SETTINGS_OF_A_RUN, [])
    assert unseen.sentence == "it is not known how good it is: it was never evaluated"


def test_what_is_advised_can_be_given_to_train() -> None:
    """Every key exists and takes its new value, and every finding of the watch has advice."""
    for name, settings in SETTINGS.items():
        for key, new, _ in settings:
            value = new(SETTINGS_OF_A_RUN.get(key)) if key != "pacing.focus_threshold" else new(0.02)
            load_config([f"{key}={value}"])
        assert settings, name
    watched = {case.name for case in CollapseWatch(watch_settings(1.0, gates=GATES))._cases}
    assert watched <= SETTINGS.keys()
