"""Runs compared: in the terminal and as one valid page that needs no other file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dreamerjax.compare import BLOCKS, main
from dreamerjax.report.charts import overlay
from tests.experiment.fakes import fake_run, learning
from tests.report.test_report import SUMMARY, Page, trained


def compared(*names: str | Path, root: Path, code: int = 0) -> None:
    assert main([*map(str, names), "--root", str(root), "--output", str(root / "c.html")]) == code


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_settings_curves_and_verdicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"slow": {"optim": {"actor_lr": 1e-5}}, "fast": {"optim": {"actor_lr": 1e-4}}}
    fake_run(tmp_path / "slow", [*trained()], config=rates["slow"], summary=SUMMARY)
    advice = [{"override": "optim.actor_lr=1e-6", "reason": "it falls"}]
    told = {**SUMMARY, "verdict": "solved: 500", "advice": advice, "last_return": 500.0}
    fake_run(tmp_path / "fast", learning(500.0), config=rates["fast"], summary=told, seed=1)
    compared("slow", "fast", root=tmp_path)
    printed = " ".join(capsys.readouterr().out.split())
    assert "optim.actor_lr │ 1e-05 │ 0.0001" in printed
    assert "train.seed │ 0 │ 1" in printed
    assert "run.name" not in printed
    assert "solved: 500; try optim.actor_lr=1e-6 (it falls)" in printed
    assert f"{BLOCKS[-1]} finished at step 4,000. solved: 500" in printed  # the curve ends at its highest
    page = Page(tmp_path / "c.html")
    words = " ".join(page.text.split())
    for text in (
        "2 runs compared",
        "optim.actor_lr 1e-05 0.0001",
        "1: actor_lr=1e-05, seed=0",
        "90 at step 3,000",
        "Try optim.actor_lr=1e-6 : it falls.",
        "Found: evaluation_falls_while_values_rise at step 3,000",
        "the critic's opinion",
    ):
        assert text in words, text
    assert "To be aware of" not in words
    assert page.sources.count("image/svg+xml") >= 3


def test_different_environments_are_said_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_run(tmp_path / "a", trained(), config={"env": {"id": "CartPole-v1"}}, summary=SUMMARY)
    other = {"family": {}, "git": {"commit": "fedcba9876543", "dirty": False}}
    fake_run(tmp_path / "b", [], config={"env": {"id": "Pendulum-v1"}}, meta=other)
    compared("a", "b", root=tmp_path)
    said = "The runs are of different environments, whose returns do not compare: CartPole-v1, Pendulum-v1."
    versions = "The runs were made by different versions of the code: 0123456789, fedcba9876."
    printed = " ".join(capsys.readouterr().out.split())
    words = " ".join(Page(tmp_path / "c.html").text.split())
    for text in (said, versions, "2: summary.json is missing or cannot be read"):
        assert text in printed
        assert text in words


def test_without_any_evaluation_and_with_equal_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "ab":
        fake_run(tmp_path / name, [{"env_step": 8, "update": 0, "episode/return": 9}])
    compared(tmp_path / "a", tmp_path / "b", root=tmp_path)
    assert "The runs have the same settings." in capsys.readouterr().out
    assert "None of the runs was evaluated." in Page(tmp_path / "c.html").text


def test_values_of_runs_are_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = "<script>alert(1)<"
    told = {**SUMMARY, "verdict": script, "advice": [{"override": script, "reason": script}]}
    finding = {**SUMMARY["findings"][0], "name": script}
    fake_run(tmp_path / script, trained(), config={"env": {"id": script}}, summary={**told, "findings": [finding]})
    fake_run(tmp_path / "[red]", trained(), config={script: {"a": "[bold]"}}, summary=SUMMARY)
    compared(script, "[red]", root=tmp_path)
    printed = capsys.readouterr().out
    assert "[red]" in printed
    assert "[bold]" in printed
    assert Page(tmp_path / "c.html").text.count(script) >= 8
    assert "<script" not in (tmp_path / "c.html").read_text()


def test_settings_that_are_lists(tmp_path: Path) -> None:
    for name, sizes in (("a", [16, 16]), ("b", [32, 32])):
        fake_run(tmp_path / name, trained(3), config={"env": {"image_size": sizes}}, summary=SUMMARY)
    compared("a", "b", root=tmp_path)


def test_the_page_lies_beside_the_first_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [fake_run(tmp_path / "runs" / name, trained(3), summary=SUMMARY) for name in "ab"]
    assert main(list(map(str, runs))) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "runs" / "compare.html")
    assert main([str(path) for path in sorted((tmp_path / "runs").iterdir())]) == 0  # as `runs/*`, the page included


def test_what_cannot_be_compared_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake_run(tmp_path / "a", trained(3))
    (tmp_path / "folder").mkdir()
    for names, said in (
        ([], "a comparison needs at least 2 runs, not 0"),
        (["a"], "a comparison needs at least 2 runs, not 1"),
        (["a", "folder"], f"{tmp_path / 'folder'} is not a dreamerjax run"),
        (["a", "nowhere"], "no run at nowhere"),
        (["a", "x" * 300], "no run at xxx"),
        (["a", str(tmp_path / "a")], f"run {tmp_path / 'a'} is named twice"),
    ):
        compared(*names, root=tmp_path, code=2)
        error = capsys.readouterr().err
        assert error.startswith(f"error: {said}")
        assert error.count("\n") == 1
    assert not (tmp_path / "c.html").exists()


def test_more_runs_than_colours_are_drawn(tmp_path: Path) -> None:
    line = [{"env_step": float(step), "loss/decoder": float(step)} for step in (1, 2, np.nan)]
    assert overlay("loss/decoder", {str(number): line for number in range(30)}, large=True) is not None
    assert overlay("loss/decoder", {"a": [], "b": [{"env_step": 1.0, "loss/decoder": float("nan")}]}) is None
    assert overlay("episode/return", {"a": [{"env_step": 1.0, "episode/return": 1.0}] * 19}) is None
