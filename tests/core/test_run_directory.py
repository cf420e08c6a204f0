"""Run directories: what they hold, how they are found, and that one process at a time trains in one."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from dreamerjax.core.errors import UserError
from dreamerjax.core.files import plain, write_json, write_text
from dreamerjax.core.run_directory import RunDirectory, collect_meta, find_run, git_state

META = {"hypothesis": "it learns", "seed": 3}


def create(root: Path, name: str = "cartpole") -> RunDirectory:
    """A run under `root`."""
    return RunDirectory.create(root, name, "train:\n  seed: 3\n", META)


def test_new_run_holds_what_the_layout_says(tmp_path: Path) -> None:
    run = create(tmp_path / "some" / "runs")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d{6}_cartpole", run.path.name)
    assert run.config_path.read_text() == "train:\n  seed: 3\n"
    assert run.meta == {"kind": "dreamerjax run", "name": "cartpole", **META}
    assert run.checkpoints.is_dir()
    assert run.media.is_dir()
    assert not run.summary.exists()
    write_json(run.summary, {"outcome": "failed", "return": float("nan"), "steps": np.int64(5)})
    assert json.loads(run.summary.read_text()) == {"outcome": "failed", "return": "NaN", "steps": 5}
    run.close()
    run.close()


def test_runs_of_the_same_second_are_different(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [create(tmp_path).path for _ in range(5)]
    assert len(set(paths)) == 5
    assert len({path.name[:17] for path in paths}) < 5  # else the test is too slow to test anything
    assert find_run("latest", tmp_path) == paths[-1]


@pytest.mark.parametrize(("name", "expected"), [("../x y/ä", "..-x-y"), ("", "run"), ("a.b-c_1", "a.b-c_1"), ("///", "run")])
def test_any_name_makes_one_directory(name: str, expected: str, tmp_path: Path) -> None:
    run = create(tmp_path, name)
    assert run.path.parent == tmp_path
    assert run.path.name[18:] == expected


def test_runs_are_found_by_path_id_and_latest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "runs"
    run = create(root)
    monkeypatch.chdir(tmp_path)
    for name in (run.path, f"runs/{run.path.name}", run.path.name, "latest"):
        assert find_run(name).resolve() == run.path
        assert RunDirectory.open(name).meta["seed"] == 3
    newer = root / "9999-01-01_000000_newer"
    newer.mkdir()
    assert find_run("latest", root) == run.path  # a directory that is not a run is not the latest run
    for name in ("config.yaml", "meta.json"):
        (newer / name).write_text((run.path / name).read_text())
    assert find_run("latest", root) == newer
    with pytest.raises(UserError, match="did you mean 9999-01-01_000000_newer"):
        find_run("newer", root)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: None, r"no run at \S*theirs: give a run directory"),
        (lambda path: path.write_text("a file"), r"no run at \S*theirs: "),
        (lambda path: path.mkdir(), r"theirs is not a dreamerjax run"),
        (lambda path: _foreign(path, "[]"), r"theirs is not a dreamerjax run"),
        (lambda path: _foreign(path, '{"kind": "another"}'), r"theirs is not a dreamerjax run"),
        (lambda path: _foreign(path, '{"kind": "dreamer'), r"theirs is not a dreamerjax run"),
    ],
)
def test_missing_and_foreign_directories_are_refused(prepare: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    prepare(tmp_path / "theirs")
    with pytest.raises(UserError, match=message) as caught:
        RunDirectory.open(tmp_path / "theirs", lock=True)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def _foreign(path: Path, meta: str) -> None:
    path.mkdir()
    (path / "config.yaml").write_text("a: 1\n")
    (path / "meta.json").write_text(meta)


def test_an_agent_of_the_zoo_is_copied_to_where_runs_are(tmp_path: Path) -> None:
    for _ in range(2):  # the second time it is there
        assert find_run("zoo:reacher_easy", tmp_path) == tmp_path / "zoo_reacher_easy"
    with pytest.raises(UserError, match=r"zoo:nope: no such agent; there are .*zoo:reacher_easy"):
        find_run("zoo:nope", tmp_path)
    with pytest.raises(UserError, match="no such agent"):
        find_run("zoo:../zoo/reacher_easy", tmp_path)


def test_no_latest_run_is_one_line(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UserError, match=re.escape(f"no run under {root}/")):
            find_run("latest", root)


def test_a_second_trainer_is_refused_and_a_reader_is_not(tmp_path: Path) -> None:
    run = create(tmp_path)
    with pytest.raises(UserError, match=rf"is being trained by another process \(pid {os.getpid()}\)") as caught:
        RunDirectory.open(run.path, lock=True)
    assert caught.value.exit_code == 1
    reader = RunDirectory.open(run.path)
    assert reader.in_training()
    run.close()
    assert not reader.in_training()
    RunDirectory.open(run.path, lock=True).close()


HOLDER = """
import sys, time
from dreamerjax.core.run_directory import RunDirectory
run = RunDirectory.open(sys.argv[1], lock=True)
print("locked", flush=True)
time.sleep(60)
"""


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    run = create(tmp_path)
    run.close()
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(run.path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(UserError, match=rf"pid {holder.pid}\)"):
            run.lock()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    run.lock()
    run.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning", "ignore:.*fork:RuntimeWarning")
def test_a_forked_environment_process_does_not_keep_the_lock(tmp_path: Path) -> None:
    run = create(tmp_path)
    orphan = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    orphan.start()
    try:
        run.close()
        RunDirectory.open(run.path, lock=True).close()
    finally:
        orphan.kill()
        orphan.join()


def test_unwritable_places_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for root in (tmp_path / "file", tmp_path / "file" / "runs", Path("/proc/runs")):
        with pytest.raises(UserError, match=re.escape(f"cannot write {root}/")) as caught:
            create(root)
        assert caught.value.exit_code == 1


def test_full_disk_is_one_line_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_json(path, {"outcome": "old"})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(UserError, match=re.escape(f"cannot write {path}: File too large")):
            write_text(path, "x" * 100_000)
        with pytest.raises(UserError, match="cannot write"):
            RunDirectory.create(tmp_path, "x", "x" * 100_000, META)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert json.loads(path.read_text()) == {"outcome": "old"}
    assert not list(tmp_path.glob(".*.tmp"))


def test_meta_tells_how_to_run_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "dreamerjax.train", "env.id=a b"])
    meta = collect_meta(
        hypothesis="it learns",
        primary_metric="eval/greedy/return_mean",
        family={"obs": [4]},
        devices=["cpu:0", "cpu:1"],
        seed=7,
    )
    assert meta["command"] == "python -m dreamerjax.train 'env.id=a b'"
    assert meta["family"] == {"obs": [4]}
    assert meta["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"jax", "flax", "numpy", "gymnasium", "dreamerjax"} <= meta["versions"].keys()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", meta["started"])
    assert meta["cpus"] == os.cpu_count()
    json.dumps(meta, allow_nan=False)


def test_git_state_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert git_state(tmp_path) == (None, None)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    (tmp_path / "inside").mkdir()
    (tmp_path / "file").write_text("1")
    for command in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "m"]):
        subprocess.run([*git, *command], check=True)
    commit, dirty = git_state(tmp_path)
    assert commit is not None
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert dirty is False
    assert git_state(tmp_path / "inside") == (None, None)  # a package installed somewhere below another checkout
    (tmp_path / "file").write_text("2")
    assert git_state(tmp_path) == (commit, True)
    monkeypatch.setenv("PATH", "")
    assert git_state(tmp_path) == (None, None)


def test_plain_makes_valid_json() -> None:
    class Mode(Enum):
        fast = "fast"

    value = {
        1: np.float32(0.5),
        "a": (np.arange(2), jnp.ones(())),
        "inf": [float("inf"), -float("inf")],
        "p": Path("x"),
    }
    assert plain(value) == {"1": 0.5, "a": [[0, 1], 1.0], "inf": ["Infinity", "-Infinity"], "p": "x"}
    assert plain({"none": None, "flag": True, "mode": Mode.fast.value}) == {"none": None, "flag": True, "mode": "fast"}


def test_the_latest_run_is_the_one_that_was_made_last_whatever_the_time_zone(tmp_path: Path) -> None:
    for name, started in (
        ("2026-03-01_130000_east", "2026-03-01T13:00:00+09:00"),
        ("2026-03-01_090000_west", "2026-03-01T09:00:00-05:00"),
        ("2026-03-01_120000_utc", "2026-03-01T12:00:00+00:00"),
    ):
        (tmp_path / name).mkdir()
        write_text(tmp_path / name / "config.yaml", "")
        write_json(tmp_path / name / "meta.json", {"kind": "dreamerjax run", "started": started})
    assert find_run("latest", tmp_path).name == "2026-03-01_090000_west"


@pytest.mark.parametrize("started", [None, 3, "yesterday"])
def test_a_damaged_date_is_no_obstacle(started: Any, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    write_text(tmp_path / "run" / "config.yaml", "")
    write_json(tmp_path / "run" / "meta.json", {"kind": "dreamerjax run", "started": started})
    assert find_run("latest", tmp_path).name == "run"


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    run = create(Path("~/runs"))
    assert run.path.parent == tmp_path / "runs"
    assert find_run("latest", "~/runs") == find_run(f"~/runs/{run.path.name}") == run.path
    assert not Path("~").exists()


def test_a_home_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="~nobody-of-this-name"):
        find_run("latest", "~nobody-of-this-name/runs")
