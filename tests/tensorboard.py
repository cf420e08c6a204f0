"""Reading back what a run put into TensorBoard, by the file format's own rules."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_events(directory: Path) -> list[Any]:
    """Every event of a run's files, in order. A record is its length, a checksum, the event, a checksum."""
    from tensorboardX.proto.event_pb2 import Event

    events = []
    for file in sorted(directory.glob("events.out.tfevents.*"), key=lambda path: path.stat().st_mtime_ns):
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            events.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return events


def values(run: Path) -> Iterator[tuple[int, Any]]:
    """(step, value) of everything in a run's files."""
    for event in read_events(run):
        for value in event.summary.value:
            yield event.step, value
