"""Printing where nobody may be listening any more, and command lines that are read."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from typing import NoReturn, TextIO


def say(text: str, stream: TextIO | None = None) -> bool:
    """Print a line on a stream (stdout); whether it could be: a closed pipe, a full disk or no stream at all ends nothing.

    Letters that the stream's encoding lacks become question marks.
    What a stream that failed still holds is thrown away, so that the end of the process does not fail on it.
    """
    stream = sys.stdout if stream is None else stream
    try:
        try:
            print(text, file=stream, flush=True)
        except UnicodeEncodeError:  # nothing of it was written
            print(text.encode(stream.encoding, "replace").decode(stream.encoding), file=stream, flush=True)
    except (OSError, ValueError, AttributeError):
        with suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        return False
    return True


class Parser(argparse.ArgumentParser):
    """One that answers a wrong command line with one line, not with its usage too."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with exit code 2."""
        self.exit(2, f"error: {message}; --help tells what is valid\n")
