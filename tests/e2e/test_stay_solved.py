"""The regression benchmark of `make bench-stability`: its phases on a model too small to learn, and what it demands."""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dreamerjax.core.files import read_json_object
from tests.e2e import trials

SCRIPT = Path(__file__).parent.parent.parent / "experiments" / "stay_solved" / "run.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("stay_solved", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "stay_solved", module)  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def row(**changes: Any) -> dict[str, Any]:
    """What is reported of a seed that meets every demand."""
    good = {"solved_step": 4000, "process_seconds": 60.0, "evaluations_after": 40, "solved_after": 40, "worst_after": 480.0,
            "sampled_after": 499.0, "last_100": 500.0}  # fmt: skip
    return good | changes


@pytest.mark.parametrize(
    ("bad", "demand"),
    [
        ({"solved_step": 8500}, "every seed solved"),
        ({"solved_step": None}, "every seed solved"),
        ({"solved_after": 38}, "98% of the evaluations"),
        ({"worst_after": 399.9}, "no evaluation afterwards below 400"),
        ({"last_100": 474.9}, "every last checkpoint"),
    ],
)
def test_one_bad_seed_of_ten_is_not_met(script: Any, bad: dict[str, Any], demand: str) -> None:
    """Ten seeds of which one has so many evaluations that it decides the share."""
    rows = [row(evaluations_after=1, solved_after=1)] * 9 + [row(**bad)]
    unmet = [name for name, _, met in script.verdicts(script.TASKS["cartpole"], rows) if not met]
    assert len(unmet) == 1
    assert unmet[0].startswith(demand)


@pytest.mark.parametrize(
    ("bad", "demand"),
    [
        ({"solved_step": 5000}, "median under 5,000"),
        ({"process_seconds": 121.0}, "median within 120 s"),
        ({"sampled_after": 449.0}, "sampled policy"),
    ],
)
def test_medians_and_means_are_over_the_seeds(script: Any, bad: dict[str, Any], demand: str) -> None:
    task = script.TASKS["cartpole"]
    assert all(met for _, _, met in script.verdicts(task, [row()] * 10))
    unmet = [name for name, _, met in script.verdicts(task, [row(**bad)] * 10) if not met]
    assert len(unmet) == 1
    assert unmet[0].startswith(demand)


def test_every_phase_of_a_real_run(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Solved at once (any return will do), watched for 120 more steps, judged, reported; a second pass finds all done.

    With the tests' compiled programs: the benchmark begins with none.
    """
    here, root = tmp_path / "here", tmp_path / "runs"
    here.mkdir()
    (here / "NOTES.md").write_text("## Notes\n")
    task = script.Task(
        "CartPole-v1", (*trials.TINY, "train.stop_at_return=1", "env.time_limit=20"), seeds=1, solved=1, within=200, watch=120,
    )  # fmt: skip
    cache = nullcontext(os.environ["JAX_COMPILATION_CACHE_DIR"])  # not an empty one
    monkeypatch.setattr(script, "tempfile", SimpleNamespace(TemporaryDirectory=lambda: cache))
    monkeypatch.setattr(script, "HERE", here)
    monkeypatch.setattr(script, "TASKS", {"small": task})
    for phases in ([], ["solve", "watch", "report"]):
        monkeypatch.setattr("sys.argv", ["run.py", *phases, "--task", "small", "--root", str(root)])
        assert script.main() == 0
    (found,) = read_json_object(here / "small.json")["seeds"]
    assert (found["solved_step"], found["env_steps"]) == (60, 180)
    assert found["evaluations_after"] == 1
    assert 9 <= found["last_100"] <= 20
    text = (here / "REPORT.md").read_text()
    assert "| every seed solved (1) within 200 steps | latest 60 | yes |" in text
    assert text.endswith("## Notes\n")
    assert (here / "small.png").stat().st_size > 10_000
