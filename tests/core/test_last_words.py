"""One line in place of JAX's page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from dreamerjax.core.last_words import Listener

POLLED = b"E1130 16:31:27.460815   23347 coordination_service_agent.cc:289] Polled an error from coordination service.\n"
FATAL = b"F1130 16:31:27.460366   23326 client.h:80] Terminating process because the JAX distributed service failed.\n"
TRACE = [b"\n", b"*** Check failure stack trace: ***\n", b"    @     0x7f2849440634  absl::lts_20260107::Flush()\n"]


def heard(*lines: bytes) -> bytes:
    listener = Listener("error: gone")
    return b"".join(map(listener.hear, lines))


def test_the_page_becomes_one_line() -> None:
    assert heard(b"before\n", POLLED, b"more of it\n", FATAL, *TRACE) == b"before\nerror: gone\n"


def test_what_we_have_said_is_not_said_twice() -> None:
    assert heard(b"error: process 1 was killed\n", POLLED, FATAL, *TRACE) == b"error: process 1 was killed\n"


def test_other_logs_and_our_warnings_pass() -> None:
    other = b"E1130 17:04:14.270486    4020 slow_operation_alarm.cc:73] a slow compilation\n"
    assert heard(other, POLLED, b"more of it\n", b"warning: of ours\n", b"a part") == other + b"warning: of ours\na part"


PROGRAM = """
import os
from dreamerjax.core.last_words import end_with
end_with("error: gone")
os.write(2, b"a line\\n")
os.write(2, b"F1130 16:31:27.460366   23326 client.h:80] Terminating process\\n*** stack trace\\n")
os.abort()
"""


def test_it_is_said_when_the_process_is_aborted() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, timeout=60)
    assert done.returncode < 0
    assert done.stderr == "a line\nerror: gone\n"
