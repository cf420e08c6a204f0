"""Experiment files: what a valid one becomes, and every refusal by its words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dreamerjax.core.errors import UserError
from dreamerjax.experiment import spec
from dreamerjax.experiment.checks import composed
from dreamerjax.experiment.design import Budget, Gate, Statistic, Status
from tests.experiment import files

EVAL = {"metric.name": "eval/greedy/return_mean"}
SWEPT = {"arms": None, "sweep": files.SWEEP, "factorial": True}


def refused(root: Path, changes: dict[str, Any]) -> str:
    """What is said about the valid file with these changes, without the file's name, which must come first."""
    file = files.write(root, changes)
    with pytest.raises(UserError) as caught:
        spec.load("trial", root)
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith(f"{file}: ")
    return str(caught.value).removeprefix(f"{file}: ")


def test_a_valid_file_becomes_what_it_says(tmp_path: Path) -> None:
    changes = {"metric.at": "1e2", "metric.statistic": "min", "metric.start": 20, "common": [*files.RANDOM, "train.steps=1e3"]}
    file = files.write(tmp_path, {**changes, "gate": "architecture", "seeds": [3, 1, 2], "rule": {"confidence": 0.9}})
    experiment = spec.load("trial", tmp_path)
    assert (experiment.slug, experiment.directory, str(experiment.date)) == ("trial", file.parent, "2026-11-25")
    assert (experiment.gate, experiment.status, experiment.rule.confidence) == (Gate.architecture, Status.planned, 0.9)
    metric = experiment.metric
    assert (metric.at, metric.start, metric.statistic, metric.budget) == (100, 20, Statistic.min, Budget.env_steps)
    assert [arm.name for arm in experiment.arms] == ["a", "b"]
    assert experiment.seeds == (3, 1, 2)
    hypothesis = experiment.hypothesis
    assert (hypothesis.higher, hypothesis.by, hypothesis.contrast.treatment, hypothesis.contrast.control) == (
        True,
        1.0,
        ("b",),
        ("a",),
    )
    assert composed(experiment, experiment.arms[1]).loss.free_nats == 1.0
    assert spec.load(file) == spec.load(file.parent) == experiment
    assert spec.slugs(tmp_path) == ["trial"]


def test_text_that_yaml_would_read_as_something_else_stays_text(tmp_path: Path) -> None:
    file = files.write(tmp_path)
    text = file.read_text().replace("  a:", "  off:").replace("  b:", "  1e-3:")
    file.write_text(text.replace("treatment: b", "treatment: 1e-3").replace("control: a", "control: off"))
    assert [arm.name for arm in spec.load("trial", tmp_path).arms] == ["off", "1e-3"]


REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"qestion": "?"}, "unknown key qestion; did you mean question?"),
    ({"metric.nane": "x"}, "unknown key metric.nane; did you mean name?"),
    ({"metric.zzz": "x"}, "unknown key metric.zzz; valid: name, budget, at, statistic, start, threshold"),
    ({"hypothesis.tretment": "b"}, "unknown key hypothesis.tretment; did you mean treatment?"),
    ({"arms/a": {"overides": []}}, "unknown key arms.a.overides; did you mean overrides?"),
    ({"question": None}, "question is missing"),
    ({"question": " "}, "question is missing"),
    ({"hypothesis": None}, "hypothesis is missing"),
    ({"hypothesis.expect": None}, "hypothesis.expect is missing"),
    ({"metric": None}, "metric is missing"),
    ({"metric": "return"}, "metric must be a mapping with the keys name, budget, at, statistic, start, threshold"),
    ({"arms": None}, "arms or sweep: one of the two is needed, not both"),
    ({"sweep": files.SWEEP}, "arms or sweep: one of the two is needed, not both"),
    ({"seeds": None}, "seeds is missing"),
    ({"seeds": []}, "seeds is missing"),
    ({"seeds": [0, 1, "x"]}, "seeds must be a list of whole numbers, not [0, 1, x]"),
    ({"seeds": [0, 1, 1]}, "seeds must be different numbers of at least 0, not [0, 1, 1]"),
    ({"seeds": [0, 1, -1]}, "seeds must be different numbers of at least 0, not [0, 1, -1]"),
    ({"seeds": [0, 1]}, "seeds must be at least 3, not 2; fewer need pilot: true"),
    ({"date": "yesterday"}, "date must be a date such as 2026-11-25, not yesterday"),
    ({"status": "reportd"}, "status must be one of planned, running, reported, not reportd; did you mean reported?"),
    ({"pilot": "maybe"}, "pilot must be true or false, not maybe"),
    ({"rule": {"confidence": 95}}, "rule.confidence must be at least 0.5 and below 1, not 95"),
    (
        {"arms/b": None, "hypothesis.treatment": "a"},
        "hypothesis.treatment and control must not share an arm: a is on both sides",
    ),
    ({"hypothesis.treatment": ["b", "a"]}, "hypothesis.treatment and control must not share an arm: a is on both sides"),
    ({"hypothesis.treatment": "bb"}, "hypothesis.treatment is not an arm: bb; did you mean b?"),
    ({"hypothesis.control": "zzz"}, "hypothesis.control is not an arm: zzz; arms: a, b"),
    (
        {"hypothesis.control": {"optim.actor_lr": 1}},
        "hypothesis.control selects no arm: no arm of the sweep has {optim.actor_lr: 1}",
    ),
    (
        {"hypothesis.control": None},
        "hypothesis.treatment and control, or factor and against, must be given: one pair of the two",
    ),
    ({"hypothesis.by": "much"}, "hypothesis.by must be a number, not much"),
    ({"hypothesis.by": -1}, "hypothesis.by must be at least 0, not -1: `higher` says the direction"),
    (
        {"arms/x y": []},
        "arms.x y must be letters, digits, '_', '-' or '.', since it names directories",
    ),
    ({"arms/a": ["optim.actor_Ir=1"]}, "arm a: unknown key optim.actor_Ir; did you mean optim.actor_lr?"),
    ({"arms/a": ["optim.actor_lr=fast"]}, "arm a: optim.actor_lr must be a number, not fast"),
    ({"arms/a": ["optim.agc=0"]}, "arm a: optim.agc must be above 0, not 0"),
    ({"common": ["size=huge"]}, "arm a: size=huge: no such option; valid: "),
    ({"arms/a": [{"x": 1}]}, "arms.a must be a list of text, such as [a, b]; an override is one word, key=value"),
    ({"arms/a": ["train.seed=3"]}, "arm a: train.seed=3 cannot be an override here: each run is given its own"),
    ({"common": ["run.root=x"]}, "arm a: run.root=x cannot be an override here: each run is given its own"),
    ({"arms/a": {"script": "x.py"}}, "arm a: script x.py does not exist in "),
    (
        {"metric.statistic": "time_to"},
        "metric.threshold is missing with statistic time_to; time_to and kept have one, no other",
    ),
    (
        {"metric.threshold": 5},
        "metric.threshold has no meaning (5) with statistic last; time_to and kept have one, no other",
    ),
    ({"metric.at": 0}, "metric.at must be above 0, not 0"),
    ({"metric.at": 1.5}, "metric.at must be a whole number, not 1.5"),
    ({"metric.start": 80}, "metric.start must be at least 0 and below metric.at (80), not 80"),
    (
        {"metric.budget": "steps"},
        "metric.budget must be one of env_steps, updates, seconds, not steps; did you mean env_steps?",
    ),
    ({"metric.name": "return"}, "metric.name is no known metric: return; valid (see docs/metrics.md): eval/greedy/..., "),
    ({"metric.name": "eval/x/return_mean"}, "metric.name is no known metric: eval/x/return_mean; valid"),
    ({"metric.at": 100}, "arm a: train.steps (80) must be at least metric.at (100)"),
    (EVAL, "arm a: train.eval_every (1000) must be at most metric.at (80)"),
    (
        {**EVAL, "common": [*files.RANDOM, "train.eval_every=0"]},
        "arm a: train.eval_every is 0, so there is no eval/greedy/return_mean: it must be at least 1",
    ),
    (
        {"arms/b": ["train.stop_at_return=5"]},
        "arm b: train.stop_at_return must be null: a run that stops early has another budget",
    ),
    (
        {"arms/b": ["train.steps=90"]},
        "arms a and b have unequal budgets: train.steps must be the same in all arms",
    ),
    ({"arms/b": ["loss.free_nats=0.1"]}, "arms a and b are the same"),
    (
        {"arms/b": ["loss.free_nats=1.0", "optim.agc=0.2"]},
        "arms a and b differ in 2 keys: loss.free_nats, optim.agc; change one, or say factorial: true",
    ),
    (
        {"arms/b": ["loss.free_nats=0.1", "model.units=8"]},
        "arms a and b are different model families: model.units; that needs gate: architecture",
    ),
    (
        {"arms/b": ["loss.free_nats=0.1", "env.id=Acrobot-v1"]},
        "arms a and b are different model families: env.id; that needs gate: architecture",
    ),
    (
        {"arms/b": ["loss.free_nats=0.1", "env.kwargs.max_episode_steps=9"]},
        "arms a and b are different model families: env.kwargs.max_episode_steps; that needs gate: architecture",
    ),
    (
        {**SWEPT, "factorial": False, "hypothesis.treatment": {"optim.actor_lr": "1e-5"}},
        "hypothesis.control is not an arm: a; arms: ",
    ),
    ({**SWEPT, "sweep": {"grid": {"optim.agc": []}}}, "sweep.grid.optim.agc is missing"),
    ({**SWEPT, "sweep": {"grid": {"optim.agc": [1, 1]}}}, "sweep.grid.optim.agc has a value twice"),
    ({**SWEPT, "sweep": {"gird": {}}}, "unknown key sweep.gird; did you mean grid?"),
]


