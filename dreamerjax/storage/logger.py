"""What a run writes down as it goes: metrics.jsonl, TensorBoard events, and the display in the terminal."""

from __future__ import annotations

import json
import math
import os
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, TextIO

from dreamerjax.core.files import file_faults, plain, write_bytes
from dreamerjax.storage.progress import ProgressDisplay
from dreamerjax.storage.sinks import FanOut, Sink

EPISODE_RETURN = "episode/return"  # one line per finished training episode
CHANGED = "resume/changed_settings"  # one line where a resume changed so many
WALL_CLOCK = "time"  # this key, and every key under "time/", differs between two equal runs
FLUSH_SECONDS = 10.0  # between flushes of the TensorBoard file; metrics.jsonl is flushed with every line


class RunLogger:
    """Logs of one run.

    `scalars` accepts any keys. Three kinds mean something to the display and the learning curve: `episode/return`,
    `eval/<policy>/return_mean` with its `_min`, `_max` and `_std`, and `loss/*`. A value that depends on the machine's
    speed belongs under `time/`, so that the rest of the file is equal for equal runs. `mark` is that of metrics.jsonl so far.
    """

    def __init__(
        self,
        run_dir: str | Path,
        *,
        total_steps: int = 0,
        stream: TextIO | None = None,
        sinks: Mapping[str, Callable[[Path], Sink]] | None = None,
    ) -> None:
        """Opens metrics.jsonl for appending; nothing else is created before it is needed.

        `total_steps` are environment steps of the whole run, `stream` is where the display goes (standard output), `sinks` come
        from `chosen_sinks`.

        Raises UserError: metrics.jsonl cannot be written; exit code 1, as in every method here.
        """
        self._directory = Path(run_dir)
        self.path = self._directory / "metrics.jsonl"
        with file_faults(self.path):
            self._file = self.path.open("a", encoding="utf-8", newline="\n")
        self.mark = mark(b"")
        self._start = time.monotonic()
        self._purge_step: int | None = None
        self._events: EventFile | None = None
        self._display = ProgressDisplay(self._directory.name, total_steps, stream or sys.stdout)
        self._sinks = FanOut(sinks or {}, self._directory, self.message)

    def truncate_after(self, update: int, env_step: int) -> int:
        """Forgets what was logged after a checkpoint, for a run that continues from it; call it before any logging.

        Lines of metrics.jsonl with a larger update or a larger environment step are dropped, a half-written last line
        and damaged ones too; TensorBoard hides its events of larger steps. The clock goes on from the last line that is kept.

        Returns:
            The number of lines dropped.
        """
        with file_faults(self.path):
            lines = _whole_lines(self.path)
        sound = [(line, record) for line in lines if (record := _sound(line)) is not None]
        kept = [(line, record) for line, record in sound if record["update"] <= update and record["env_step"] <= env_step]
        with file_faults(self.path):
            self._file.close()
            content = "".join(f"{line}\n" for line, _ in kept).encode()
            write_bytes(self.path, content)
            self._file = self.path.open("a", encoding="utf-8", newline="\n")
        self.mark = mark(content)
        self._start = time.monotonic() - max((record.get(WALL_CLOCK, 0.0) for _, record in kept), default=0.0)
        self._purge_step = env_step + 1
        return len(lines) - len(kept)

    def scalars(self, step: int, values: Mapping[str, Any], *, updates: int) -> None:
        """Writes one line of metrics.jsonl and one TensorBoard event, and tells the other sinks, at so many environment steps.

        Values are numbers, 0-d arrays too; a non-finite one is written as "NaN", "Infinity" or "-Infinity".
        """
        numbers = {key: float(value) for key, value in values.items()}
        seconds = round(time.monotonic() - self._start, 3)
        record = {**numbers, "env_step": int(step), "update": int(updates), WALL_CLOCK: seconds}
        line = json.dumps(plain(record), sort_keys=True, allow_nan=False) + "\n"
        with file_faults(self.path):
            self._file.write(line)
            self._file.flush()
        self.mark = [self.mark[0] + len(line), zlib.crc32(line.encode(), self.mark[1])]
        self.events.scalars(step, numbers)
        self._sinks.scalars(int(step), numbers, int(updates))
        self._display.values(numbers)

    def progress(self, step: int, updates: int) -> None:
        """Tells the display where the run is. Cheap: call it in every iteration."""
        self._display.progress(step, updates)

    def message(self, text: str) -> None:
        """Prints a line, above the panel where there is one."""
        self._display.message(text)

    @property
    def events(self) -> EventFile:
        """The run's event file, for texts and pictures; made when it is first asked for."""
        if self._events is None:
            self._events = EventFile(self._directory, self._purge_step)
        return self._events

    def close(self) -> None:
        """Ends the sinks and the display, and closes the files. Harmless when repeated."""
        self._sinks.close()
        self._display.close()
        events, self._events = self._events, None
        try:
            with file_faults(self.path):
                self._file.close()
        finally:
            if events is not None:
                events.close()


