"""The report of an experiment from runs that only look trained: verdict, numbers, warnings, and what does not count."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dreamerjax.core.errors import UserError
from dreamerjax.core.files import write_json
from dreamerjax.experiment import power, spec, write_up
from dreamerjax.experiment.analysis import without_places
from dreamerjax.experiment.design import Arm, Budget, Contrast, Experiment, Gate, Metric, Statistic, Status
from dreamerjax.experiment.states import ExperimentRun
from dreamerjax.visualization.style import DPI
from tests.experiment.fakes import RETURN, experiment, fake_runs

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
FINALS = {"control": [100.0, 110.0, 120.0, 130.0, 400.0], "treatment": [200.0, 210.0, 220.0, 230.0, 0.0]}
Write = Callable[[Experiment, Mapping[tuple[str, int], ExperimentRun]], str]


@pytest.fixture(name="write")
def _write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Reports on given runs; returns REPORT.md."""

    def write(design: Experiment, states: Mapping[tuple[str, int], ExperimentRun]) -> str:
        statuses: list[tuple[Path, Status]] = []
        monkeypatch.setattr(write_up, "runs", lambda *_: states)
        monkeypatch.setattr(spec, "changes", lambda _, first: first.read_text().replace(":", "").split())
        monkeypatch.setattr(spec, "set_status", lambda *given: statuses.append(given))
        path = write_up.write_up(design, tmp_path / "runs")
        assert path == design.directory / "REPORT.md"
        finished = all(state.state == "finished" for state in states.values())
        assert statuses == ([(design.directory / "experiment.yaml", Status.reported)] if finished else [])
        return path.read_text(encoding="utf-8")

    return write


@pytest.fixture(name="design")
def _design(tmp_path: Path) -> Experiment:
    return experiment(tmp_path / "threshold")


@pytest.fixture(name="states")
def _states(tmp_path: Path, design: Experiment) -> dict[tuple[str, int], ExperimentRun]:
    return fake_runs(tmp_path / "runs", design, FINALS)


def results(design: Experiment) -> dict[str, Any]:
    """The content of results.json."""
    content: dict[str, Any] = json.loads((design.directory / "results.json").read_text())
    return content


def change_meta(state: ExperimentRun, **changes: Any) -> None:
    """Rewrites parts of a run's meta.json."""
    assert state.path is not None
    file = state.path / "meta.json"
    write_json(file, {**json.loads(file.read_text()), **changes})


def test_the_verdict_comes_first_and_every_number_is_in_the_json(
    write: Write, design: Experiment, states: dict[tuple[str, int], ExperimentRun]
) -> None:
    text = write(design, states)
    title, _, verdict = text.split("\n")[:3]
    numbers = results(design)
    assert title == "# Does a lower threshold help?"
    low, high = numbers["contrast"]["low"], numbers["contrast"]["high"]
    assert verdict.startswith(
        f"**Inconclusive**: treatment minus control is 90 [{low:.4g}, {high:.4g}]; expected was at least 50"
    )
    assert "is higher than a control run with probability 0.64 [" in verdict
    assert "Seeds: 5 + 5. Why: the interval" in verdict
    assert numbers["verdict"] == "inconclusive"
    assert numbers["contrast"]["value"] == 90  # middle three: 210 and 120
    control = numbers["arms"][0]
    assert control["interquartile_mean"]["value"] == 120
    assert [control["mean"], control["min"], control["max"]] == [172, 100, 400]
    assert [run["value"] for run in control["runs"]] == FINALS["control"]
    first = control["runs"][0]
    assert [first[key] for key in ("seed", "run", "updates", "seconds", "commit")] == [0, "control_0", 500, 200, "0123456789"]
    assert "| control | `loss.free_nats=1` | 5 of 5 | 120 [" in text
    assert "| 172 | 100 | 400 | none | 200 | 500 |" in text
    assert "**Warning.**" not in text
    seen = power.smallest_effect(FINALS, design)
    assert numbers["smallest_effect"] == seen
    assert f"Such seeds see an effect of at least {seen:.4g} in 80% of experiments.\n\n## The question" in text
    assert numbers["log_rank"] is None


