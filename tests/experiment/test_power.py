"""What an experiment can see before it runs: against the formula of the normal distribution, and against the rule itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from dreamerjax.core.errors import UserError
from dreamerjax.core.files import write_json
from dreamerjax.experiment import power
from dreamerjax.experiment.__main__ import main
from dreamerjax.experiment.design import Arm, Contrast, Experiment, Hypothesis, Statistic
from dreamerjax.experiment.statistics import contrast_estimate, judge
from tests.experiment import fakes, files

MIDMEAN = 1.19  # variance of the interquartile mean of many normal values over that of their mean


@pytest.fixture
def design(tmp_path: Path) -> Experiment:
    return fakes.experiment(tmp_path / "experiments" / "mine")


def results(design: Experiment, *arms: list[float], day: str = "2026-01-01", **metric: Any) -> None:
    """Results of an experiment beside the design, or of the design itself."""
    measured = {"name": design.metric.name, "statistic": "last", "budget": "env_steps", **metric}
    runs = [{"name": str(place), "runs": [{"value": value} for value in values]} for place, values in enumerate(arms)]
    write_json(design.directory / "results.json", {"date": day, "metric": measured, "arms": runs})


def test_many_seeds_see_what_the_formula_says() -> None:
    wanted = (norm.ppf(0.975) + norm.ppf(0.8)) * np.sqrt(2 / power.SIMULATED * MIDMEAN)
    assert power.sight((power.SIMULATED,), (power.SIMULATED,), 0.95).effect == pytest.approx(wanted, rel=0.1)
    four = power.sight((10, 10), (10, 10), 0.95).effect  # two arms a side: half the variance
    assert four == pytest.approx(power.sight((20,), (20,), 0.95).effect, rel=0.1)


def test_the_rule_itself_sees_such_an_effect_in_four_of_five_experiments() -> None:
    rng, seen, contrast = np.random.default_rng(7), power.sight((5,), (5,), 0.95), Contrast(("b",), ("a",))
    arms = (Arm("a", ()), Arm("b", ()))

    def supported(effect: float, count: int) -> float:
        pairs = rng.standard_normal((count, 2, 5)) + np.array([[[0.0], [effect]]])
        found = [contrast_estimate({"a": a, "b": b}, arms, contrast, 0.95) for a, b in pairs]
        return float(np.mean([judge(estimate, higher=True, by=0.0).name == "supported" for estimate in found]))

    assert supported(seen.effect, 150) == pytest.approx(power.POWER, abs=0.1)
    assert power.sight((3,), (3,), 0.95).false_alarm == pytest.approx(0.2, abs=0.04)  # as statistics.py says of 3 and of 5
    assert seen.false_alarm == pytest.approx(0.07, abs=0.03)


def test_seeds_needed_are_the_fewest_that_see_it(design: Experiment) -> None:
    for effect in (1.2, 2.0):
        needed = power.seeds_needed(design, effect)
        assert power.sight((needed,), (needed,), 0.95).effect <= effect < power.sight((needed - 1,), (needed - 1,), 0.95).effect
    assert power.seeds_needed(design, 100.0) == power.FEWEST
    twice, once = power.seeds_needed(design, 0.1), power.seeds_needed(design, 0.2)
    assert twice == pytest.approx(4 * once, rel=0.01)


def test_the_spread_is_pooled_over_arms() -> None:
    assert power.pooled_spread([[1.0, 3.0], [10.0, 12.0], [5.0]]) == pytest.approx(np.sqrt(2.0))
    assert np.isnan(power.pooled_spread([[1.0], []]))


def test_a_pilot_is_the_own_one_or_the_newest_of_the_same_metric(design: Experiment) -> None:
    def beside(name: str) -> Experiment:
        return fakes.experiment(design.directory.parent / name)

    results(beside("old"), [0.0, 2.0], day="2026-01-01")
    results(beside("new"), [0.0, 20.0], day="2026-01-03")
    results(beside("other"), [0.0, 200.0], day="2026-01-04", statistic="mean")
    pilot = power.newest_pilot(design)
    assert pilot.source == "results of new, 2026-01-03"
    assert pilot.spread == pytest.approx(np.sqrt(200.0))
    results(design, [0.0, 2.0], day="2026-01-02")
    assert power.newest_pilot(design).source == "results of mine, 2026-01-02"
    for damaged in ('"runs": 3', '"runs": [{}]', '"runs": [{"value": "x"}, {"value": 1}]'):
        file = design.directory / "results.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "arms": [json.loads(f"{{{damaged}}}")]}))
        with pytest.raises(UserError, match=r"mine/results.json is damaged: each of its arms must have runs with a value"):
            power.newest_pilot(design)
    results(beside("flat"), [1.0, 1.0], statistic="max")
    with pytest.raises(UserError, match="do not differ: give the --spread"):
        power.newest_pilot(replace(design, metric=replace(design.metric, statistic=Statistic.max)))


def test_a_plan_in_words(design: Experiment) -> None:
    seen, needed = power.sight((5,), (5,), 0.95), power.seeds_needed(design, 0.5)
    text = power.plan(design, 100.0, None).splitlines()
    assert text[:3] == [
        "experiment mine: treatment against control",
        "metric: eval/greedy/return_mean",
        "spread between seeds of an arm: 100 (as given)",
    ]
    assert text[3].startswith(f"5 seeds an arm: 80% of such experiments see an effect of {100 * seen.effect:.4g}, as their 95%")
    assert text[4] == f"to see an effect of 50: {needed} seeds an arm"  # hypothesis.by
    assert power.plan(design, 10.0, 5.0).endswith(f"to see an effect of 5: {needed} seeds an arm")


@pytest.mark.parametrize(
    ("words", "changes", "message"),
    [
        ([], {}, "no results of episode/return yet that tell its standard deviation"),
        (["--spread", "0"], {}, "--spread must be above 0, not 0"),
        (["--spread", "nan"], {}, "--spread must be above 0, not nan"),
        (["--spread", "5", "--effect=-1"], {}, "--effect must be above 0, not -1"),
        (["--spread", "1e308"], {}, "no number of seeds shows an effect of "),
        (["--spread", "5"], {"hypothesis.by": 0}, "hypothesis.by is 0, so that no number of seeds is enough: give an --effect"),
        (["--spread", "5"], {"seeds": []}, "seeds is missing"),
    ],
)
def test_what_cannot_be_planned_is_one_line(
    words: list[str], changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = files.write(tmp_path, changes)
    assert main(["plan", str(file), *words]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err


def test_factors_have_no_plan(design: Experiment) -> None:
    hypothesis = Hypothesis("a", "b", True, 1.0, Contrast(factor="x", against="y"))
    with pytest.raises(UserError, match="not factor and against"):
        power.plan(replace(design, hypothesis=hypothesis), 1.0, None)
    assert power.smallest_effect({}, replace(design, hypothesis=hypothesis)) is None


def test_the_smallest_effect_of_finished_runs(design: Experiment) -> None:
    values = {"control": [0.0, 2.0, 4.0], "treatment": [10.0, 12.0, 14.0]}
    assert power.smallest_effect(values, design) == pytest.approx(2.0 * power.sight((3,), (3,), 0.95).effect)
    assert power.smallest_effect({"control": [0.0], "treatment": [10.0, 12.0]}, design) is None
    assert power.smallest_effect({"control": [1.0, 1.0], "treatment": [1.0, 1.0]}, design) is None
