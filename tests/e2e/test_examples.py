"""The examples run as they stand: the notebook from its first cell to its last, the environment of one's own, the tuning."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import dreamerjax
from dreamerjax.core.run_directory import find_run
from tests.e2e import trials
from tests.e2e.test_learn import SETTINGS

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOK = EXAMPLES / "quickstart.ipynb"
EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], 4)
nbclient.NotebookClient(notebook, timeout=800).execute()
outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
print("".join(output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs))
"""


def test_the_notebook_keeps_no_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


@pytest.mark.slow
def test_the_notebook(tmp_path: Path) -> None:
    command = [sys.executable, "-c", EXECUTE, str(NOTEBOOK)]
    done = subprocess.run(command, cwd=tmp_path, env=trials.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "optim.actor_lr" in done.stdout
    assert "one episode: " in done.stdout
    assert (tmp_path / "runs" / "compare.html").is_file()
    assert (tmp_path / "dream.gif").read_bytes().startswith(b"GIF8")


def play(name: str, *arguments: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run an example below `root` as if from the command line, in this process."""
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_an_environment_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play("own_environment.py", "80", root=tmp_path, monkeypatch=monkeypatch)
    assert "mean return of 20 episodes: " in capsys.readouterr().out
    assert find_run("latest", tmp_path / "runs").name.endswith("Heating")


def test_tuning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    play("tune.py", "2", "80", root=tmp_path, monkeypatch=monkeypatch)
    assert re.search(r"^best: \d+ with {'optim.actor_lr': ", capsys.readouterr().out, re.MULTILINE)
    assert sorted(path.name[18:] for path in (tmp_path / "runs" / "tune").iterdir()) == ["trial-0", "trial-1"]


def test_a_trial_that_falls_behind_ends_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the tests' smallest agent in place of the example's."""
    optuna = pytest.importorskip("optuna")
    learn = dreamerjax.learn

    def learn_tiny(env: str, steps: int, *, on_evaluation: Any, **settings: Any) -> Any:
        place = {key: value for key, value in settings.items() if key.startswith("run.")}
        return learn(env, steps, on_evaluation=on_evaluation, **SETTINGS, **place)

    monkeypatch.setattr(dreamerjax, "learn", learn_tiny)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tune.py", "1", "800"])
    objective = runpy.run_path(str(EXAMPLES / "tune.py"))["objective"]
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.ThresholdPruner(lower=1e9))
    study.optimize(objective, 1)
    assert [trial.state.name for trial in study.trials] == ["PRUNED"]
    assert trials.summary(trials.only_run(tmp_path / "runs" / "tune"))["env_steps"] < 800
