"""Any runs side by side: which make one arm, what the table says, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamerjax.compare import main
from dreamerjax.core.errors import UserError
from dreamerjax.experiment.compare import ComparedArm, compare_runs
from dreamerjax.experiment.design import Budget
from tests.experiment.fakes import RETURN, fake_run, learning

OTHERS = {"run": {"name": "b", "root": "elsewhere"}, "parallel": {"devices": 2}, "resume": "x"}


@pytest.fixture(name="names")
def _names(tmp_path: Path) -> list[str]:
    """Three seeds with 1 free nat that end at 100, 110, 120, and two with 0.1 that end at 115 and 200."""
    finals = {1.0: (100.0, 110.0, 120.0), 0.1: (115.0, 200.0)}
    names = []
    for nats, values in finals.items():
        for seed, final in enumerate(values):
            settings = {"loss": {"free_nats": nats}, **(OTHERS if seed else {})}
            names.append(fake_run(tmp_path / f"nats{nats}_{seed}", learning(final), seed=seed, config=settings).name)
    return names


def groups(names: list[str], root: Path, at: float | None = None, **changes: Any) -> tuple[list[ComparedArm], int]:
    """The arms of a comparison over environment steps."""
    given = {"metric": RETURN, "budget": Budget.env_steps, **changes}
    arms, question = compare_runs(names, root, at=at, **given)
    return arms, question.at


def test_seeds_of_one_setting_are_one_arm(names: list[str], tmp_path: Path) -> None:
    (first, second), at = groups([names[0], names[3], *names[1:3], names[4]], tmp_path)
    assert at == 2_000
    assert (first.label, second.label) == ("loss.free_nats=1.0", "loss.free_nats=0.1")
    np.testing.assert_array_equal(first.values, [100, 110, 120])
    np.testing.assert_array_equal(second.values, [115, 200])
    assert first.middle.value == 110
    assert first.difference is first.above is None
    assert second.difference is not None
    assert second.above is not None
    assert second.difference.value == 47.5
    assert second.difference.low <= 47.5 <= second.difference.high
    assert second.above.value == pytest.approx(5 / 6)


def test_an_earlier_budget_reads_earlier_values(names: list[str], tmp_path: Path) -> None:
    (first, _), at = groups(names, tmp_path, at=1_000)
    assert at == 1_000
    np.testing.assert_array_equal(first.values, [50, 55, 60])
    (first, _), at = groups(names, tmp_path, budget=Budget.updates)
    assert at == 500
    np.testing.assert_array_equal(first.values, [100, 110, 120])


def test_the_table(names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*names, "--root", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "at 2,000 environment steps" in printed
    assert "110 [100, 120]" in printed
    assert main([names[0], names[3], "--root", str(tmp_path)]) == 0
    assert "IQM" not in capsys.readouterr().out  # one seed each
    assert main([names[0], names[3], "--root", str(tmp_path), "--at", "1000"]) == 0
    assert "at 1,000 environment steps" in capsys.readouterr().out
    short = fake_run(tmp_path / "short", learning(5.0, steps=1_500), seed=7, config={"loss": {"free_nats": 1.0}}).name
    assert main([*names, short, "--root", str(tmp_path)]) == 0
    assert "note: seeds are not put together: the runs end at different" in " ".join(capsys.readouterr().out.split())
    assert main([*names, short, "--root", str(tmp_path), "--metric", "episode/nope"]) == 2
    assert "has no metric episode/nope" in capsys.readouterr().err


def test_brackets_in_a_setting_are_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [
        fake_run(tmp_path / name, learning(5.0), config={"env": {"kwargs": {"color": f"[red]{name}"}}}).name for name in "ab"
    ]
    assert main([*names, "--root", str(tmp_path), "--at", "2000"]) == 0
    assert "[red]a" in "".join(capsys.readouterr().out.split())


def test_other_environments_are_refused(names: list[str], tmp_path: Path) -> None:
    other = fake_run(tmp_path / "other", learning(5.0), config={"env": {"id": "Acrobot-v1"}}).name
    with pytest.raises(UserError, match=r"do not compare: nats1\.0_0 is of .*, other of Acrobot-v1"):
        groups([*names, other], tmp_path)


def test_unequal_budgets_are_refused(names: list[str], tmp_path: Path) -> None:
    short = fake_run(tmp_path / "short", learning(5.0, steps=1_500), config={"loss": {"free_nats": 3.0}}).name
    with pytest.raises(
        UserError, match=r"different environment steps: short at 1,500, nats1\.0_0 at 2,000; --at 1500 compares"
    ):
        groups([*names, short], tmp_path)
    with pytest.raises(UserError, match=r"--at 1800: short ended before it; 1500 is the most that all runs reach"):
        groups([*names, short], tmp_path, at=1_800)
    assert len(groups([*names, short], tmp_path, at=1_500)[0]) == 3


def test_what_cannot_be_compared_is_one_line(names: list[str], tmp_path: Path) -> None:
    (tmp_path / "no_run").mkdir()
    twin = fake_run(tmp_path / "twin", learning(9.0), config={"loss": {"free_nats": 1.0}}).name
    cases: list[tuple[list[str], dict[str, Any], str]] = [
        ([names[0], "absent"], {}, "no run at absent"),
        ([names[0], "no_run"], {}, "no_run is not a dreamerjax run"),
        ([names[0], twin], {}, f"runs {names[0]} and twin have the same settings and the same seed 0"),
        (names, {"metric": "eval/gredy/return_mean"}, f"has no metric eval/gredy/return_mean; did you mean {RETURN}?"),
        (names, {"at": 0}, "--at 0 must be above 0"),
    ]
    for given, changes, message in cases:
        with pytest.raises(UserError) as caught:
            groups(given, tmp_path, **changes)
        assert message in str(caught.value)
        assert caught.value.exit_code == 2
