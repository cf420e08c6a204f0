"""Checkpoints: bit-exact round trips, damage, kill -9 in the middle of a save, a full disk."""

from __future__ import annotations

import gc
import logging
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dreamerjax.core.errors import UserError
from dreamerjax.storage import checkpoints
from dreamerjax.storage.checkpoints import CheckpointStore, saved_in
from dreamerjax.storage.leaves import CHUNK, DamagedError, flatten, pack, unflatten, unpack

DTYPES = st.sampled_from([np.float32, np.float64, np.float16, np.uint8, np.int32, np.int64, np.uint64, np.bool_])
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)))
UNTIMED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TREES = st.dictionaries(st.text(), st.recursive(ARRAYS, lambda inner: st.dictionaries(st.text(), inner), max_leaves=8))


def small_state(seed: int) -> dict[str, Any]:
    """A state that differs from seed to seed in every leaf."""
    generator = np.random.default_rng(seed)
    kernel = generator.normal(size=(50, 3)).astype(np.float32)
    return {"params": {"kernel": kernel, "bias": kernel[0]}, "updates": np.int64(seed)}


def assert_same(expected: dict[str, Any], actual: dict[str, Any]) -> None:
    """Same keys, dtypes, shapes and bytes."""
    first, second = flatten(expected), flatten(actual)
    assert first.keys() == second.keys()
    for path, leaf in first.items():
        other = second[path]
        if leaf is None or other is None:
            assert leaf is other
            continue
        assert (leaf.dtype, leaf.shape, leaf.tobytes()) == (other.dtype, other.shape, other.tobytes()), path


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Lets no file grow beyond `size` bytes: a disk that is full, for an unprivileged process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@UNTIMED
@given(tree=TREES)
def test_leaves_round_trip(tree: dict[str, Any]) -> None:
    assert_same(tree, unflatten(unpack(*pack(flatten(tree)))))


@UNTIMED
@given(array=ARRAYS.filter(lambda array: array.size > 0), data=st.data())
def test_any_flipped_bit_is_noticed(array: np.ndarray, data: st.DataObject) -> None:
    entries, content = pack(flatten({"a": array}))
    bit = data.draw(st.integers(0, 8 * array.nbytes - 1))
    content[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DamagedError, match="checksum of array a"):
        unpack(entries, content)


