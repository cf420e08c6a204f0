"""A short form of what `make bench-reliability` counts; for disk and faults: test_faults.py and test_wild_environments.py."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.reliability import damage, inputs, kills, run, soak
from tests.e2e import trials


def made(folder: Path, **runs: Path) -> None:
    """Put runs where the parts look for those that they have made before, by the names of their roots."""
    for name, path in runs.items():
        shutil.copytree(path, folder / name / path.name)


def test_killed_at_a_random_moment(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, reference_sync=reference)
    monkeypatch.setattr(kills, "LONGER", (*trials.TINY, trials.TRIAL))
    monkeypatch.setattr(kills, "SPAN", 4.0)
    monkeypatch.setattr(kills, "CHAIN", 1)
    ((case, outcome),) = itertools.islice(kills.cases(tmp_path, 0), 1)
    assert (case[:4], outcome) == ("sync", "resumed, the same run to the last bit")


def test_damaged_files(reference: Path, another: Path, tmp_path: Path) -> None:
    made(tmp_path, damaged=reference, other=another)
    outcomes = dict(next(damage.cases(tmp_path, number)) for number in (45, 90, 112, 133))  # each of another kind of damage
    assert len({case.partition(" ")[2] for case in outcomes}) > 2
    assert not [(case, outcome) for case, outcome in outcomes.items() if outcome.startswith(run.BROKEN)]


def test_bad_inputs(reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, good=reference)
    few = inputs.wrong_values(60)
    monkeypatch.setattr(inputs, "wrong_values", lambda count: few)
    outcomes = dict(itertools.islice(inputs.cases(tmp_path, 0), 40))
    assert set(outcomes.values()) <= {"refused in one line", "still valid"}


def test_a_part_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def part(folder: Path, first: int) -> Any:
        assert folder.is_dir()
        yield from ((f"case {number}", "fine" if number else "BROKEN: it fell") for number in itertools.count(first))

    monkeypatch.setattr(run, "PARTS", {"kills": (part, 3, "something happens")})
    monkeypatch.setattr(run, "HERE", tmp_path)
    run.run_part("kills", 1, tmp_path)
    run.run_part("kills", 3, tmp_path)
    assert [case["case"] for case in run.read(tmp_path / "kills.jsonl")] == ["case 0", "case 1", "case 2"]
    assert run.report(tmp_path) == 1
    assert "| kills | something happens | 3 | fine 2 | 1 |" in (tmp_path / "REPORT.md").read_text()


def test_growth_of_memory() -> None:
    hours = np.linspace(0, 2, 400)
    slope, error = soak.growth(hours, 700 + 3 * hours + np.random.default_rng(0).normal(size=400))
    assert abs(slope - 3) < 3 * error < 1
