import json
from collections import Counter
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamerjax.core.errors import UserError
from dreamerjax.core.types import Arrays
from dreamerjax.data.replay import Field, Positions, Replay, Sample

FIELDS: dict[str, Field] = {
    "number": ((), np.int64),  # stream * 1000 + absolute step
    "image": ((2, 3), np.uint8),
    "latent": ((4,), np.float32),
    "is_first": ((), np.bool_),
}


def record(stream: int, step: int) -> Arrays:
    """What a test writes as one stream's step; never zero in the context fields."""
    number = stream * 1000 + step
    return {
        "number": np.array(number),
        "image": np.full((2, 3), number % 256, np.uint8),
        "latent": np.full(4, number + 0.5, np.float32),
        "is_first": np.array(step == 0),
    }


class Model:
    """The replay as a plain list per stream, everything in loops: what the ring must agree with."""

    def __init__(self, streams: int, slots: int, length: int) -> None:
        self.slots, self.length = slots, length
        self.steps: list[list[Arrays]] = [[] for _ in range(streams)]
        self.fresh: list[tuple[int, int]] = []

    def add(self, stream: int) -> Arrays:
        step = record(stream, len(self.steps[stream]))
        self.steps[stream].append(step)
        if len(self.steps[stream]) % self.length == 0:
            self.fresh.append((stream, len(self.steps[stream]) - self.length))
        return step

    def held(self, stream: int, step: int) -> bool:
        return max(0, len(self.steps[stream]) - self.slots) <= step < len(self.steps[stream])

    def startable(self, stream: int, start: int) -> bool:
        inside = all(self.held(stream, start + t) for t in range(self.length))
        return inside and (start == 0 or self.held(stream, start - 1))

    def starts(self) -> set[tuple[int, int]]:
        return {(i, start) for i, steps in enumerate(self.steps) for start in range(len(steps)) if self.startable(i, start)}

    def take_fresh(self, count: int) -> list[tuple[int, int]]:
        self.fresh = [entry for entry in self.fresh if self.startable(*entry)]
        taken, self.fresh = self.fresh[:count], self.fresh[count:]
        return taken


def make(streams: int = 2, slots: int = 10, length: int = 3, **kwargs: Any) -> tuple[Replay, Model]:
    replay = Replay(FIELDS, streams, streams * slots, length, context_fields=("image", "latent"), **kwargs)
    return replay, Model(streams, slots, length)


def add(replay: Replay, model: Model, streams: list[int] | None = None) -> None:
    steps = [model.add(stream) for stream in (range(replay.num_streams) if streams is None else streams)]
    batch = {name: np.stack([step[name] for step in steps]) for name in FIELDS}
    replay.add(batch, None if streams is None else np.array(streams))


def entries(sample: Sample) -> list[tuple[int, int]]:
    streams, steps = sample.position.stream.ravel().tolist(), sample.position.step.ravel().tolist()
    return list(zip(streams, steps, strict=True))


def check_content(sample: Sample, model: Model) -> None:
    """Every value of the sample, and of its context, is what the model holds there."""
    updates, batch = sample.position.stream.shape
    for update in range(updates):
        for column in range(batch):
            stream, start = int(sample.position.stream[update, column]), int(sample.position.step[update, column])
            assert model.startable(stream, start)
            for name, values in sample.data.items():
                expected = np.stack([model.steps[stream][start + t][name] for t in range(model.length)])
                np.testing.assert_array_equal(values[update, :, column], expected, strict=True)
            for name, values in sample.context.items():
                before = model.steps[stream][start - 1][name] if start else np.zeros(*FIELDS[name])
                np.testing.assert_array_equal(values[update, column], before, strict=True)


@st.composite
def schedules(draw: st.DrawFn) -> tuple[int, int, int, list[Any]]:
    streams, length = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    slots = draw(st.integers(length + 1, length + 8))
    some = st.lists(st.integers(0, streams - 1), min_size=1, unique=True)
    operation = st.one_of(st.none(), some, st.tuples(st.integers(1, 2), st.integers(1, 4)))
    return streams, slots, length, draw(st.lists(operation, min_size=1, max_size=50))


@settings(deadline=None, max_examples=150)
@given(schedule=schedules(), online=st.booleans())
def test_agrees_with_the_plain_model(schedule: tuple[int, int, int, list[Any]], online: bool) -> None:
    streams, slots, length, operations = schedule
    replay, model = make(streams, slots, length, online=online)
    for operation in operations:
        if not isinstance(operation, tuple):
            add(replay, model, operation)
            assert len(replay) == sum(min(slots, len(steps)) for steps in model.steps)
            continue
        assert replay.ready() == bool(model.starts())
        if not replay.ready():
            with pytest.raises(ValueError, match=f"no stream of the replay holds {length} steps"):
                replay.sample(*operation)
            continue
        sample = replay.sample(*operation)
        check_content(sample, model)
        fresh = model.take_fresh(operation[0] * operation[1]) if online else []
        assert entries(sample)[: len(fresh)] == fresh