@pytest.mark.parametrize("length", [0, 1, CHUNK, CHUNK + 31])
def test_missing_bytes_are_noticed(length: int) -> None:
    entries, content = pack(flatten({"a": np.zeros(2, np.float32), "b": np.ones(CHUNK // 4 - 4, np.float32), "c": np.ones(4)}))
    assert len(content) == 2 * CHUNK
    with pytest.raises(DamagedError, match="checksum of array"):
        unpack(entries, content[:length])


@pytest.mark.parametrize("tree", [{1: np.zeros(1)}, {"a": {"b": "text"}}, {"a": [1, 2]}, {"a": np.array(["x"])}])
def test_what_is_no_array_is_refused(tree: dict[Any, Any]) -> None:
    with pytest.raises(TypeError, match="of a checkpoint"):
        flatten(tree)


def test_everything_comes_back_bit_exact(tmp_path: Path) -> None:
    sharding = jax.sharding.NamedSharding(jax.make_mesh((2,), ("device",)), jax.sharding.PartitionSpec("device"))
    state = {
        "params": {"layer.0": {"kernel": jnp.ones((3, 2)), "a/b": jnp.ones(3, jnp.bfloat16)}, "none": {}},
        "two devices": jax.device_put(jnp.arange(8.0), sharding),
        "key": jax.random.key_data(jax.random.key(3)),
        "number": 2,
        "float": 0.1,
        "flag": True,
        "zero-dimensional": np.float32(7),
        "empty": np.zeros((0, 3), np.uint8),
        "minus zero": np.full((4, 4), -0.0, np.float32),
        "not finite": np.array([np.nan, np.inf, -np.inf], np.float32),
        "column order": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "view": np.arange(36)[::5],
        "": np.array(2**64 - 1, np.uint64),
    }
    replay = {"obs": np.arange(24, dtype=np.uint8).reshape(2, 3, 4), "reward": np.zeros(0, np.float32)}
    info = {"generator": {"state": 2**127 + 3, "fraction": 1.1e-300}, "history": [1, None, "é"]}
    store = CheckpointStore(tmp_path, keep=2)
    store.save(5, state, replay, info)
    restored = store.restore()
    assert_same(state, restored.arrays)
    assert restored.replay is not None
    assert_same(replay, restored.replay)
    assert (restored.step, restored.info) == (5, info)
    assert store.restore(with_replay=False).replay is None
    store.save(6, {}, None, {})
    restored = store.restore()
    assert (restored.step, restored.arrays, restored.replay, restored.info) == (6, {}, None, {})
    store.close()


def test_arrays_may_change_as_soon_as_save_returns(tmp_path: Path) -> None:
    replay = {f"stream {index}": np.full(1_000_000, index, np.float32) for index in range(4)}
    weights = jnp.ones(100_000)
    store = CheckpointStore(tmp_path, keep=1)
    store.save(1, {"weights": weights}, replay, {})
    for array in replay.values():
        array[:] = -1
    weights = jax.jit(lambda value: value - 5, donate_argnums=0)(weights)
    restored = store.restore()
    store.close()
    assert restored.replay is not None
    assert all((restored.replay[f"stream {index}"] == index).all() for index in range(4))
    assert (restored.arrays["weights"] == 1).all()


def test_newest_are_kept_and_found_by_step(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "latest", keep=2)
    assert (store.steps(), store.latest_step()) == ([], None)
    with pytest.raises(UserError, match=r"no checkpoint in .*latest; there are none"):
        store.restore()
    for step in (10, 20, 30):
        store.save(step, small_state(step), None, {})
    assert (store.steps(), store.latest_step()) == ([20, 30], 30)
    assert_same(small_state(20), store.restore(20).arrays)
    with pytest.raises(UserError, match=r"no checkpoint of step 10 in .*there are \[20, 30\]"):
        store.restore(10)
    store.save(20, small_state(99), None, {})  # a run that went back to 20
    assert (store.steps(), store.latest_step()) == ([20, 30], 20)
    assert_same(small_state(99), store.restore().arrays)
    store.close()
    store.close()


def test_orbax_alone_opens_a_checkpoint(tmp_path: Path) -> None:
    """As the docstring of `storage.checkpoints` describes the layout."""
    ocp = import_module("orbax.checkpoint")
    state = small_state(1)
    store = CheckpointStore(tmp_path, keep=1)
    store.save(1, state, {"obs": np.arange(CHUNK)}, {"seed": 7})
    store.close()
    with ocp.PyTreeCheckpointer() as arrays, ocp.Checkpointer(ocp.JsonCheckpointHandler()) as json:
        info = json.restore(tmp_path / "save_000001" / "info")
        content = {item: arrays.restore(tmp_path / "save_000001" / item)["bytes"] for item in info["leaves"]}
    assert (info["step"], info["info"]) == (1, {"seed": 7})
    read = {
        "/".join(leaf["path"]): np.frombuffer(content[item], leaf["dtype"], math.prod(leaf["shape"]), leaf["start"]).reshape(
            leaf["shape"]
        )
        for item, leaves in info["leaves"].items()
        for leaf in leaves
    }
    assert read.keys() == {"params/kernel", "params/bias", "updates", "obs"}
    np.testing.assert_array_equal(read["params/kernel"], state["params"]["kernel"])
    np.testing.assert_array_equal(read["obs"], np.arange(CHUNK))


ORBAX_ALONE = """
import os, pathlib, resource, sys
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

logging.set_verbosity(logging.FATAL)
root, arrays = pathlib.Path(sys.argv[1]), {str(index): np.random.default_rng(index).normal(size=15_000) for index in range(150)}
checkpointer = ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler())
if sys.argv[2] == "write":
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
try:
    checkpointer.save(root / "arrays", args=ocp.args.PyTreeSave(arrays))
    checkpointer.wait_until_finished()
    largest = max((root / "arrays").rglob("*"), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    checkpointer.restore(root / "arrays")
except ValueError:
    sys.exit(3)
"""


@pytest.mark.parametrize("fault", ["read", "write"])
def test_orbax_still_abandons_arrays_when_one_fails(fault: str, tmp_path: Path) -> None:
    """The fault of orbax for which an item is one array. Once it is mended, a leaf may be an array of its own."""
    for attempt in range(5):  # a matter of timing
        command = [sys.executable, "-c", ORBAX_ALONE, str(tmp_path / str(attempt)), fault]
        (tmp_path / str(attempt)).mkdir()
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        assert process.returncode == 3
        if "Event loop is closed" in process.stderr:
            return
    pytest.fail("orbax prints nothing any more: this workaround may go")


def test_no_thread_is_left_and_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """But for the workers of Orbax's one event loop, of which a busy machine gets a second one at any time."""

    def threads() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}

    before = threads()
    store = CheckpointStore(tmp_path, keep=1)
    store.save(1, small_state(1), None, {})
    store.restore()
    store.close()
    assert threads() <= before
    assert capfd.readouterr() == ("", "")


DAMAGES = {
    "one bit": lambda content: bytes([content[0] ^ 4]) + content[1:],
    "bit in the middle": lambda content: (
        content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]
    ),
    "half": lambda content: content[: len(content) // 2],
    "nothing": lambda content: b"",
    "gone": lambda content: None,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_to_any_file_never_gives_wrong_content(damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Damage that does not touch the content is harmless; any other is named, and the checkpoint before is used."""
    original = tmp_path / "original"
    store = CheckpointStore(original, keep=2)
    for step in (1, 2):
        store.save(step, small_state(step), {"obs": np.arange(1000) + step}, {"saved": step})
    store.close()
    steps = set()
    for file in [path.relative_to(original) for path in (original / "save_000002").rglob("*") if path.is_file()]:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(original, copy)
        content = DAMAGES[damage]((copy / file).read_bytes())
        (copy / file).unlink() if content is None else (copy / file).write_bytes(content)
        caplog.clear()
        restored = CheckpointStore(copy, keep=2).restore()
        assert_same(small_state(restored.step), restored.arrays)
        assert restored.replay is not None
        np.testing.assert_array_equal(restored.replay["obs"], np.arange(1000) + restored.step)
        assert restored.info == {"saved": restored.step}
        assert (restored.step == 1) == ("save_000002 is damaged and not used" in caplog.text)
        steps.add((file.parts[1], restored.step))
    assert {("state", 1), ("replay", 1), ("info", 1)} <= steps


def test_damaged_checkpoint_is_removed_by_the_next_save(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for step in (1, 2):
        store.save(step, {f"{index}": np.random.default_rng(index).normal(size=5000) for index in range(50)}, None, {})
    store.close()
    largest = max((tmp_path / "save_000002" / "state").rglob("*"), key=lambda path: path.stat().st_size)
    os.truncate(largest, largest.stat().st_size // 2)
    capfd.readouterr()
    store = CheckpointStore(tmp_path, keep=2)
    assert store.restore().step == 1
    assert "Traceback" not in capfd.readouterr().err
    store.save(2, small_state(2), None, {})
    assert store.steps() == [1, 2]
    assert_same(small_state(2), store.restore().arrays)
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["save_000001", "save_000003"]


def test_nothing_undamaged_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for step in (1, 2):
        store.save(step, small_state(step), None, {})
    store.close()
    for number in (1, 2):
        (tmp_path / f"save_00000{number}" / "info" / "metadata").write_text("{}")
    with caplog.at_level(logging.ERROR), pytest.raises(UserError, match=r"save_000002, .*save_000001") as caught:
        CheckpointStore(tmp_path, keep=2).restore()
    assert caught.value.exit_code == 1


def test_another_layout_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """It is not damaged, and nothing older is taken in its place."""
    store = CheckpointStore(tmp_path, keep=2)
    store.save(1, {"a": np.ones(3)}, None, {})
    monkeypatch.setattr(checkpoints, "LAYOUT", checkpoints.LAYOUT + 1)
    with pytest.raises(UserError, match=r"save_000001 was written by another version of dreamerjax"):
        store.restore()
    assert caplog.text == ""
    store.close()


def test_full_disk_is_one_line_and_spares_the_earlier(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    noise = {f"{index}": np.random.default_rng(index).normal(size=5000) for index in range(100)}
    before = set(threading.enumerate())
    store = CheckpointStore(tmp_path, keep=1)
    store.save(1, small_state(1), None, {})
    store.wait()
    with file_size_limit(1_000_000), pytest.raises(UserError) as caught:  # noqa: PT012
        store.save(2, noise, None, {})
        store.wait()
    assert str(caught.value) == f"cannot write a checkpoint in {tmp_path}: File too large"
    assert caught.value.exit_code == 1
    del caught  # the error's frames keep the event loop's executor alive, and that its thread
    deadline = time.monotonic() + 10
    while gc.collect() >= 0 and not set(threading.enumerate()) <= before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(threading.enumerate()) <= before
    assert capfd.readouterr() == ("", "")
    assert_same(small_state(1), store.restore().arrays)
    store.save(2, noise, None, {})
    store.close()
    assert_same(noise, store.restore().arrays)
    assert [path.name for path in tmp_path.iterdir()] == ["save_000002"]


def test_unwritable_directory_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write a checkpoint in .*file/latest"):
        CheckpointStore(tmp_path / "file" / "latest", keep=1).save(1, small_state(1), None, {})


SAVER = """
import sys
import numpy as np
from dreamerjax.storage.checkpoints import CheckpointStore

store = CheckpointStore(sys.argv[1], keep=2)
start = (store.latest_step() or 0) + 1
for step in range(start, start + 1000):
    replay = {"obs": np.random.default_rng(step).normal(size=2_000_000)}
    store.save(step, {"step": step}, replay, {"sum": float(replay["obs"].sum())})
    print(step, flush=True)
"""


def test_killed_in_the_middle_of_a_save(tmp_path: Path) -> None:
    directory = tmp_path / "latest"
    for _ in range(2):
        command = [sys.executable, "-c", SAVER, str(directory)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            first, second = int(process.stdout.readline()), int(process.stdout.readline())
            assert second == first + 1  # so `first` is on disk
            deadline = time.monotonic() + 10
            while not list(directory.glob("*tmp*")) and time.monotonic() < deadline:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
            assert process.stderr.read() == ""
        assert list(directory.glob("*tmp*"))
        restored = CheckpointStore(directory, keep=2).restore()
        assert restored.step >= first
        assert restored.arrays["step"] == restored.step
        assert restored.replay is not None
        assert restored.replay["obs"].sum() == restored.info["sum"]
    store = CheckpointStore(directory, keep=2)
    store.save(10_000, small_state(1), None, {})
    store.close()
    assert store.latest_step() == 10_000
    assert not list(directory.glob("*tmp*"))


def test_checkpoints_are_listed_in_the_order_of_saving(tmp_path: Path) -> None:
    assert saved_in(tmp_path / "missing") == []
    for name in ("save_1000000", "save_999999", "save_000002", "save_12", "save_000003.tmp", "other"):
        (tmp_path / name).mkdir()
    assert [path.name for path in saved_in(tmp_path)] == ["save_000002", "save_999999", "save_1000000"]


@pytest.mark.parametrize("removed", ["save_000001", "save_000002", "."])
def test_checkpoints_that_somebody_removes_are_no_obstacle(removed: str, tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "latest", keep=2)
    for step in (1, 2):
        store.save(step, small_state(step), None, {})
    store.wait()
    shutil.rmtree(tmp_path / "latest" / removed)
    for step in (3, 4, 5):
        store.save(step, small_state(step), None, {})
    store.close()
    assert store.steps() == [4, 5]
    assert store.restore().step == 5
