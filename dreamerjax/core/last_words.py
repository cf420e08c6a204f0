"""One line in place of the page that JAX writes when it ends a process whose coordinator has gone.

JAX aborts such a process at once, from foreign code: nothing in it can be asked first. So what it writes to standard error
goes through a small process of its own, which outlives it. That runs this file, and imports nothing slow.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

LOG = re.compile(rb"[WEF]\d{4} [\d:.]+ .*\b(coordination_service\w*\.cc|client\.h):\d+\]")
OURS = (b"error: ", b"warning: ")
CHUNK = 2**16


class Listener:
    """Says what is to be passed on of what was written; after JAX's fatal line, one line of ours unless there was one."""

    def __init__(self, last_line: str) -> None:
        self._last_line = last_line.encode() + b"\n"
        self._silent = False  # within one of the coordination service's texts, which have several lines
        self._told = False  # why the process ends

    def hear(self, line: bytes) -> bytes:
        """What to write for a line; empty for nothing."""
        if LOG.match(line):
            told, self._silent = self._told, True
            self._told = told or line.startswith(b"F")
            return self._last_line if self._told and not told else b""
        if line.startswith(OURS):
            self._silent, self._told = False, self._told or line.startswith(b"error: ")
        return b"" if self._silent else line


def end_with(last_line: str) -> None:
    """From now on, `last_line` stands for what JAX writes when it ends this process."""
    reader, writer = os.pipe()
    command = [sys.executable, "-I", "-S", __file__, last_line]
    subprocess.Popen(command, stdin=reader, start_new_session=True)  # ends when nobody can write any more
    os.close(reader)
    sys.stderr.flush()
    os.dup2(writer, 2)
    os.close(writer)


def main() -> None:
    """Pass on standard input to standard error, line by line, until it ends."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    listener, rest = Listener(sys.argv[1]), b""
    while chunk := os.read(0, CHUNK):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            os.write(2, listener.hear(line + b"\n"))
    os.write(2, listener.hear(rest))


if __name__ == "__main__":
    main()