@pytest.mark.parametrize(
    ("changes", "words"), REFUSALS, ids=[f"{list(changes)[-1]}-{i}" for i, (changes, _) in enumerate(REFUSALS)]
)
def test_what_cannot_answer_is_refused_in_one_line(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    assert refused(tmp_path, changes).startswith(words)


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": [7], "pilot": True},
        {"arms/b": ["loss.free_nats=1.0", "optim.agc=0.2"], "factorial": True},
        {"arms/b": ["loss.free_nats=0.1", "model.units=8"], "gate": "architecture"},
        {**EVAL, "common": [*files.RANDOM, "train.eval_every=80"]},
        {"arms/b": ["loss.free_nats=0.1", "parallel.devices=2"]},
    ],
)
def test_what_is_asked_for_by_name_is_allowed(changes: dict[str, Any], tmp_path: Path) -> None:
    files.write(tmp_path, changes)
    assert len(spec.load("trial", tmp_path).arms) == 2


def test_each_treatment_is_one_change_from_the_control(tmp_path: Path) -> None:
    """Two treatments may change different things; each is compared with the control alone."""
    files.write(tmp_path, {"arms/b": ["loss.free_nats=1.0"], "arms/c": ["loss.free_nats=0.1", "optim.agc=0.2"]})
    assert len(spec.load("trial", tmp_path).arms) == 3
    files.write(tmp_path, {"arms/b": ["loss.free_nats=1.0"], "arms/c": ["loss.free_nats=0.3", "optim.agc=0.2"]})
    with pytest.raises(UserError, match=r"arms a and c differ in 2 keys: loss\.free_nats, optim\.agc"):
        spec.load("trial", tmp_path)


def test_another_size_is_one_change(tmp_path: Path) -> None:
    sizes = {"arms/a": ["size=tiny"], "arms/b": ["size=tiny256"], "gate": "architecture"}
    files.write(tmp_path, sizes)
    assert len(spec.load("trial", tmp_path).arms) == 2
    files.write(tmp_path, {**sizes, "arms/b": ["size=tiny256", "optim.agc=0.2"]})
    with pytest.raises(UserError, match=r"arms a and b differ in \d+ keys"):
        spec.load("trial", tmp_path)


def test_a_script_is_a_change_like_a_key(tmp_path: Path) -> None:
    file = files.write(tmp_path, {"arms/b": {"overrides": ["loss.free_nats=0.1"], "script": "fault.py"}})
    (file.parent / "fault.py").touch()
    assert spec.load("trial", tmp_path).arms[1].script == "fault.py"
    files.write(tmp_path, {"arms/b": {"overrides": ["loss.free_nats=0.2"], "script": "fault.py"}})
    with pytest.raises(UserError, match=r"differ in 2 keys: loss\.free_nats, script"):
        spec.load("trial", tmp_path)


