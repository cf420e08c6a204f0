"""Reading back what a run put into TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any


def values(run: Path) -> Iterator[tuple[int, Any]]:
    """(step, value) of everything in a run's event files. A record is its length, a checksum, the event, a checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(run.glob("events.out.tfevents*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 12 + length + 4
            for value in event.summary.value:
                yield event.step, value
