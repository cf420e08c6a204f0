"""A small disk, which another file fills at a random moment: one line, and with space again the same run."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trials

from dreamerjax.core.errors import UserError
from experiments.reliability.trial import LONGER, complaint, numbered, reference, runs, same

SIZE = "24m"
SPAN = 5.0  # seconds within which it is full, from when the run holds its lock


def cases(folder: Path, first: int) -> Iterator[tuple[str, str]]:
    """Each case has a disk of its own."""
    whole = reference(folder, "sync")
    for number in numbered(first):
        with small_disk(folder / f"disk{number}") as disk:
            yield play(disk, whole, random.Random(number))


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A tmpfs, which takes the right to mount one."""
    path.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", path], capture_output=True, text=True)
    if mounted.returncode:
        raise UserError(f"the part `disk` mounts a tmpfs, for which it needs root: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)
        path.rmdir()


def play(disk: Path, whole: Path, draw: random.Random) -> tuple[str, str]:
    """Fill the disk while the run is at work; then make space and resume."""
    root, wait, left = disk / "runs", draw.uniform(0, SPAN), draw.choice([0, 0, 4_096, 40_000])
    case = f"full after {wait:.2f} s, {left} bytes left"
    with trials.running("train", *LONGER, f"run.root={root}", cwd=disk.parent) as process:
        trials.wait_until(lambda: runs(root) or process.poll() is not None)
        time.sleep(wait)
        fill(disk / "filler", left)
        _, err = process.communicate(timeout=trials.PATIENCE)
    full = process.returncode != 0
    (disk / "filler").unlink()
    if full and (wrong := complaint(process.returncode, err)):
        return case, f"BROKEN: {wrong}"
    if full:
        done = trials.run_command("train", f"resume={runs(root)[0]}", cwd=disk.parent)
        if done.returncode:
            return case, f"BROKEN: it does not go on: {done.stderr.strip()[-200:]}"
    if differs := same(runs(root)[0], whole):
        return case, f"BROKEN: {differs}"
    return case, "one line, and resumed: the same run to the last bit" if full else "it had ended before it wrote anything more"


def fill(file: Path, left: int) -> None:
    """Write until there is no space, then give so many bytes back."""
    with file.open("wb", buffering=0) as stream:
        block = bytes(4_096)
        try:
            while True:
                stream.write(block)
        except OSError:
            os.truncate(file, max(0, file.stat().st_size - left))