class SilentLogger(RunLogger):
    """Of a process that neither writes nor prints, since another one does; it may be told of nothing else than this."""

    def __init__(self) -> None:
        """Opens nothing."""

    def progress(self, step: int, updates: int) -> None:
        """Shows nothing."""

    def message(self, text: str) -> None:
        """Prints nothing."""

    def close(self) -> None:
        """Nothing is open."""


class EventFile:
    """A TensorBoard event file, written in the calling thread: a full disk is an error here and not a lost thread."""

    def __init__(self, directory: Path, purge_step: int | None) -> None:
        """TensorBoard hides what earlier files say of `purge_step` and later ones; None hides nothing."""
        from tensorboardX.event_file_writer import EventsWriter  # slow to import
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._path = directory / "events.out.tfevents"  # what all event files' names begin with
        self._event = Event
        self._flushed = time.monotonic()
        with file_faults(self._path):
            self._writer = EventsWriter(str(directory / "events"), f".{os.getpid()}.{time.time_ns()}")
        if purge_step is not None:
            self._write(purge_step, session_log=SessionLog(status=SessionLog.START))

    def scalars(self, step: int, numbers: Mapping[str, float]) -> None:
        """Writes all numbers as one event."""
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=number) for tag, number in numbers.items()]
        self._write(step, summary=Summary(value=values))

    def text(self, step: int, tag: str, text: str) -> None:
        """Writes a text (Markdown)."""
        from tensorboardX.summary import text as text_summary

        self._write(step, summary=text_summary(tag, text))

    def image(self, step: int, tag: str, content: bytes) -> None:
        """Writes a picture: a PNG, or a GIF, which TensorBoard shows as a video if it moves; ValueError if it is neither."""
        from PIL import Image, UnidentifiedImageError
        from tensorboardX.proto.summary_pb2 import Summary

        try:
            with Image.open(BytesIO(content), formats=("PNG", "GIF")) as picture:
                (width, height), channels = picture.size, 3 if picture.mode == "P" else len(picture.getbands())
        except UnidentifiedImageError:
            raise ValueError(f"{tag}: not a PNG or GIF") from None
        image = Summary.Image(width=width, height=height, colorspace=channels, encoded_image_string=content)
        self._write(step, summary=Summary(value=[Summary.Value(tag=tag, image=image)]))

    def close(self) -> None:
        """Flushes and closes the file."""
        with file_faults(self._path):
            self._writer.close()

    def _write(self, step: int, **content: Any) -> None:
        with file_faults(self._path):
            self._writer.write_event(self._event(step=step, wall_time=time.time(), **content))
            if time.monotonic() - self._flushed > FLUSH_SECONDS:
                self._writer.flush()
                self._flushed = time.monotonic()


def mark(content: bytes) -> list[int]:
    """Length and checksum of a file."""
    return [len(content), zlib.crc32(content)]


def read_metrics(path: str | Path, damaged: list[int] | None = None) -> list[dict[str, float]]:
    """The sound lines of a metrics.jsonl, and in `damaged` the numbers, from 1, of the others.

    A line is sound if it is an object of numbers and says at which `env_step` and `update` it was written. A truncated last
    line is neither. Raises OSError: there is no such file, or it cannot be read.
    """
    records = [_sound(line) for line in _whole_lines(Path(path))]
    if damaged is not None:
        damaged += [number for number, record in enumerate(records, 1) if record is None]
    return [record for record in records if record is not None]


def _whole_lines(path: Path) -> list[str]:
    """What follows the last newline is not a whole line."""
    return path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]


def _sound(line: str) -> dict[str, float] | None:
    """Its numbers, non-finite ones as floats again."""
    try:
        items = json.loads(line).items()
        record = {key: value if isinstance(value, int) and math.isfinite(value) else float(value) for key, value in items}
        return record if math.isfinite(record["env_step"]) and math.isfinite(record["update"]) else None
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError):
        return None