def test_times_are_compared_by_the_log_rank_test_too(
    write: Write, design: Experiment, states: dict[tuple[str, int], ExperimentRun]
) -> None:
    hypothesis = replace(design.hypothesis, higher=False, by=100.0)
    metric = replace(design.metric, statistic=Statistic.time_to, threshold=150.0)
    text = write(replace(design, metric=metric, hypothesis=hypothesis), states)
    numbers = results(design)
    times = {arm["name"]: [run["value"] for run in arm["runs"]] for arm in numbers["arms"]}
    never = {name: sum(time == 2_000 for time in found) for name, found in times.items()}
    assert numbers["log_rank"]["censored"] == never
    assert numbers["metric"]["threshold"] == 150.0
    assert f"Not reached within the budget: {never['treatment']} runs of the treatment and {never['control']} of the" in text
    assert "where it first reaches the threshold, or the end where it never does, from 0 to 2,000 environment steps" in text


def test_a_clear_effect_is_supported_and_its_opposite_refuted(write: Write, design: Experiment, tmp_path: Path) -> None:
    clear = {"control": [100.0, 101.0, 102.0, 103.0, 104.0], "treatment": [300.0, 301.0, 302.0, 303.0, 304.0]}
    states = fake_runs(tmp_path / "clear", design, clear)
    assert "**Supported**: treatment minus control is 200 [" in write(design, states)
    fewer = replace(design, hypothesis=replace(design.hypothesis, higher=False))
    text = write(fewer, states)
    assert "**Refuted**: treatment minus control is 200 [" in text
    assert "A treatment run is lower than a control run with probability 0 [0, 0]" in text
    assert "the opposite of what was expected" in text
    larger = replace(design, hypothesis=replace(design.hypothesis, by=250.0))
    assert "an effect, but smaller than expected" in write(larger, states)


def test_pictures_are_drawn_and_small(write: Write, design: Experiment, states: dict[tuple[str, int], ExperimentRun]) -> None:
    text = write(design, states)
    for name in ("curves.png", "metric.png"):
        assert f"]({name})" in text
        pixels = np.asarray(Image.open(design.directory / name).convert("RGB"))
        for color in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
            assert (pixels == color).all(-1).any()
        assert (design.directory / name).stat().st_size < 300_000


def test_runs_that_do_not_count_are_named_with_the_reason(
    write: Write, design: Experiment, states: dict[tuple[str, int], ExperimentRun]
) -> None:
    states["control", 1] = ExperimentRun(states["control", 1].path, "failed", "OSError: /home/someone/runs/x.json: disk\nfull")
    states["control", 2] = ExperimentRun(None, "missing")
    short = states["control", 3].path
    assert short is not None
    (short / "metrics.jsonl").write_text("".join((short / "metrics.jsonl").read_text().splitlines(keepends=True)[:3]))
    states["treatment", 4] = ExperimentRun(states["treatment", 4].path, "interrupted")
    text = write(design, states)
    assert "> **Warning.** 4 of 10 runs do not count" in text
    assert "| control | 1 | run control_1 failed: OSError: x.json: disk full |" in text
    assert "| control | 2 | never started |" in text
    assert "| control | 3 | run control_3 ended after 1,500 of 2,000 environment steps |" in text
    assert "| treatment | 4 | run treatment_4 was interrupted |" in text
    assert "Seeds: 2 + 4." in text
    assert "| 2 of 5 | 250 [" in text
    assert [entry["seed"] for entry in results(design)["absent"]] == [1, 2, 3, 4]