def test_sides_are_selected_by_level_and_factors_by_key(tmp_path: Path) -> None:
    sides = {
        "hypothesis.treatment": {"behavior.entropy": "1e-2"},
        "hypothesis.control": {"optim.actor_lr": "1e-5", "behavior.entropy": 0.1},
    }
    files.write(tmp_path, {**SWEPT, **sides})
    contrast = spec.load("trial", tmp_path).hypothesis.contrast
    assert contrast.treatment == ("actor_lr_1e-5_entropy_0.01", "actor_lr_1e-4_entropy_0.01")
    assert contrast.control == ("actor_lr_1e-5_entropy_0.1",)
    factors = {"hypothesis.treatment": None, "hypothesis.control": None, "hypothesis.factor": "optim.actor_lr"}
    files.write(tmp_path, {**SWEPT, **factors, "hypothesis.against": "behavior.entropy"})
    contrast = spec.load("trial", tmp_path).hypothesis.contrast
    assert (contrast.factor, contrast.against) == ("optim.actor_lr", "behavior.entropy")
    against = "hypothesis.against is not a swept key: behavior.entrop; did you mean behavior.entropy?"
    assert refused(tmp_path, {**SWEPT, **factors, "hypothesis.against": "behavior.entrop"}) == against
    same = "hypothesis.against must be another swept key than factor (optim.actor_lr)"
    assert refused(tmp_path, {**SWEPT, **factors, "hypothesis.against": "optim.actor_lr"}) == same
    none = "hypothesis.factor is not a swept key: optim.actor_lr; valid: none, since there is no sweep"
    assert refused(tmp_path, {**factors, "hypothesis.against": "behavior.entropy"}) == none


def test_a_file_that_is_not_yaml_or_not_there(tmp_path: Path) -> None:
    file = files.write(tmp_path)
    for text, words in (
        ("a: [", "is not valid YAML"),
        ("a: " + "[" * 3000, "is not valid YAML: it is nested too deeply"),
        ("- a", "the file must be a mapping"),
        ("a: 1\na: 2", "a comes twice"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=words):
            spec.load("trial", tmp_path)
    with pytest.raises(UserError, match=re.escape(f"no experiment trail under {tmp_path}/: did you mean trial?")):
        spec.load("trail", tmp_path)
    with pytest.raises(UserError, match="there are: none"):
        spec.load("trial", tmp_path / "nowhere")


def test_the_status_changes_in_its_place(tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text("# head\nstatus: planned   # kept\nquestion: |\n  status: no\n")
    spec.set_status(file, Status.running)
    assert file.read_text() == "# head\nstatus: running   # kept\nquestion: |\n  status: no\n"
    file.write_text("question: x\n")
    spec.set_status(tmp_path, Status.reported)
    assert file.read_text() == "question: x\nstatus: reported\n"


def test_changes_are_named_and_new_seeds_are_none(tmp_path: Path) -> None:
    before = files.write(tmp_path, slug="before")
    assert spec.changes(files.write(tmp_path, {"status": "running", "seeds": [0, 1, 2, 3]}), before) == []
    after = files.write(tmp_path, {"metric.at": 79, "seeds": [0, 1, 3], "arms/a": []})
    assert spec.changes(after, before) == ["metric", "arms", "seeds"]


def test_a_new_file_is_valid_and_never_overwrites(tmp_path: Path) -> None:
    file = spec.write_new("first", tmp_path, "What's: {this} #1?")
    experiment = spec.load("first", tmp_path)
    assert experiment.question == "What's: {this} #1?"
    assert len(experiment.seeds) * len(experiment.arms) == 10
    text = file.read_text()
    with pytest.raises(UserError, match="exists already"):
        spec.write_new("first", tmp_path)
    assert file.read_text() == text
    with pytest.raises(UserError, match="cannot be an experiment's name"):
        spec.write_new("../x", tmp_path)
