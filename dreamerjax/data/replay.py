"""A ring buffer of steps per environment stream, sampled as fixed-length subsequences.

Legend: U updates per call, T steps per sequence, B sequences per update. Steps are known by their absolute number in
their stream, counted from 0; step `s` lies in slot `s % slots`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dreamerjax.core.errors import UserError
from dreamerjax.core.machine import memory_bytes
from dreamerjax.core.types import Arrays

Field = tuple[tuple[int, ...], Any]  # shape of one step, dtype


@dataclass(frozen=True)
class Positions:
    """Where sampled sequences begin."""

    stream: np.ndarray  # int64 [U, B]
    step: np.ndarray  # int64 [U, B], absolute number of the first step


@dataclass(frozen=True)
class Sample:
    """Sequences for U updates."""

    data: Arrays  # [U, T, B, ...]
    context: Arrays  # [U, B, ...], context fields of the step before the first; zeros where there is none
    position: Positions


class Replay:
    """See `add`, `sample`, `refresh`. Memory is reserved here and touched as the ring fills: at most `nbytes`.

    Raises UserError if the capacity is too small for one sequence per stream or too large for this machine's memory.
    """

    def __init__(
        self,
        fields: Mapping[str, Field],
        num_streams: int,
        capacity: int,
        sequence_length: int,
        *,
        context_fields: Sequence[str] = (),
        online: bool = True,
        seed: int = 0,
    ) -> None:
        self.fields = {name: (tuple(shape), np.dtype(dtype)) for name, (shape, dtype) in fields.items()}
        self.num_streams = num_streams
        self.slots = capacity // num_streams
        self.sequence_length = sequence_length
        if self.slots <= sequence_length:
            raise UserError(
                f"replay.capacity={capacity} leaves {self.slots} steps for each of {num_streams} streams; sequences of "
                f"{sequence_length} steps need at least {num_streams * (sequence_length + 1)}"
            )
        if unknown := set(context_fields) - set(self.fields):
            raise ValueError(f"context fields {sorted(unknown)} are not among the fields {sorted(self.fields)}")
        step_bytes = sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in self.fields.values())
        self.nbytes = step_bytes * self.slots * num_streams
        self._data = _reserve(self.fields, self.slots * num_streams, self.nbytes, capacity)
        self._context_fields = tuple(context_fields)
        self._written = np.zeros(num_streams, np.int64)  # steps ever written to each stream
        self._every_stream = np.arange(num_streams)
        self._offsets = self._every_stream * self.slots
        self._online = online
        self._queue: deque[tuple[int, int]] = deque()  # (stream, first step) of sequences not sampled yet
        self._rng = np.random.Generator(np.random.PCG64(seed))

    def __len__(self) -> int:
        """Steps held, over all streams."""
        return int(np.minimum(self._written, self.slots).sum())

    def add(self, step: Arrays, streams: np.ndarray | None = None) -> None:
        """Append one step, fields [n, ...], to each of the distinct `streams` [n] (None: to all, in order).

        Raises ValueError for an unknown or missing field, a wrong shape, or a type that would lose values.
        """
        ids = self._every_stream if streams is None else np.asarray(streams)
        if streams is not None and len(set(ids.tolist())) != len(ids):
            raise ValueError(f"a stream occurs twice in {ids.tolist()}")
        self._check(step, len(ids))
        written = self._written[ids]
        index = self._offsets[ids] + written % self.slots
        for name, value in step.items():
            self._data[name][index] = value
        self._written[ids] = written + 1
        if self._online:
            self._enqueue(ids, written + 1)

    def ready(self) -> bool:
        """Whether there is at least one sequence to sample."""
        return bool((self._written >= self.sequence_length).any())

    def sample(self, updates: int, batch_size: int) -> Sample:
        """Sequences of T consecutive steps of one stream, new arrays.

        Fresh ones first, in the order in which they were completed; the rest uniformly over all (stream, first step).
        They may cross episode boundaries and never the write head. Raises ValueError if not `ready`.
        """
        if not self.ready():
            raise ValueError(f"no stream of the replay holds {self.sequence_length} steps yet")
        stream, start = self._draw(updates * batch_size)
        position = Positions(stream.reshape(updates, batch_size), start.reshape(updates, batch_size))
        index = self._index(position)
        data = {name: values.take(index, axis=0) for name, values in self._data.items()}
        before = self._offsets[position.stream] + (position.step - 1) % self.slots
        context = {name: self._data[name].take(before, axis=0) for name in self._context_fields}
        for values in context.values():
            values[position.step == 0] = 0
        return Sample(data, context, position)

    def blank(self, updates: int, batch_size: int) -> Sample:
        """What `sample` would give, in shape: all zeros."""
        shapes = {name: (updates, self.sequence_length, batch_size, *shape) for name, (shape, _) in self.fields.items()}
        data = {name: np.zeros(shape, self.fields[name][1]) for name, shape in shapes.items()}
        context = {name: data[name][:, 0] for name in self._context_fields}
        return Sample(data, context, Positions(*np.zeros((2, updates, batch_size), np.int64)))

    def refresh(self, position: Positions, values: Arrays) -> None:
        """Replace fields [U, T, B, ...] of sampled steps, except of those overwritten since. Later updates win."""
        index = self._index(position)
        steps = position.step[:, None, :] + np.arange(self.sequence_length)[:, None]
        held = steps >= (self._written - self.slots)[position.stream][:, None, :]
        everything = bool(held.all())
        for name, value in values.items():
            new = np.asarray(value)
            shape = index.shape + self.fields[name][0]
            if new.shape != shape:
                raise ValueError(f"field {name!r}: shape {new.shape} instead of {shape}")
            self._data[name][index if everything else index[held]] = new if everything else new[held]

    def state_dict(self) -> tuple[Arrays, dict[str, Any]]:
        """Copies of the filled part, as flat arrays, and what goes into JSON (the state of the random generator)."""
        filled = self._filled()
        arrays = {f"field.{name}": values[filled] for name, values in self._data.items()}
        arrays["written"] = self._written.copy()
        arrays["queue"] = np.array(self._queue, np.int64).reshape(-1, 2)
        return arrays, {"rng": self._rng.bit_generator.state, "slots": self.slots}

    def load_state_dict(self, arrays: Arrays, info: dict[str, Any]) -> None:
        """Take over what `state_dict` of a replay of the same fields, streams and capacity gave.

        Raises UserError if one of those differs.
        """
        saved = {name.removeprefix("field."): values for name, values in arrays.items() if name.startswith("field.")}
        signature = {name: (values.shape[1:], values.dtype) for name, values in saved.items()}
        for what, here, there in (
            ("fields", self.fields, signature),
            ("streams", self.num_streams, len(arrays["written"])),
            # A ring that was never full may go on in one of another size.
            ("steps per stream", self.slots, info["slots"] if max(arrays["written"]) > info["slots"] else self.slots),
        ):
            if here != there:
                raise UserError(f"the saved replay cannot be loaded: its {what} are {there}, this run's are {here}")
        self._written = np.array(arrays["written"], np.int64)
        filled, kept = self._filled(), self._newest(np.minimum(self._written, info["slots"]))
        for name, values in saved.items():
            self._data[name][filled] = values[kept]
        self._queue = deque((int(stream), int(start)) for stream, start in arrays["queue"])
        self._rng.bit_generator.state = info["rng"]

    def _check(self, step: Arrays, count: int) -> None:
        if step.keys() != self.fields.keys():
            unknown, missing = sorted(step.keys() - self.fields.keys()), sorted(self.fields.keys() - step.keys())
            raise ValueError(f"replay fields unknown: {unknown}, missing: {missing}")
        for name, (shape, dtype) in self.fields.items():
            value = step[name]
            if value.shape != (count, *shape):
                raise ValueError(f"field {name!r}: shape {value.shape} instead of {(count, *shape)}")
            if value.dtype != dtype and not np.can_cast(value.dtype, dtype, "same_kind"):
                raise ValueError(f"field {name!r}: {value.dtype} cannot be stored as {dtype}")

    def _enqueue(self, streams: np.ndarray, written: np.ndarray) -> None:
        complete = (written % self.sequence_length == 0).nonzero()[0]
        if not len(complete):
            return
        self._queue.extend((int(streams[i]), int(written[i]) - self.sequence_length) for i in complete)
        firsts = self._first_starts()
        while self._queue[0][1] < firsts[self._queue[0][0]]:
            self._queue.popleft()

    def _first_starts(self) -> np.ndarray:
        """The oldest step of each stream whose predecessor is held too, or step 0: int64 [streams]."""
        overwritten = self._written - self.slots
        return np.where(overwritten > 0, overwritten + 1, 0)

    def _draw(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Streams and first steps of `count` sequences: int64 [count] each."""
        firsts = self._first_starts()
        fresh: list[tuple[int, int]] = []
        while self._queue and len(fresh) < count:
            stream, start = self._queue.popleft()
            if start >= firsts[stream]:
                fresh.append((stream, start))
        choices = np.cumsum(np.maximum(self._written - self.sequence_length - firsts + 1, 0))
        draws = self._rng.integers(choices[-1], size=count - len(fresh))
        streams = np.searchsorted(choices, draws, side="right")
        starts = draws - np.concatenate([[0], choices])[streams] + firsts[streams]
        queued = np.array(fresh, np.int64).reshape(-1, 2)
        return np.concatenate([queued[:, 0], streams]), np.concatenate([queued[:, 1], starts])

    def _index(self, position: Positions) -> np.ndarray:
        """Rows of all steps of the sequences: int64 [U, T, B]."""
        steps = position.step[:, None, :] + np.arange(self.sequence_length)[:, None]
        return self._offsets[position.stream][:, None, :] + steps % self.slots

    def _filled(self) -> np.ndarray:
        """Rows of all steps held, stream by stream, oldest first."""
        held = [np.arange(max(0, written - self.slots), written) for written in self._written.tolist()]
        return np.concatenate([offset + steps % self.slots for offset, steps in zip(self._offsets, held, strict=True)])

    def _newest(self, held: np.ndarray) -> np.ndarray:
        """Rows that fit into this ring, of arrays that hold `held` [streams] steps, stream by stream."""
        ends = np.cumsum(held)
        return np.concatenate([np.arange(end - min(count, self.slots), end) for end, count in zip(ends, held, strict=True)])


def _reserve(fields: Mapping[str, Field], rows: int, nbytes: int, capacity: int) -> Arrays:
    """Zeros [rows, ...] for each field, unless they could never fit into this machine's memory."""
    memory = memory_bytes()
    message = f"replay.capacity={capacity} needs {nbytes:,} bytes; this machine's memory is {memory:,} bytes"
    if nbytes > memory:
        raise UserError(message)
    try:
        return {name: np.zeros((rows, *shape), dtype) for name, (shape, dtype) in fields.items()}
    except MemoryError as error:
        raise UserError(message) from error