def test_one_seed_of_an_arm_decides_nothing(
    write: Write, design: Experiment, states: dict[tuple[str, int], ExperimentRun]
) -> None:
    for seed in range(1, 5):
        states["treatment", seed] = ExperimentRun(None, "missing")
    text = write(design, states)
    assert "**Inconclusive**: treatment minus control is 80 [n/a, n/a]" in text
    assert "fewer than 2 seeds finished of treatment" in text
    states["treatment", 0] = ExperimentRun(None, "missing")
    assert "| treatment | `loss.free_nats=0.1` | 0 of 5 | n/a |" in write(design, states)


def test_nothing_to_report_is_one_line(write: Write, design: Experiment, states: dict[tuple[str, int], ExperimentRun]) -> None:
    empty = {key: ExperimentRun(None, "missing") for key in states}
    with pytest.raises(
        UserError, match="none of its 10 runs can be compared, for example control, seed 0: never start"
    ) as caught:
        write(design, empty)
    assert caught.value.exit_code == 1
    assert not (design.directory / "REPORT.md").exists()


def test_findings_are_counted_over_seeds(
    write: Write, design: Experiment, states: dict[tuple[str, int], ExperimentRun]
) -> None:
    for seed, names in enumerate((["kl_collapse"], ["flat_actor", "kl_collapse", "kl_collapse"], [])):
        path = states["control", seed].path
        assert path is not None
        write_json(path / "summary.json", {"findings": [{"name": name, "first_step": 1} for name in names]})
    assert "| 2 of 5: kl_collapse; 1 of 5: flat_actor |" in write(design, states)


def test_code_that_differs_between_runs_is_warned_of(
    write: Write, design: Experiment, states: dict[tuple[str, int], ExperimentRun]
) -> None:
    change_meta(states["control", 0], git={"commit": "fedcba9876543210", "dirty": True})
    change_meta(states["control", 1], versions={"python": "3.11", "jax": "0.11"})
    change_meta(states["control", 2], family={"env.id": "CartPole-v1", "model.deter": 64})
    text = write(design, states)
    assert "The runs come from 2 commits: 0123456789, fedcba9876." in text
    assert "1 of 10 runs started with changes that were not committed." in text
    assert "The runs used different packages: jax 0.10, 0.11." in text
    assert (
        "not one model family: control_0 is of another model family: model.deter is 128 there and 64 here (control_2)" in text
    )
    assert text.index("> **Warning.**") < text.index("## ")
    assert "model family" not in write(replace(design, gate=Gate.architecture), states)


def test_a_hypothesis_that_changed_after_the_first_run_is_warned_of(
    write: Write, design: Experiment, states: dict[tuple[str, int], ExperimentRun], tmp_path: Path
) -> None:
    first = tmp_path / "runs" / "threshold" / "experiment.yaml"
    assert "has changed" not in write(design, states)
    first.write_text("hypothesis: rule\n")
    assert "experiment.yaml has changed since the first run: hypothesis, rule." in write(design, states)
    first.write_text("")
    assert "has changed" not in write(design, states)


def test_pilots_and_wall_time_are_warned_of(
    write: Write, design: Experiment, states: dict[tuple[str, int], ExperimentRun]
) -> None:
    text = write(replace(design, pilot=True, metric=Metric(RETURN, Budget.seconds, at=200)), states)
    assert "This is a pilot" in text
    assert "The budget is wall time" in text
    assert "at or before 200 seconds" in text


def test_notes_are_the_end_and_nothing_tells_the_machine(
    write: Write, design: Experiment, states: dict[tuple[str, int], ExperimentRun], tmp_path: Path
) -> None:
    (design.directory / "NOTES.md").write_text("## What it means\n\nA *discussion* | as it is.\n", encoding="utf-8")
    text = write(design, states)
    assert text.endswith("## What it means\n\nA *discussion* | as it is.\n")
    assert "python -m dreamerjax.experiment run threshold" in text
    assert "python -m dreamerjax.experiment report threshold" in text
    for content in (text, (design.directory / "results.json").read_text()):
        assert str(tmp_path) not in content


