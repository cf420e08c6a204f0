"""The suite of `make bench-suite`: whose runs are whose, what is skipped or continued, the report, one-line errors."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import trim_mean

from dreamerjax.config.composition import load_config
from dreamerjax.core.errors import UserError
from dreamerjax.core.files import read_json_object
from dreamerjax.core.run_directory import git_state
from dreamerjax.storage.checkpoints import DIGITS, PREFIX
from tests.e2e import trials
from tests.experiment.fakes import fake_run

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLED = "eval/sampled/return_mean"


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The script, with a version of its own and its results below `tmp_path`."""
    spec = importlib.util.spec_from_file_location("suite", ROOT / "experiments" / "suite" / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "suite", module)  # dataclasses look there
    spec.loader.exec_module(module)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "NOTES.md").write_text("## Notes\n")
    monkeypatch.setattr(module, "HERE", tmp_path / "here")
    monkeypatch.setattr(module, "git_state", lambda *_: ("0123456789", False))
    return module


def call(suite: Any, tmp_path: Path, *arguments: str) -> int:
    """The command line with its runs below `tmp_path`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["run.py", *arguments, "--root", str(tmp_path / "runs")])
        code: int = suite.main()
        return code


def made(suite: Any, directory: Path, task: str, seed: int, curve: dict[int, float], **summary: Any) -> Path:
    """A run directory of the suite with greedy returns by agent step."""
    records = [{"env_step": step, suite.GREEDY: value, SAMPLED: value - 1} for step, value in curve.items()]
    name = f"{task}_seed{seed}"
    ended = {"env_steps": max(curve), "updates": 7, "seconds": 120.0, "baseline_return": 3.0} | summary
    return fake_run(directory / f"2026-01-02_030405_{name}", records, meta={"name": name}, summary=ended)


def row(task: str, seed: int, *greedy: float, every: int = 5_000) -> dict[str, Any]:
    """What is kept of a finished run."""
    curve = [[every * number, value, value] for number, value in enumerate(greedy, 1)]
    return {"task": task, "seed": seed, "random": 0.0, "updates": 1, "seconds": 60, "curve": curve}


def results(*rows: dict[str, Any]) -> dict[str, Any]:
    """The content of a results file."""
    head = {"label": "l", "commit": "c0ffee", "dirty": False, "overrides": [], "machine": {"processor": "CPU"}}
    return {**head, "runs": list(rows)}


def test_every_task_has_no_key_but_the_environment_s(suite: Any) -> None:
    assert all(word.startswith(("env.", "env=")) for task in suite.TASKS.values() for word in task.overrides)
    assert all(task.repeat == 1 or f"env.action_repeat={task.repeat}" in task.overrides for task in suite.TASKS.values())
    overlay, default = load_config(["env=cartpole_pixels"]), load_config([])
    overlay.env = default.env
    assert overlay == default
    assert len(suite.GROUPS["dmc18"]) == 18
    assert set(suite.GROUPS["dmc6"]) < set(suite.GROUPS["dmc18"])


def test_what_is_selected_comes_longest_first(suite: Any) -> None:
    chosen = [(task.name, seed) for task, seed in suite.selected("CartPole-v1,dmc6,CartPole-pixels", "1")]
    assert chosen[0] == ("CartPole-pixels", 0)
    assert chosen[1] == ("CartPole-v1", 0)
    assert len(chosen) == 8
    assert [seed for _, seed in suite.selected("walker_walk", None)] == [0, 1, 2]
    assert [seed for _, seed in suite.selected("walker_walk", "5,")] == [5]
    assert [seed for _, seed in suite.selected("walker_walk", "5,7")] == [5, 7]
    two = [suite.TASKS["walker_walk"], suite.TASKS["Pendulum-v1"]]
    assert suite.lengths(two, 50_000, []) == [25_000, 30_000]
    assert suite.lengths(two, 100_000, ["loss.free_nats=1"]) == [50_000, 30_000]
    assert suite.lengths(two, 100_000, ["train.steps=5_000"]) == [5_000, 5_000]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tasks", "walker_wlak"], "--tasks: there is no task walker_wlak; groups: dmc18, dmc6, gym, all; tasks: acrobot_"),
        (["--seeds", "few"], "--seeds must be a number of seeds, or seeds with commas such as 5,7; not few"),
        (["repot"], "repot: neither train, nor report, nor key=value"),
        (["report"], "no runs in .*/01234567: run the suite"),
        (["loss.free_nats=1"], "give --label NAME"),
        (["--label", "x", "loss.free_natz=1"], "free_natz"),
    ],
)
def test_a_mistake_is_one_line_before_anything_runs(suite: Any, tmp_path: Path, arguments: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        call(suite, tmp_path, *arguments)
    assert not (tmp_path / "runs").exists()


def test_runs_are_skipped_continued_and_told_apart(suite: Any, tmp_path: Path) -> None:
    directory, task = tmp_path / "runs" / "a", suite.TASKS["walker_walk"]
    done = made(suite, directory, "walker_walk", 1, {2_500: 10.0, 25_000: 90.0})
    made(suite, directory, "walker_walk", 10, {2_500: 10.0}, outcome="interrupted")
    stopped = made(suite, directory, "walker_walk", 2, {2_500: 10.0}, outcome="interrupted")
    (stopped / "checkpoints" / "latest" / f"{PREFIX}_{1:0{DIGITS}}").mkdir(parents=True)
    runs = [suite.Run(task, seed, 25_000, directory, ("a=b",)) for seed in (1, 10, 2)]
    states = [run.state() for run in runs]
    assert [state.state for state in states] == ["finished", "missing", "interrupted"]
    assert states[0].path == done
    assert runs[2].command()[3:] == [f"resume={stopped}", "train.steps=25000"]
    new = runs[1].command()
    assert new[3:9] == [*task.overrides, "train.steps=25000", "train.eval_every=2500", "a=b", "train.seed=10"]
    assert suite.Run(task, 1, 25_000, tmp_path / "runs" / "b").state().state == "missing"
    assert suite.Run(task, 1, 50_000, directory).state().state == "failed"  # and goes on, to 100,000 frames
    assert runs[0].row()["curve"] == [[5_000, 10.0, 9.0], [50_000, 90.0, 89.0]]
    assert runs[1].row() == {"task": "walker_walk", "seed": 10, "error": "missing"}


def test_a_label_has_one_commit_and_one_configuration(suite: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory, record = suite.identified(tmp_path, None, [], begin=True)
    assert (directory, record["label"]) == (tmp_path / "01234567", "01234567")
    suite.train([], directory, record)
    assert suite.identified(tmp_path, None, [], begin=True) == (directory, record)
    with pytest.raises(UserError, match=r"its runs have overrides \[\], not \['a=b'\]"):
        suite.identified(tmp_path, "01234567", ["a=b"], begin=True)
    monkeypatch.setattr(suite, "git_state", lambda *_: ("fedcba9876", True))
    with pytest.raises(UserError, match="its runs have commit 0123456789, not fedcba9876"):
        suite.identified(tmp_path, "01234567", [], begin=True)
    assert suite.identified(tmp_path, "01234567", [], begin=False) == (directory, record)
    assert suite.identified(tmp_path, None, [], begin=True)[0].name == "fedcba98-dirty"


def test_the_version_is_that_of_what_runs_depend_on() -> None:
    commit, _ = git_state(ROOT)
    if commit is None:
        pytest.skip("no git checkout")
    assert git_state(ROOT, ".")[0] is not None
    assert git_state(ROOT, "no/such/path") == (None, False)


def test_the_report_s_numbers(suite: Any) -> None:
    ends = {name: [100.0 * number + seed for seed in range(3)] for number, name in enumerate(suite.SIX, 1)}
    rows = [row(name, seed, *[0.0] * 7, 30.0, 60.0, end) for name, values in ends.items() for seed, end in enumerate(values)]
    text = suite.report(results(*rows))
    assert "| `cartpole_swingup` | 101 | 64 | 100, 101, 102 | 322 ± 80 | 795 ± 56 | 0.31 | 1.0 |" in text
    assert "over seeds within tasks" in text
    assert "Below 0.7 of DreamerV3's mean, where that is 100 or more: `cartpole_swingup`, `reacher_easy`." in text
    scores = np.array(list(ends.values()))
    (line,) = [line for line in text.splitlines() if line.startswith("| ours, last evaluation")]
    mean, middle = (cell.strip() for cell in line.split("|")[2:4])
    assert mean.startswith(f"{scores.mean():.4g} [")
    assert middle.startswith(f"{trim_mean(scores.ravel(), 0.25):.4g} [")
    rng = np.random.default_rng(1)
    drawn = [np.take_along_axis(scores, rng.integers(3, size=(6, 3)), 1).mean() for _ in range(4_000)]
    low, high = (float(word) for word in mean.partition("[")[2].rstrip("]").split(", "))
    np.testing.assert_allclose([low, high], np.percentile(drawn, [2.5, 97.5]), atol=0.1)
    reference = [float(suite.REFERENCE[name]["mrq_50k"]) for name in suite.SIX]
    (line,) = [line for line in text.splitlines() if line.startswith("| MR.Q")]
    np.testing.assert_allclose(
        [float(cell) for cell in line.split("|")[2:4]], [np.mean(reference), trim_mean(reference, 0.25)], atol=0.1
    )
    assert "100,000" not in text


def test_one_seed_a_task_gives_an_interval_over_tasks_and_longer_runs_count_twice(suite: Any) -> None:
    rows = [row("walker_walk", 0, *[50.0] * 10, *[700.0] * 10), row("hopper_hop", 0, *[4.0] * 10), row("walker_run", 0, 9.0)]
    text = suite.report(results(*rows))
    assert "| `walker_walk` | 50 | 50 | 50 | 289 ± 104 | 532 ± 65 | 0.17 | 1.0 |" in text
    assert "| `hopper_hop` | 4 | 4 | 4 | 0 ± 0 | 2 ± 4 | - | 1.0 |" in text
    assert "| `walker_walk` | 700 | 700 | 700 | 475 ± 175 | 891 ± 82 | 962 | 1.47 | 1.0 |" in text
    assert "over tasks, since some have one seed alone" in text
    assert "- `walker_run` seed 0: it ends at 5,000 frames with 9, last quarter 9" in text


@pytest.mark.parametrize(
    ("task", "greedy", "met"),
    [
        ("CartPole-v1", [9.0, 500.0, *[480.0] * 50], True),
        ("CartPole-v1", [9.0, 500.0, 474.0, 474.0, *[480.0] * 50], False),  # held in 96%
        ("CartPole-v1", [9.0] * 13 + [500.0] * 80, False),  # late
        ("CartPole-v1", [9.0], False),
        ("CartPole-v1", [500.0], False),  # nothing afterwards
        ("Pendulum-v1", [-900.0, -150.0, -250.0, -199.0], True),
        ("Pendulum-v1", [-900.0, -150.0, -150.0, -201.0], False),
        ("MountainCarContinuous-v0", [99.0, 89.0], False),
        ("MountainCarContinuous-v0", [0.0, 90.0], True),
    ],
)
def test_what_is_demanded(suite: Any, task: str, greedy: list[float], met: bool) -> None:
    every = suite.TASKS[task].every
    demanded, seen, found = suite.verdict(suite.TASKS[task], [row(task, 0, *greedy, every=every)])
    assert found is met, (demanded, seen)
    assert f"| `{task}` | {demanded} | {seen} | {'yes' if met else '**no**'} |" in suite.report(
        results(row(task, 0, *greedy, every=every))
    )


def test_results_of_other_runs_are_kept_and_those_of_another_commit_are_not(suite: Any, tmp_path: Path) -> None:
    directory = tmp_path / "runs" / "01234567"
    _, record = suite.identified(tmp_path / "runs", None, [], begin=True)
    suite.train([], directory, record)
    made(suite, directory, "walker_walk", 0, {2_500: 10.0, 25_000: 90.0})
    assert call(suite, tmp_path, "report", "--tasks", "walker_walk", "--seeds", "1") == 0
    made(suite, directory, "Acrobot-v1", 0, {1_000: -90.0, 30_000: -85.0})
    assert call(suite, tmp_path, "report", "--tasks", "Acrobot-v1", "--seeds", "2") == 0
    kept = read_json_object(tmp_path / "here" / "results" / "01234567.json")
    found = [(entry["task"], entry["seed"], entry.get("error")) for entry in kept["runs"]]
    assert found == [("walker_walk", 0, None), ("Acrobot-v1", 0, None), ("Acrobot-v1", 1, "missing")]
    assert "- `Acrobot-v1` seed 1: missing" in (tmp_path / "here" / "REPORT.md").read_text()
    assert (tmp_path / "here" / "REPORT.md").read_text().endswith("## Notes\n")
    assert 3_000 < (tmp_path / "here" / "curves.png").stat().st_size < 150_000
    other = suite.gather([], {**record, "commit": "fedcba"})
    assert other["runs"] == []


@pytest.mark.slow
def test_real_runs_one_of_which_lacks_its_package(
    suite: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in trials.environment().items():
        monkeypatch.setenv(name, value)
    absent = tmp_path / "absent"
    absent.mkdir()
    (absent / "minigrid.py").write_text("raise ModuleNotFoundError(name='minigrid')\n")
    monkeypatch.setenv("PYTHONPATH", f"{absent}:{trials.environment()['PYTHONPATH']}")
    pilot = [*trials.TINY, *trials.RANDOM_ONLY, "env.time_limit=20"]
    arguments = ["--tasks", "Acrobot-v1,MiniGrid-Empty-8x8", "--seeds", "1", "--label", "trial", *pilot]
    assert call(suite, tmp_path, *arguments) == 1
    out = capsys.readouterr().out
    line = "the package minigrid is missing; install the extra: pip install 'dreamerjax[minigrid]'"
    assert out.count(line) == 2  # as it ends, and in the report
    assert "end    Acrobot-v1_seed0: finished" in out
    assert call(suite, tmp_path, "train", *arguments) == 1
    out = capsys.readouterr().out
    assert "trial: 2 runs, 1 of them finished before" in out
    assert "start  MiniGrid-Empty-8x8_seed0" in out
    assert not (tmp_path / "here" / "REPORT.md").exists()  # that is of the defaults


def test_earlier_results_fill_in_what_is_missing(suite: Any, tmp_path: Path) -> None:
    suite.write({**results(row("walker_walk", 0, 1.0), row("walker_walk", 1, 2.0)), "label": "before"})
    now = results()
    (suite.HERE / "results" / "now.json").unlink(missing_ok=True)
    runs = tmp_path / "runs"
    made(suite, runs, "walker_walk", 0, {2_500: 300.0})
    run = suite.Run(suite.TASKS["walker_walk"], 0, 2_500, runs)
    found = suite.gather([run], {**now, "label": "now"}, ["before"])
    seen = [(entry["seed"], suite.last(entry), entry.get("label")) for entry in found["runs"]]
    assert seen == [
        (0, 300, None),
        (1, 2, "before"),
    ]
    assert "Measured with an earlier commit: with `before` `walker_walk` seed 1." in suite.report(found)
    with pytest.raises(UserError, match=r"--earlier never: there is no results/never\.json"):
        suite.gather([run], {**now, "label": "now"}, ["never"])
