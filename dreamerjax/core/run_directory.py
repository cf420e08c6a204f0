"""The run directory `<root>/<YYYY-MM-DD>_<HHMMSS>_<name>/`: what it holds, who may write to it, how it is found."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dreamerjax.core.errors import UserError
from dreamerjax.core.files import file_faults, read_json_object, sound, user_path, write_json, write_text

KIND = "dreamerjax run"  # meta.json's `kind`: tells a run from any other directory
ZOO = "zoo:"  # before the name of an agent that comes with the package
_ZOO = Path(__file__).resolve().parent.parent / "zoo"
META = {"git": dict, "versions": dict, "family": dict, "source": dict, "devices": [str], "changes": [dict], "processes": int}
SUMMARY = {"env_steps": int, "updates": int, "seconds": int | float, "findings": [dict], "advice": [dict]}
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "gymnasium", "orbax-checkpoint", "dreamerjax")


def git_state(checkout: Path, *paths: str) -> tuple[str | None, bool | None]:
    """(commit, whether anything is uncommitted) of the git checkout with its top at `checkout`; else (None, None).

    With paths: the newest commit that changed any of them, and whether anything of them is uncommitted.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(checkout), *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10, env=environment)
        return result.stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != checkout.resolve():
            return None, None
        return git("rev-list", "-1", "HEAD", "--", *paths) or None, bool(git("status", "--porcelain", "--", *paths))
    except (OSError, subprocess.SubprocessError):
        return None, None


