"""Taking turns, and signals for several threads."""

from __future__ import annotations

import io
import signal
import threading
from typing import TextIO, cast

import pytest

from dreamerjax.core.errors import Interrupt
from dreamerjax.core.stopping import Stopped
from dreamerjax.envs import surroundings
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


def test_what_environments_changed_holds_for_their_own_member() -> None:
    """The place 0 is the working directory."""
    turns, seen = Turns(2), list[object]()

    def act(number: int) -> None:
        turns.wait(number)
        surroundings.remember({0: f"folder of {number}"})
        turns.pass_on(number)
        seen.append(surroundings.remembered()[0])
        turns.leave(number)

    threads = [threading.Thread(target=act, args=(number,)) for number in range(2)]
    try:
        for thread in threads:
            thread.start()
        turns.begin()
        for thread in threads:
            thread.join(10)
    finally:
        surroundings.forget()
    assert seen == ["folder of 0", "folder of 1"]


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