def test_a_report_repeats_itself(write: Write, design: Experiment, states: dict[tuple[str, int], ExperimentRun]) -> None:
    assert write(design, states) == write(design, states)


def test_a_grid_gets_its_level_means_and_a_heat_map(write: Write, design: Experiment, tmp_path: Path) -> None:
    effect = {("0.1", "1e-4"): 10.0, ("0.1", "4e-4"): 20.0, ("1", "1e-4"): 110.0, ("1", "4e-4"): 140.0}
    arms = tuple(Arm(f"n{nats} r{rate}", (), levels=(("nats", nats), ("rate", rate))) for nats, rate in effect)
    hypothesis = replace(design.hypothesis, contrast=Contrast(factor="nats", against="rate"))
    grid = replace(design, arms=arms, hypothesis=hypothesis, seeds=(0, 1))
    finals = {arm.name: [middle - 1, middle + 1] for arm, middle in zip(arms, effect.values(), strict=True)}
    text = write(grid, fake_runs(tmp_path / "runs", grid, finals))
    assert "the range of the level means of `nats` minus that of `rate` is 90 [" in text  # 125 - 15, minus 80 - 60
    assert "| `nats` | 1 | 125 |" in text
    assert "| `rate` | 1e-4 | 60 |" in text
    assert "with probability" not in text
    assert "Seeds: 2 + 2 + 2 + 2." in text
    with Image.open(grid.directory / "metric.png") as picture:
        assert picture.width == 13 * DPI  # with the heat map beside it


def settings_aside(text: str) -> str:
    """A report without the overrides that all arms share: a key of theirs may have another name since."""
    return re.sub(r"^- \*\*All arms\*\*: .*$", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize("slug", [slug for slug in spec.slugs(EXPERIMENTS) if (EXPERIMENTS / slug / "REPORT.md").exists()])
def test_a_committed_report_says_what_its_numbers_and_notes_say(slug: str) -> None:
    design = spec.load(slug, EXPERIMENTS)
    notes, text = ((design.directory / name).read_text(encoding="utf-8") for name in ("NOTES.md", "REPORT.md"))
    assert settings_aside(write_up.render(design, results(design), notes)) == settings_aside(text)


def test_many_arms_are_drawn_too(write: Write, design: Experiment, tmp_path: Path) -> None:
    arms = tuple(Arm(f"arm {index} {'x' * 80}", ()) for index in range(9))
    hypothesis = replace(design.hypothesis, contrast=Contrast((arms[1].name,), (arms[0].name,)))
    many = replace(design, arms=arms, hypothesis=hypothesis, seeds=(0, 1))
    states = fake_runs(tmp_path / "runs", many, {arm.name: [1.0, 1.0] for arm in arms})
    assert "**Refuted**" in write(many, states)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (Metric(RETURN, at=20_000), f"`{RETURN}`, its last value at or before 20,000 environment steps"),
        (Metric("x", Budget.updates, Statistic.mean, 4, at=9), "`x`, the mean of its values from 4 to 9 updates"),
        (
            Metric("x", statistic=Statistic.kept, at=9, threshold=475),
            "`x`, the share of its values at the threshold or above, after the first of them (0 where there is none), from 0 "
            "to 9 environment steps (threshold 475)",
        ),
        (Metric("x", Budget.seconds, Statistic.max, at=9), "`x`, the largest of its values from 0 to 9 seconds"),
    ],
)
def test_the_metric_in_words(metric: Metric, words: str) -> None:
    assert metric.words == words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no eval/greedy/return_mean", "no eval/greedy/return_mean"),
        ("cannot write /a/b-c/d.json: full", "cannot write d.json: full"),
        ("FileNotFoundError: '/a/b/c'", "FileNotFoundError: 'c'"),
        ("./runs/x and ../y/z", "./runs/x and ../y/z"),
    ],
)
def test_places_are_taken_out_of_messages(text: str, expected: str) -> None:
    assert without_places(text) == expected