def package_versions() -> dict[str, str | None]:
    """Installed version of Python and of every package that decides what a run computes; None where it is absent."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        versions[package] = None
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def collect_meta(
    *,
    hypothesis: str,
    primary_metric: str,
    family: Any,
    devices: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    """The content of meta.json: what the run asks, and all that is needed to run it again.

    `family` is the JSON-able fingerprint of what fixes the model; `devices` has one description of each.
    """
    commit, dirty = git_state(Path(__file__).resolve().parents[2])
    return {
        "hypothesis": hypothesis,
        "primary_metric": primary_metric,
        "family": family,
        "seed": seed,
        "command": shlex.join(sys.orig_argv),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "git": {"commit": commit, "dirty": dirty},
        "versions": package_versions(),
        "platform": platform.platform(),
        "devices": list(devices),
        "cpus": os.cpu_count(),
    }


class RunDirectory:
    """One run's directory. A trainer holds its lock, a reader does not.

    Layout: config.yaml, meta.json, metrics.jsonl, TensorBoard events, checkpoints/, media/, summary.json.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_path = path / "config.yaml"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.media = path / "media"
        self.summary = path / "summary.json"
        self._lock = FileLock(path / ".lock", thread_local=False)

    @classmethod
    def create(cls, root: str | Path, name: str, config_yaml: str, meta: dict[str, Any]) -> RunDirectory:
        """Makes a new run directory under `root` and locks it; two started in the same second get different ones.

        Raises UserError: the directory or a file in it cannot be written; exit code 1.
        """
        stem = f"{datetime.now():%Y-%m-%d_%H%M%S}_{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('-') or 'run'}"
        path = user_path(root) / stem
        with file_faults(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path = _make_unique(path)
        run = cls(path.absolute())  # an environment may change the current folder
        run.lock()
        with file_faults(path):
            run.checkpoints.mkdir()
            run.media.mkdir()
        write_text(run.config_path, config_yaml)
        write_json(path / "meta.json", {"kind": KIND, "name": name, **meta})  # last: it makes the directory a run
        return run

    @classmethod
    def open(cls, path: str | Path, *, root: str | Path = "runs", lock: bool = False) -> RunDirectory:
        """Opens an existing run: a path, a run's id under `root`, or `latest`, the newest run under `root`.

        Raises UserError: there is no such directory, it is not a run, something in it leads out of it, or (with `lock`) another
        process trains in it.
        """
        found = find_run(path, root)
        run = cls(found.absolute() if lock else found)
        for entry in run.path.iterdir():
            if not entry.resolve().is_relative_to(run.path.resolve()):
                raise UserError(f"run {run.path}: {entry.name} is a link that leads out of it, to {entry.resolve()}")
        if lock:
            run.lock()
        return run

    @property
    def meta(self) -> dict[str, Any]:
        """The content of meta.json, as far as it is sound."""
        return sound(read_json_object(self.path / "meta.json"), META)

    def record_changes(self, changes: list[dict[str, Any]]) -> None:
        """Appends to what meta.json says of settings that were changed on a resume, under `changes`.

        Raises UserError if it cannot be written; exit code 1.
        """
        file, before = self.path / "meta.json", self.meta.get("changes", [])
        write_json(file, {**read_json_object(file), "changes": [*before, *changes]})

    def lock(self) -> None:
        """Claims the run for this process until `close` or the process's end, however it ends.

        Raises UserError: another process holds it.
        """
        holder = self.path / ".lock.pid"
        with file_faults(self.path):
            try:
                self._lock.acquire(blocking=False)
            except Timeout:
                raise UserError(f"run {self.path} is being trained by another process{_pid(holder)}", exit_code=1) from None
        write_text(holder, f"{os.getpid()}\n")

    def in_training(self) -> bool:
        """Whether another process trains in it now: the lock is held for an instant; False where that is not allowed."""
        try:
            with self._lock.acquire(blocking=False):
                return False
        except Timeout:
            return True
        except OSError:
            return False

    def close(self) -> None:
        """Gives the lock back. Harmless when repeated."""
        self._lock.release()


def read_summary(run: Path) -> dict[str, Any]:
    """The content of a run's summary.json, as far as it is sound; empty where there is none."""
    return sound(read_json_object(run / "summary.json"), SUMMARY)


def find_run(path: str | Path, root: str | Path = "runs") -> Path:
    """The directory of a run named by path, by its id under `root`, as `latest`, or as `zoo:NAME`.

    Raises UserError: nothing is there, or what is there is not a run.
    """
    if str(path) == "latest":
        return _latest(user_path(root))
    if str(path).startswith(ZOO):
        return _from_zoo(str(path).removeprefix(ZOO), user_path(root))
    candidates = [user_path(path), user_path(root) / path]
    found = next((candidate for candidate in candidates if os.path.isdir(candidate)), None)  # where nobody may look, or can
    if found is None:
        named = sorted(run.name for run in candidates[1].parent.glob("*") if run.name.endswith(f"_{path}"))
        meant = f"; did you mean {named[-1]}?" if named else ""
        raise UserError(f"no run at {path}: give a run directory, its name under {root}/, or latest{meant}")
    if not is_run(found):
        raise UserError(f"{found} is not a dreamerjax run: it has no config.yaml and meta.json written by one")
    return found


def _from_zoo(name: str, root: Path) -> Path:
    """A trained agent that comes with the package, copied to below `root`, where what is learned of it may be written."""
    names = sorted(agent.name for agent in _ZOO.iterdir() if is_run(agent))
    if name not in names:
        raise UserError(f"{ZOO}{name}: no such agent; there are {', '.join(f'{ZOO}{known}' for known in names)}")
    copy = root / f"zoo_{name}"
    if not is_run(copy):
        with file_faults(copy):
            shutil.copytree(_ZOO / name, copy, dirs_exist_ok=True)
    return copy


def run_around(file: Path) -> Path | None:
    """The run that a file lies in, however deep; None if it lies in none."""
    return next((folder for folder in file.absolute().parents if is_run(folder)), None)


def _latest(root: Path) -> Path:
    runs = [path for path in root.iterdir() if path.is_dir() and is_run(path)] if root.is_dir() else []
    if not runs:
        raise UserError(f"no run under {root}/, so there is no latest one")
    return max(runs, key=_created)


def _created(run: Path) -> tuple[float, int]:
    """When it was made, for order: whatever the time zone was that its name is written in."""
    changed = (run / "meta.json").stat().st_mtime_ns
    try:
        return datetime.fromisoformat(read_json_object(run / "meta.json")["started"]).timestamp(), changed
    except (KeyError, TypeError, ValueError):
        return changed / 1e9, changed


def is_run(path: Path) -> bool:
    """Whether a directory is that of a run."""
    return read_json_object(path / "meta.json").get("kind") == KIND and (path / "config.yaml").is_file()


def _make_unique(path: Path) -> Path:
    for count in range(1, 1000):
        unique = path if count == 1 else path.with_name(f"{path.name}_{count}")
        with suppress(FileExistsError):
            unique.mkdir()
            return unique
    raise FileExistsError(f"{path} and 998 names like it exist already")


def _pid(holder: Path) -> str:
    try:
        return f" (pid {int(holder.read_text(encoding='utf-8'))})"
    except (OSError, ValueError):
        return ""
