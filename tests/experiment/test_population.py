"""Which runs of an experiment are trained together, and that they are the runs that they would be alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamerjax.config.composition import config_to_yaml, load_config, load_members
from dreamerjax.experiment import __main__ as command_line
from dreamerjax.experiment import spec
from dreamerjax.experiment.design import Arm, Experiment
from dreamerjax.experiment.jobs import Job, populations
from dreamerjax.experiment.states import run_name, runs
from tests.experiment import files

ARMS = {
    "free_nats": ["loss.free_nats=0.1"],
    "gamma": ["behavior.gamma=0.9"],
    "offline": ["replay.online=false"],
    "script": {"overrides": ["loss.free_nats=0.3"], "script": "fault.py"},
}


def load(root: Path) -> Experiment:
    return spec.load("trial", root / "experiments")


def all_runs(experiment: Experiment) -> list[tuple[Arm, int]]:
    return [(arm, seed) for seed in experiment.seeds for arm in experiment.arms]


def call(root: Path, *arguments: str) -> int:
    return command_line.main([*arguments, "--experiments", str(root / "experiments"), "--root", str(root / "runs")])


def test_runs_that_differ_in_more_than_traced_numbers_are_trained_apart(tmp_path: Path) -> None:
    sides = {"hypothesis.treatment": "gamma", "hypothesis.control": "free_nats", "factorial": True, "seeds": [0, 1, 2]}
    file = files.write(tmp_path / "experiments", {"arms": ARMS, **sides})
    (file.parent / "fault.py").touch()
    experiment = load(tmp_path)
    groups = populations(experiment, all_runs(experiment), runs(experiment, tmp_path / "runs"))
    assert [[run_name(arm.name, seed) for arm, seed in group] for group in groups] == [
        [f"{arm}_seed{seed}" for seed in range(3) for arm in ("free_nats", "gamma")],
        [f"offline_seed{seed}" for seed in range(3)],
        *([f"script_seed{seed}"] for seed in range(3)),
    ]
    members = load_members(Job(experiment, groups[0], tmp_path / "runs").command()[3:])
    alone = [load_config(Job(experiment, (run,), tmp_path / "runs").command()[3:]) for run in groups[0]]
    assert [config_to_yaml(config) for config in members] == [config_to_yaml(config) for config in alone]


def test_a_population_is_begun_skipped_and_continued_like_single_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files.write(tmp_path / "experiments")
    assert call(tmp_path, "run", "trial", "--population") == 0
    assert "start  a_seed0_and_5_more" in capsys.readouterr().out
    experiment = load(tmp_path)
    states = runs(experiment, tmp_path / "runs")
    assert [state.state for state in states.values()] == ["finished"] * 6
    log = (tmp_path / "runs" / "trial" / "logs" / "a_seed0_and_5_more.log").read_text()
    for arm, seed in states:
        assert f"{run_name(arm, seed)} | finished after 80 environment steps" in log
    assert call(tmp_path, "run", "trial", "--population") == 0
    assert "6 runs, 6 of them finished before" in capsys.readouterr().out
    for key in (("a", 1), ("b", 2)):  # as if they had been cut off
        path = states[key].path
        assert path is not None
        (path / "summary.json").unlink()
    group = Job(experiment, tuple(all_runs(experiment)), tmp_path / "runs")
    resumed = ",".join(str(states[key].path) for key in (("a", 1), ("b", 2)))
    assert group.command()[3:] == [f"resume={resumed}"]
    assert call(tmp_path, "run", "trial", "--population") == 0
    assert "resume  a_seed1_and_1_more" in capsys.readouterr().out
    assert group.state().state == "finished"


def test_the_error_of_a_member_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files.write(tmp_path / "experiments", {"common": [*files.RANDOM, "env.id=Nowhere-v0"]})
    assert call(tmp_path, "run", "trial", "--population") == 1
    out = capsys.readouterr().out
    assert "end    a_seed0_and_5_more: b_seed2: " in out
    assert "Nowhere" in out
