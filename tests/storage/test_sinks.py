"""Sinks: the fan-out to fakes, what becomes of one that fails, and packages that are not installed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from dreamerjax.config.schema import Config, RunConfig
from dreamerjax.core.errors import UserError
from dreamerjax.core.stopping import Stop
from dreamerjax.storage import sinks
from dreamerjax.storage.logger import RunLogger, read_metrics
from dreamerjax.training.run_state import RunState


class Fake:
    """A sink that remembers, and fails when told to."""

    def __init__(self, fails_at: int | None = None, fails_in_close: bool = False) -> None:
        self.lines: list[tuple[int, dict[str, float], int]] = []
        self.directory: Path | None = None
        self.closed = 0
        self._fails_at, self._fails_in_close = fails_at, fails_in_close

    def open(self, directory: Path) -> Fake:
        self.directory = directory
        return self

    def scalars(self, step: int, numbers: Mapping[str, float], update: int) -> None:
        if len(self.lines) == self._fails_at:
            raise OSError("no space left\nand more")
        self.lines.append((step, dict(numbers), update))

    def close(self) -> None:
        self.closed += 1
        if self._fails_in_close:
            raise RuntimeError("cannot close")


def refuse_to_open(directory: Path) -> Fake:
    raise ValueError(f"no store at {directory.name}")


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What loggers said."""
    messages: list[str] = []
    monkeypatch.setattr(RunLogger, "message", lambda self, text: messages.append(text))
    return messages


def log_three(directory: Path, chosen: Mapping[str, Callable[[Path], sinks.Sink]]) -> list[int]:
    """Three lines logged to the sinks; returns the steps in metrics.jsonl."""
    with closing(RunLogger(directory, sinks=chosen)) as logger:
        for step in (10, 20, 30):
            logger.scalars(step, {"loss/a": step / 2}, updates=step // 10)
        logger.close()
    return [int(record["env_step"]) for record in read_metrics(directory / "metrics.jsonl")]


def test_every_sink_gets_every_line(tmp_path: Path, said: list[str]) -> None:
    fakes = [Fake(), Fake()]
    assert log_three(tmp_path, {str(index): fake.open for index, fake in enumerate(fakes)}) == [10, 20, 30]
    for fake in fakes:
        assert fake.directory == tmp_path
        assert fake.lines == [(10, {"loss/a": 5.0}, 1), (20, {"loss/a": 10.0}, 2), (30, {"loss/a": 15.0}, 3)]
        assert fake.closed == 1
    assert said == []


def test_a_sink_that_fails_is_dropped_and_nothing_else_is_lost(tmp_path: Path, said: list[str]) -> None:
    good, bad, worst = Fake(), Fake(fails_at=1), Fake(fails_at=2, fails_in_close=True)
    chosen = {"bad": bad.open, "shut": refuse_to_open, "worst": worst.open, "good": good.open}
    assert log_three(tmp_path, chosen) == [10, 20, 30]
    assert [len(fake.lines) for fake in (good, bad, worst)] == [3, 1, 2]
    assert [fake.closed for fake in (good, bad, worst)] == [1, 1, 1]
    ending = "gets no more metrics of this run, which goes on without it"
    assert said == [
        f"shut {ending}: ValueError: no store at {tmp_path.name}",
        f"bad {ending}: OSError: no space left",
        f"worst {ending}: OSError: no space left",
    ]


def test_a_sink_that_cannot_be_closed_is_a_message(tmp_path: Path, said: list[str]) -> None:
    good, bad = Fake(), Fake(fails_in_close=True)
    assert log_three(tmp_path, {"bad": bad.open, "good": good.open}) == [10, 20, 30]
    assert good.closed == 1
    assert len(said) == 1
    assert said[0].endswith("RuntimeError: cannot close")


def test_nothing_is_opened_for_a_run_that_logs_nothing(tmp_path: Path, said: list[str]) -> None:
    with closing(RunLogger(tmp_path, sinks={"shut": refuse_to_open})):
        pass
    assert said == []


def test_none_is_chosen_unless_asked_for() -> None:
    assert sinks.chosen_sinks(Config()) == {}


@pytest.mark.parametrize("package", ["mlflow", "wandb"])
@pytest.mark.parametrize("leftover", [False, True])
def test_a_missing_package_is_one_line_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], package: str, leftover: bool
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path / "cwd"), *(entry for entry in sys.path if not _has(entry, package))])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    (tmp_path / "cwd" / (package if leftover else "other")).mkdir(parents=True)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    config = Config(run=RunConfig(root=str(tmp_path / "runs"), mlflow=package == "mlflow", wandb=package == "wandb"))
    with pytest.raises(UserError) as caught:
        RunState(config, None, Stop())
    expected = f"run.{package}=true needs a package that is not installed: pip install 'dreamerjax[{package}]'"
    assert (str(caught.value), caught.value.exit_code) == (expected, 2)
    assert not (tmp_path / "runs").exists()


def _has(entry: str, package: str) -> bool:
    return (Path(entry) / package / "__init__.py").is_file()
