"""Taking turns, and signals for several threads."""

from __future__ import annotations

import io
import os
import signal
import threading
from pathlib import Path
from typing import TextIO, cast

import pytest

from dreamerjax.core.errors import Interrupt
from dreamerjax.core.stopping import Stopped
from dreamerjax.envs.surroundings import foreign
from dreamerjax.storage.progress import ProgressDisplay, SharedStream
from dreamerjax.training.population import MemberStop, PopulationStop, Turns


def test_members_act_in_turn_and_one_that_leaves_is_passed_over() -> None:
    turns, acted = Turns(3), list[str]()

    def act(number: int, times: int) -> None:
        turns.wait(number)
        for time in range(times):
            acted.append(f"{number}.{time}")
            turns.pass_on(number)
        turns.leave(number)

    threads = [threading.Thread(target=act, args=(number, times)) for number, times in enumerate((3, 1, 2))]
    for thread in threads:
        thread.start()
    turns.begin()
    for thread in threads:
        thread.join(10)
    assert acted == ["0.0", "1.0", "2.0", "0.1", "2.1", "0.2"]


def test_what_environments_changed_holds_for_their_own_member(tmp_path: Path) -> None:
    turns, seen, ours = Turns(2), list[Path](), Path.cwd()

    def act(number: int) -> None:
        turns.wait(number)
        own = tmp_path / str(number)
        own.mkdir()
        with foreign():
            os.chdir(own)
        turns.pass_on(number)
        with foreign():
            seen.append(Path.cwd())
        turns.leave(number)

    threads = [threading.Thread(target=act, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    turns.begin()
    for thread in threads:
        thread.join(10)
    assert seen == [tmp_path / "0", tmp_path / "1"]
    assert Path.cwd() == ours


def test_a_signal_stops_every_member_and_a_second_one_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamerjax.core.stopping.SAME", 0.0)
    stop = PopulationStop()
    members = [MemberStop(stop), MemberStop(stop)]
    members[1].at_once = False  # it has begun
    assert not stop.at_once
    members[0].look()
    stop(signal.SIGTERM, None)
    for member in members:
        assert member.exit_code == 143
        with pytest.raises(Stopped):
            member.look()
    stop(signal.SIGTERM, None)
    for member in members:
        with pytest.raises(Interrupt):
            member.look()


def test_a_signal_before_any_member_began_ends_them_at_once() -> None:
    stop = PopulationStop()
    member = MemberStop(stop)
    stop(signal.SIGINT, None)
    with pytest.raises(Interrupt):
        member.look()


def test_lines_on_a_shared_stream_bear_names_and_no_display_interrupts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    text, names = io.StringIO(), ["a | ", ""]
    stream = SharedStream(text, lambda: names[0])
    print("one\ntwo", file=stream)
    names.reverse()
    print("three", file=stream)
    assert text.getvalue() == "a | one\na | two\nthree\n"
    monkeypatch.setattr("dreamerjax.storage.progress.PLAIN_SECONDS", 0.0)
    ProgressDisplay("run", 10, cast(TextIO, stream)).progress(1, 0)
    assert text.getvalue() == "a | one\na | two\nthree\n"
    ProgressDisplay("run", 10, text).progress(1, 0)
    assert "1/10 steps" in text.getvalue()
