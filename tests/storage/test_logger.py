"""Logs: valid lines, TensorBoard events, resuming, a full disk, and the display on and off a terminal."""

from __future__ import annotations

import io
import json
import re
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from dreamerjax.core.errors import UserError
from dreamerjax.storage.logger import RunLogger, read_metrics
from dreamerjax.storage.progress import ProgressDisplay
from tests.e2e.trials import without_wall_clock
from tests.tensorboard import read_events


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class BrokenPipe(io.StringIO):
    """A stream whose reader is gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_line_and_an_event_hold_the_same(tmp_path: Path) -> None:
    with closing(RunLogger(tmp_path)) as logger:
        logger.scalars(100, {"loss/reward": np.float32(0.5), "eval/greedy/return_mean": 20}, updates=7)
        logger.events.text(100, "config", "train: 1")
    line = (tmp_path / "metrics.jsonl").read_text()
    assert line.endswith("}\n")
    record = json.loads(line)
    assert list(record) == sorted(record)
    assert 0 <= record.pop("time") < 60
    assert record == {"loss/reward": 0.5, "eval/greedy/return_mean": 20.0, "env_step": 100, "update": 7}
    version, scalars, text = read_events(tmp_path)
    assert version.file_version == "brain.Event:2"
    assert scalars.step == 100
    assert {value.tag: value.simple_value for value in scalars.summary.value} == {
        "loss/reward": 0.5,
        "eval/greedy/return_mean": 20.0,
    }
    assert text.summary.value[0].tag == "config/text_summary"
    assert text.summary.value[0].tensor.string_val == [b"train: 1"]


def test_a_line_is_on_disk_at_once(tmp_path: Path) -> None:
    logger = RunLogger(tmp_path)
    logger.scalars(1, {"a": 1.0}, updates=0)
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 1
    logger.close()
    logger.close()


def test_numbers_that_are_not_finite_survive(tmp_path: Path) -> None:
    values = {"nan": float("nan"), "inf": np.inf, "minus": -np.float32(np.inf), "one": 1}
    with closing(RunLogger(tmp_path)) as logger:
        logger.scalars(1, values, updates=0)

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    (record,) = read_metrics(tmp_path / "metrics.jsonl")
    np.testing.assert_array_equal([record[key] for key in values], list(values.values()))


def test_truncated_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"env_step": 1, "update": 0}\n{"env_step": 2, "update": 0}\n{"env_st')
    assert [record["env_step"] for record in read_metrics(path)] == [1, 2]
    path.write_text("")
    assert read_metrics(path) == []


def test_sound_lines_of_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sound = ['{"env_step": 1, "update": 0, "a": "Infinity"}', '{"env_step": 2, "update": 1}']
    damaged = [
        '{"env_st',
        "",
        "[1]",
        "3",
        '{"env_step": 2}',
        '{"env_step": "NaN", "update": 0}',
        '{"env_step": 1, "update": 0, "a": null}',
        '{"env_step": 1, "update": 0, "a": "much"}',
        '{"env_step": 1, "update": 1' + 400 * "0" + "}",
    ]
    path.write_bytes("\n".join([sound[0], *damaged, sound[1], ""]).encode() + b'\xff\n{"env_step": 3, "update": 2}')
    lines: list[int] = []
    records = read_metrics(path, lines)
    assert records == [{"env_step": 1.0, "update": 0.0, "a": np.inf}, {"env_step": 2.0, "update": 1.0}]
    assert lines == [*range(2, 11), 12]
    with pytest.raises(FileNotFoundError):
        read_metrics(tmp_path / "missing")


def test_a_resumed_run_repeats_no_step(tmp_path: Path) -> None:
    def log(logger: RunLogger, first: int, last: int) -> None:
        for update in range(first, last):
            logger.scalars(10 * update, {"loss/a": 1 / (1 + update), "time/speed": time.monotonic()}, updates=update)

    with closing(RunLogger(tmp_path / ".")) as logger:
        log(logger, 0, 8)
    path = tmp_path / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"env_step": 80, "upd')
    with closing(RunLogger(tmp_path)) as logger:
        assert logger.truncate_after(update=4, env_step=40) == 3
        time.sleep(0.002)
        log(logger, 5, 12)
    records = read_metrics(path)
    assert [record["update"] for record in records] == list(range(12))
    assert [record["time"] for record in records] == sorted(record["time"] for record in records)
    assert [event.step for event in read_events(tmp_path) if event.session_log.status == 1] == [41]
    (tmp_path / "whole").mkdir()
    with closing(RunLogger(tmp_path / "whole")) as logger:
        log(logger, 0, 12)
    whole = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    assert [without_wall_clock(record) for record in records] == [without_wall_clock(record) for record in whole]
    assert without_wall_clock(whole[1]) == {"loss/a": 0.5, "env_step": 10, "update": 1}


def test_two_writers_of_the_same_second_use_two_files(tmp_path: Path) -> None:
    for step in range(3):
        with closing(RunLogger(tmp_path)) as logger:
            logger.scalars(step, {"a": step}, updates=step)
    assert sorted(event.step for event in read_events(tmp_path) if event.HasField("summary")) == [0, 1, 2]


def test_full_disk_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    logger = RunLogger(tmp_path)
    with pytest.raises(UserError) as caught:
        logger.scalars(1, {"a": 1.0}, updates=0)
    assert str(caught.value) == f"cannot write {tmp_path}/metrics.jsonl: No space left on device"
    assert caught.value.exit_code == 1
    with pytest.raises(UserError):
        logger.close()
    with pytest.raises(UserError, match=r"cannot write .*missing/metrics.jsonl"):
        RunLogger(tmp_path / "missing")


def test_logging_is_cheap(tmp_path: Path) -> None:
    values = {f"loss/{index}": 0.1 * index for index in range(30)}
    with closing(RunLogger(tmp_path, total_steps=1000, stream=Terminal())) as logger:
        logger.scalars(0, values, updates=0)  # opens the event file
        seconds: dict[str, list[float]] = {"scalars": [], "progress": []}
        for step in range(200):
            start = time.perf_counter()
            logger.scalars(step, values, updates=step)
            middle = time.perf_counter()
            logger.progress(step, step)
            seconds["scalars"].append(middle - start)
            seconds["progress"].append(time.perf_counter() - middle)
    assert np.median(seconds["scalars"]) < 10e-3
    assert np.median(seconds["progress"]) < 1e-3


def test_plain_lines_where_there_is_no_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("dreamerjax.storage.progress.time.monotonic", lambda: now)
    stream = io.StringIO()
    display = ProgressDisplay("run", 20_000, stream)
    for episode in range(30):
        display.values({"episode/return": float(episode), "loss/reward": 0.5})
    display.values({"eval/greedy/return_mean": 200.0, "eval/sampled/return_mean": 180.5})
    for _ in range(97):  # 12 s
        display.progress(int(1000 * now), int(250 * now))
        now += 0.125
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("10,000/20,000 steps | 2,500 updates | 1000 steps/s | 250.0 updates/s | ETA 0:10 | ")
    assert lines[1].endswith("return (last 20) 19.5 | eval greedy 200 | eval sampled 180.5 | reward 0.5")
    display.message("solved")
    display.close()
    display.close()
    assert stream.getvalue().splitlines()[2] == "solved"
    assert len(stream.getvalue().splitlines()) == 4
    assert stream.getvalue().replace("\n", "").isprintable()


def test_neither_random_steps_nor_compiling_make_an_eta(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("dreamerjax.storage.progress.time.monotonic", lambda: now)
    display = ProgressDisplay("run", 20_000, io.StringIO())
    for now in (0.0, 1.0):
        display.progress(int(500 * now), 0)
    assert display.plain_line().endswith("ETA -:--")
    now = 60.0  # the first update was compiled
    display.progress(500, 1)
    assert display.plain_line().endswith("ETA -:--")
    now = 62.0
    display.progress(700, 101)
    assert "100 steps/s | 50.0 updates/s | ETA 3:13" in display.plain_line()


def test_the_panel_shows_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    with closing(RunLogger(tmp_path, total_steps=20_000, stream=stream)) as logger:
        logger.progress(5_000, 1_250)
        logger.scalars(5_000, {"episode/return": 33.0, "eval/greedy/return_mean": 200.0, "loss/reward": 0.5}, updates=1)
        logger.message("a [word] in brackets")
    shown = re.sub(r"\x1b\[[0-9;?]*[a-z]", "", stream.getvalue())
    for text in ("5,000 / 20,000", "25%", "1,250 updates", "return (last 1)", "eval greedy", "reward", "a [word] in"):
        assert text in shown
    assert shown.rstrip("\n").endswith("╯")
    assert stream.getvalue().endswith("\x1b[?25h")  # the cursor is back


def test_a_dumb_terminal_gets_plain_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    with closing(RunLogger(tmp_path, stream=stream)) as logger:
        logger.progress(1, 1)
    assert stream.getvalue() == "1 steps | 1 updates | 0 steps/s | 0.0 updates/s | ETA -:--\n"


def test_a_reader_that_leaves_does_not_end_the_run(tmp_path: Path) -> None:
    with closing(RunLogger(tmp_path, stream=BrokenPipe())) as logger:
        logger.message("nobody reads this")
        logger.message("nor this")
        logger.scalars(1, {"a": 1.0}, updates=0)
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 1