def test_draws_are_uniform_over_streams_and_starts() -> None:
    replay, model = make(streams=3, slots=9, length=4, online=False)
    for i in range(14):
        add(replay, model, [stream for stream in range(3) if i < (14, 7, 3)[stream]])
    starts = model.starts()
    assert len(starts) == (9 - 4) + (7 - 4 + 1) + 0
    count = 9000
    drawn = Counter(entries(replay.sample(3, count // 3)))
    assert set(drawn) == starts
    expected = count / len(starts)
    chi_square = sum((drawn[start] - expected) ** 2 / expected for start in starts)
    assert chi_square < 26.1  # 99.9% quantile of 8 degrees of freedom


def test_sequences_are_time_major_and_cross_episodes() -> None:
    replay, model = make(streams=1, slots=20, length=5)
    for _ in range(12):
        add(replay, model)
    sample = replay.sample(2, 3)
    assert sample.data["image"].shape == (2, 5, 3, 2, 3)
    assert sample.data["image"].dtype == np.uint8
    assert sample.context["latent"].shape == (2, 3, 4)
    np.testing.assert_array_equal(np.diff(sample.data["number"], axis=1), 1)


def test_every_fresh_sequence_comes_once_and_first() -> None:
    replay, model = make(streams=2, slots=50, length=3)
    for _ in range(7):
        add(replay, model)
    assert entries(replay.sample(1, 3)) == [(0, 0), (1, 0), (0, 3)]
    add(replay, model)
    add(replay, model)
    later = entries(replay.sample(2, 2))
    assert later[:3] == [(1, 3), (0, 6), (1, 6)]


def test_samples_are_new_arrays() -> None:
    replay, model = make()
    for _ in range(6):
        add(replay, model)
    sample = replay.sample(1, 2)
    kept = sample.data["number"].copy()
    for _ in range(20):
        add(replay, model)
    np.testing.assert_array_equal(sample.data["number"], kept)
    sample.data["number"][:] = -1
    check_content(replay.sample(2, 8), model)


@settings(deadline=None, max_examples=60)
@given(before=st.integers(3, 25), between=st.integers(0, 14), seed=st.integers(0, 99))
def test_refresh_replaces_what_is_still_there(before: int, between: int, seed: int) -> None:
    replay, model = make(streams=2, slots=10, length=3, seed=seed)
    for _ in range(before):
        add(replay, model)
    sample = replay.sample(2, 2)
    for _ in range(between):
        add(replay, model, [0])
    new = np.random.default_rng(seed).normal(size=(2, 3, 2, 4)).astype(np.float32)
    replay.refresh(sample.position, {"latent": new})
    for update in range(2):
        for t in range(3):
            for column in range(2):
                stream, start = sample.position.stream[update, column], sample.position.step[update, column]
                if model.held(stream, start + t):
                    model.steps[stream][start + t]["latent"] = new[update, t, column]
    check_content(replay.sample(4, 16), model)


def test_refresh_checks_shapes() -> None:
    replay, model = make()
    for _ in range(4):
        add(replay, model)
    position = replay.sample(1, 2).position
    with pytest.raises(ValueError, match=r"field 'latent': shape \(1, 3, 2\) instead of \(1, 3, 2, 4\)"):
        replay.refresh(position, {"latent": np.zeros((1, 3, 2), np.float32)})


@settings(deadline=None, max_examples=40)
@given(steps=st.integers(0, 30), extra=st.integers(0, 5), drawn=st.integers(0, 2))
def test_saved_and_loaded_it_goes_on_bit_for_bit(steps: int, extra: int, drawn: int) -> None:
    replay, model = make(seed=3)
    for _ in range(steps):
        add(replay, model)
        add(replay, model, [1])
    for _ in range(drawn if replay.ready() else 0):
        replay.sample(1, 3)
    arrays, info = replay.state_dict()
    held = len(replay)
    assert all(len(arrays[f"field.{name}"]) == held for name in FIELDS)
    copy, _ = make(seed=99)
    copy.load_state_dict(arrays, json.loads(json.dumps(info)))
    model_copy = deepcopy(model)
    for _ in range(extra):
        add(replay, model)
        add(copy, model_copy)
    assert len(copy) == len(replay)
    for _ in range(3 if replay.ready() else 0):
        left, right = replay.sample(1, 4), copy.sample(1, 4)
        assert entries(left) == entries(right)
        check_content(right, model)
        for name in FIELDS:
            np.testing.assert_array_equal(left.data[name], right.data[name], strict=True)


def test_saved_arrays_are_copies() -> None:
    replay, model = make()
    for _ in range(10):
        add(replay, model)
    arrays, _ = replay.state_dict()
    kept = {name: values.copy() for name, values in arrays.items()}
    for _ in range(5):
        add(replay, model)
    for name, values in arrays.items():
        np.testing.assert_array_equal(values, kept[name])


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (Replay(FIELDS, 3, 30, 3), "streams are 2, this run's are 3"),
        (Replay(FIELDS, 2, 22, 3), "steps per stream are 10, this run's are 11"),
        (Replay({"number": ((), np.int64)}, 2, 20, 3), "its fields are"),
        (Replay(FIELDS | {"latent": ((5,), np.float32)}, 2, 20, 3), "its fields are"),
    ],
    ids=["streams", "slots", "fields", "shape"],
)
def test_a_state_of_another_shape_is_refused(other: Replay, what: str) -> None:
    replay, model = make()
    for _ in range(11):
        add(replay, model)
    with pytest.raises(UserError, match=what):
        other.load_state_dict(*replay.state_dict())


@pytest.mark.parametrize("slots", [5, 9, 12])
def test_a_ring_that_was_never_full_goes_on_in_one_of_another_size(slots: int) -> None:
    replay, model = make(slots=10)
    other, expected = make(slots=slots)
    for number in range(9):
        add(replay, model, [0] if number % 3 else None)
        add(other, expected, [0] if number % 3 else None)
    loaded, _ = make(slots=slots)
    loaded.load_state_dict(*replay.state_dict())
    assert len(loaded) == len(other)
    for left, right in zip(loaded.sample(3, 4).data.items(), other.sample(3, 4).data.items(), strict=True):
        np.testing.assert_array_equal(left[1], right[1])


def test_too_small_or_too_large_is_one_line() -> None:
    with pytest.raises(UserError, match=r"replay.capacity=9 leaves 3 steps for each of 3 streams; .* at least 12"):
        Replay(FIELDS, 3, 9, 3)
    with pytest.raises(UserError, match=r"replay.capacity=1000000000000 needs 31,000,000,000,000 bytes; this machine's"):
        Replay(FIELDS, 2, 10**12, 3)


def test_memory_that_is_refused_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(np, "zeros", refuse)
    with pytest.raises(UserError, match=r"replay.capacity=100 needs 3,100 bytes"):
        Replay(FIELDS, 2, 100, 3)


def test_memory_is_stated() -> None:
    replay, _ = make(streams=2, slots=10)
    assert replay.nbytes == 20 * (8 + 6 + 16 + 1)


def test_wrong_steps_are_refused_and_leave_the_replay_alone() -> None:
    replay, _ = make()
    good = {name: np.stack([record(0, 0)[name]] * 2) for name in FIELDS}
    wrong: list[tuple[Arrays, np.ndarray | None, str]] = [
        ({**good, "extra": np.zeros(2)}, None, r"unknown: \['extra'\], missing: \[\]"),
        ({name: good[name] for name in FIELDS if name != "latent"}, None, r"missing: \['latent'\]"),
        ({**good, "latent": np.zeros((2, 3), np.float32)}, None, "field 'latent': shape"),
        ({**good, "image": np.zeros((2, 2, 3), np.float32)}, None, "field 'image': float32 cannot be stored as uint8"),
        (good, np.array([1, 1]), "a stream occurs twice"),
        (good, np.array([1]), "shape"),
    ]
    for step, streams, message in wrong:
        with pytest.raises(ValueError, match=message):
            replay.add(step, streams)
    assert len(replay) == 0
    with pytest.raises(ValueError, match="context fields"):
        Replay(FIELDS, 2, 20, 3, context_fields=("deter",))


def test_positions_outlive_wrapping() -> None:
    replay, model = make(streams=1, slots=5, length=2)
    for _ in range(1003):
        add(replay, model)
    sample = replay.sample(1, 20)
    assert sample.position.step.min() >= 1003 - 5 + 1
    check_content(sample, model)
    old = Positions(np.zeros((1, 1), np.int64), np.zeros((1, 1), np.int64))
    replay.refresh(old, {"latent": np.full((1, 2, 1, 4), -7.0, np.float32)})
    check_content(replay.sample(1, 20), model)
