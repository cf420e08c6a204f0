"""Signals and requests: noted once, seen wherever the program is, and ended at once when they are repeated."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dreamerjax.core import stopping
from dreamerjax.core.errors import Interrupt
from dreamerjax.core.stopping import Stop, Stopped, stop_on_signals

ROOT = Path(__file__).parents[2]
CODES = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.parametrize(("number", "code"), CODES)
def test_a_signal_is_noted_and_handlers_are_put_back(number: signal.Signals, code: int) -> None:
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with stop_on_signals() as stop:
            assert (stop.signal, stop.exit_code) == (None, 0)
            stop.look()
            os.kill(os.getpid(), number)
            assert (stop.signal, stop.exit_code) == (number, code)
            with pytest.raises(Stopped):
                stop.look()
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_a_hangup_that_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_same_signal_twice_in_a_moment_is_one_and_a_second_one_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    """`timeout` sends its signal to its child, and then to the whole group that this is in."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    stop = Stop()
    stop(signal.SIGTERM, None)
    now += 0.2
    stop(signal.SIGTERM, None)
    now += 0.5
    with pytest.raises(Interrupt) as caught:
        stop(signal.SIGHUP, None)
    assert (caught.value.exit_code, stop.exit_code) == (129, 129)


def test_where_nothing_is_to_be_saved_the_first_signal_interrupts() -> None:
    with stop_on_signals(Stop(at_once=True)), pytest.raises(Interrupt):
        os.kill(os.getpid(), signal.SIGTERM)


def test_another_thread_trains_without_listening_to_signals() -> None:
    seen = []
    before = signal.getsignal(signal.SIGTERM)

    def work() -> None:
        with stop_on_signals() as stop:
            seen.append((stop.requested, signal.getsignal(signal.SIGTERM) is before))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, True)]


def test_work_in_the_background_is_given_up_and_its_result_and_faults_come_through() -> None:
    stop, go_on = Stop(), threading.Event()
    assert stop.wait_for(max, 1, 2) == 2
    with pytest.raises(ZeroDivisionError):
        stop.wait_for(divmod, 1, 0)
    threading.Timer(0.1, lambda: setattr(stop, "requested", True)).start()
    try:
        with pytest.raises(Stopped):
            stop.wait_for(go_on.wait)
    finally:
        go_on.set()


STUBBORN = """
import signal, sys, time
from dreamerjax.core import stopping
stopping.GRACE = stopping.PATIENCE = 0.2
signal.signal(int(sys.argv[1]), signal.SIG_DFL)  # nohup lets hangups be ignored, and what runs in the background Ctrl-C
with stopping.stop_on_signals():
    print("ready", flush=True)
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            pass
"""


@pytest.mark.parametrize(("number", "code"), CODES)
def test_a_second_signal_ends_a_process_that_swallows_it(number: signal.Signals, code: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN, str(int(number))], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == (
            f"{number.name}: the run ends, with a checkpoint, after the present step of its environment or update; "
            "a second one ends it at once\n"
        )
        time.sleep(stopping.SAME)
        process.send_signal(number)
        assert process.wait(60) == code


ABANDONED = """
import signal, time
from dreamerjax.core.stopping import Stop, Stopped, leave
stop = Stop()
stop(signal.SIGTERM, None)
try:
    stop.wait_for(time.sleep, 300)
except Stopped:
    print("given up")
leave(stop.exit_code)
"""


def test_the_program_does_not_wait_for_what_was_given_up() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", ABANDONED], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (143, "given up\n", "")
