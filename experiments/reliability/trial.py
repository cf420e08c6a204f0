"""What the parts share: the tests' tiny runs, a little longer, and what a process has to say when it ends badly."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import trials

from dreamerjax.core.files import read_json_object

# Some ten seconds: twenty checkpoints, six evaluations with their films, 275 updates.
LONGER = (
    *trials.TINY,
    trials.TRIAL,
    *["train.steps=1200", "train.random_steps=100", "train.eval_every=200", "train.checkpoint_every=60", "parallel.devices=1"],
)


BY_SIGNAL = 128  # exit codes above it


def reference(folder: Path, name: str, *overrides: str) -> Path:
    """A run that nothing interrupts, made once."""
    root = folder / f"reference_{name}"
    if root.exists() and not (found := runs(root)):
        shutil.rmtree(root)
    found = runs(root)
    if not (found and read_json_object(found[0] / "summary.json").get("outcome") == "finished"):
        shutil.rmtree(root, ignore_errors=True)
        done = trials.run_command("train", *LONGER, f"run.root={root}", *overrides, cwd=folder)
        assert done.returncode == 0, done.stderr
        found = runs(root)
    return found[0]


def runs(root: Path) -> list[Path]:
    """The runs below a root, oldest first."""
    return sorted(path for path in root.glob("*/") if read_json_object(path / "meta.json")) if root.exists() else []


def same(run: Path, other: Path) -> str:
    """Empty where two runs logged the same and ended in the same state, bit for bit; else the first difference."""
    try:
        trials.assert_same_run(run, other)
    except AssertionError as error:
        return f"differs: {' '.join(str(error).split())[:200] or 'metrics'}"
    return ""


def complaint(code: int, err: str) -> str:
    """Empty where a process ended as it should with bad input: not with 0, one line that begins with `error:`, no traceback."""
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    if "Traceback" in err:
        return f"traceback: {err.strip().splitlines()[-1][:200]}"
    if code == 0:
        return "exit code 0"
    return "" if len(lines) == 1 else f"{len(lines)} lines of error: {err.strip()[-200:]!r}"


def in_process(command: Callable[[list[str]], Any], arguments: list[str]) -> tuple[int, str, str]:
    """A command in this process: exit code, what it printed, what it complained; a traceback if it raised."""
    out, err = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(err)
    logging.getLogger().addHandler(handler)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = int(command(arguments) or 0)
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 1
            except Exception as error:  # what the depths raised is the finding
                return 1, out.getvalue(), f"{err.getvalue()}\nTraceback: {type(error).__name__}: {error}"
    finally:
        logging.getLogger().removeHandler(handler)
    if code > BY_SIGNAL:  # a signal to this process, which the training in it took for its own
        raise KeyboardInterrupt
    return code, out.getvalue(), err.getvalue()


def numbered(first: int) -> Iterator[int]:
    """Numbers of cases from `first` on."""
    while True:
        yield first
        first += 1
