"""Printing where nobody may be listening any more."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO


def say(text: str, stream: TextIO | None = None) -> bool:
    """Print a line on a stream (stdout); whether it could be: a closed pipe, a full disk or no stream at all ends nothing.

    What a stream that failed still holds is thrown away, so that the end of the process does not fail on it.
    """
    stream = sys.stdout if stream is None else stream
    try:
        print(text, file=stream, flush=True)
    except (OSError, ValueError, AttributeError):
        with suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
        return False
    return True
