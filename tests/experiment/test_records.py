"""What a run wrote down, as numbers: curves, the window of each statistic, and the runs that cannot be compared."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dreamerjax.core.errors import UserError
from dreamerjax.experiment.design import Budget, Metric, Statistic
from dreamerjax.experiment.records import RunRecord, curve, end, reaches, read_run, value
from tests.experiment.fakes import COMMIT, RETURN, fake_run

RECORDS = [
    {"env_step": 100, "loss/reward": 4.0},
    {"env_step": 500, RETURN: 10.0},
    {"env_step": 900, "loss/reward": 3.0},
    {"env_step": 1000, RETURN: 40.0},
    {"env_step": 1503, RETURN: 20.0},
    {"env_step": 2000, "loss/reward": 1.0},
]


@pytest.fixture(name="run")
def _run(tmp_path: Path) -> RunRecord:
    findings = [{"name": "kl_collapse", "first_step": 5, "evidence": "x"}, {"name": "flat_actor"}, {"name": "kl_collapse"}]
    return read_run(fake_run(tmp_path / "one", RECORDS, seed=3, summary={"findings": findings}))


def test_a_run_says_what_it_is(run: RunRecord) -> None:
    assert (run.name, run.seed, run.commit, run.dirty) == ("one", 3, COMMIT[:10], False)
    assert run.findings == ("kl_collapse", "flat_actor")
    assert run.config == {"env.num_envs": 4, "run.name": "one", "train.seed": 3}
    assert [end(run, budget) for budget in Budget] == [2000, 500, 200]


def test_an_older_run_has_no_findings_and_no_summary(tmp_path: Path) -> None:
    assert read_run(fake_run(tmp_path / "old", RECORDS, summary={"seconds": 1.0})).findings == ()
    assert read_run(fake_run(tmp_path / "older", RECORDS, meta={"git": None})).commit == "unknown"


@pytest.mark.parametrize(
    ("budget", "spent"), [("env_steps", [500, 1000, 1503]), ("updates", [125, 250, 375]), ("seconds", [50, 100, 150.3])]
)
def test_a_curve_over_every_budget(budget: str, spent: list[float], run: RunRecord) -> None:
    x, y = curve(run, RETURN, Budget[budget])
    np.testing.assert_allclose(x, spent)
    np.testing.assert_array_equal(y, [10, 40, 20])


@pytest.mark.parametrize(
    ("statistic", "at", "start", "expected"),
    [
        ("last", 2000, 0, 20),
        ("last", 1502, 0, 20),  # 1503 is the first count at or past 1500 with four environments
        ("last", 1500, 0, 20),
        ("last", 1499, 0, 40),
        ("last", 1499, 1200, 40),  # `start` is no matter of the last value
        ("mean", 2000, 0, 70 / 3),
        ("mean", 2000, 1000, 30),
        ("min", 2000, 501, 20),
        ("max", 996, 0, 10),
        ("max", 1000, 0, 40),
    ],
)
def test_each_statistic_over_its_window(statistic: str, at: int, start: int, expected: float, run: RunRecord) -> None:
    metric = Metric(RETURN, at=at, statistic=Statistic[statistic], start=start)
    assert value(run, metric) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("statistic", "threshold", "start", "expected"),
    [
        ("area", None, 0, (500 * 25 + 503 * 30) / 1003),
        ("area", None, 1_200, 20),  # one value alone
        ("fall", None, 0, 20),
        ("time_to", 40, 0, 1_000),
        ("time_to", 20, 1_200, 1_503),
        ("time_to", 41, 0, 2_000),  # never: all of the budget
        ("kept", 10, 0, 1.0),
        ("kept", 30, 0, 0.0),
        ("kept", 41, 0, 0.0),
    ],
)
def test_statistics_of_the_whole_curve(
    statistic: str, threshold: float | None, start: int, expected: float, run: RunRecord
) -> None:
    metric = Metric(RETURN, at=2_000, statistic=Statistic[statistic], start=start, threshold=threshold)
    assert value(run, metric) == pytest.approx(expected)


def test_what_was_kept_is_not_known_where_nothing_follows(run: RunRecord) -> None:
    message = "run one has no eval/greedy/return_mean after the first that reaches 40"
    with pytest.raises(UserError, match=message):
        value(run, Metric(RETURN, at=1_000, statistic=Statistic.kept, threshold=40))


def test_seconds_have_no_tick(run: RunRecord) -> None:
    assert value(run, Metric(RETURN, Budget.seconds, at=150)) == 40
    assert value(run, Metric(RETURN, Budget.seconds, at=151)) == 20


@pytest.mark.parametrize(("at", "enough"), [(2000, True), (2020, True), (2021, False), (4000, False)])
def test_a_run_must_come_within_a_hundredth_of_the_budget(at: int, enough: bool, run: RunRecord) -> None:
    assert reaches(run, Budget.env_steps, at) == enough
    if not enough:
        with pytest.raises(UserError, match=f"run one ended after 2,000 of {at:,} environment steps"):
            value(run, Metric(RETURN, at=at))


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (
            Metric("eval/gredy/return_mean", at=2000),
            "run one has no metric eval/gredy/return_mean; did you mean eval/greedy/retu",
        ),
        (Metric("qqq", at=2000), "run one has no metric qqq; it has eval/greedy/return_mean, loss/reward"),
        (Metric(RETURN, at=400), "run one has no eval/greedy/return_mean from 0 to 400 environment steps"),
        (Metric(RETURN, Budget.updates, Statistic.mean, 400, at=450), r"from 400 to 450 updates"),
    ],
)
def test_what_a_run_does_not_have_is_one_line(metric: Metric, message: str, run: RunRecord) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        value(run, metric)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_not_finite_is_no_result(bad: str, run: RunRecord) -> None:
    spoiled = replace(run, records=(*run.records, {"env_step": 1800, "update": 450, "time": 1.0, RETURN: float(bad)}))
    assert value(spoiled, Metric(RETURN, at=1700)) == 20
    for statistic in (Statistic.last, Statistic.mean):
        with pytest.raises(UserError, match="run one: eval/greedy/return_mean is not finite"):
            value(spoiled, Metric(RETURN, at=2000, statistic=statistic))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("metrics.jsonl", None, "run one has no metrics.jsonl"),
        ("metrics.jsonl", "", "run one logged nothing"),
        ("metrics.jsonl", "{]\n{}\n", "run one cannot be read"),
        ("config.yaml", None, "run one has no config.yaml"),
        ("config.yaml", "a: [", "run one cannot be read"),
        ("summary.json", "{", "run one cannot be read"),
        ("summary.json", "[" * 5_000, "run one cannot be read"),
        ("summary.json", "[]", "run one cannot be read: summary.json is no mapping of keys to values"),
        ("meta.json", "3", "run one cannot be read: meta.json is no mapping of keys to values"),
        ("config.yaml", "", "run one cannot be read: config.yaml is no mapping of keys to values"),
    ],
)
def test_a_damaged_run_is_one_line(file: str, content: str | None, message: str, tmp_path: Path) -> None:
    path = fake_run(tmp_path / "one", RECORDS, summary={})
    (path / file).unlink()
    if content is not None:
        (path / file).write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_run(path)
    assert "\n" not in str(caught.value)


def test_what_is_of_another_kind_than_it_was_written_as_does_not_count(tmp_path: Path) -> None:
    path = fake_run(tmp_path / "one", [{"env_step": 10, "update": 1, RETURN: 1.0}], summary={"findings": "none"})
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps({**meta, "git": "abc", "versions": [1]}))
    (path / "metrics.jsonl").write_text('{"env_step": 10, "update": 1}\n')
    run = read_run(path)
    assert (run.commit, run.dirty, run.findings, run.meta.get("versions")) == ("unknown", False, (), None)
    assert end(run, Budget.seconds) == 0
