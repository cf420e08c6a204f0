"""Every file of a run, in turn: cut, flipped in one bit, deleted, replaced by another run's. Then the run is resumed,
reported on and compared.

A damage is met when the run goes on to the same end, bit for bit (from the checkpoint before, or because nothing depends on the
file), or when one line says what is wrong: as a refusal, or as a warning.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import trials

from dreamerjax import train
from dreamerjax.compare import main as compare
from dreamerjax.config.cli import main
from dreamerjax.report.__main__ import ReportConfig
from dreamerjax.report.__main__ import run as report
from experiments.reliability.trial import complaint, in_process, runs, same

MORE = "train.steps=140"  # 20 more than the run has


def cases(folder: Path, first: int) -> Iterator[tuple[str, str]]:
    """Every file, every damage; the same order each time."""
    run, other = finished(folder, "damaged", 0), finished(folder, "other", 1)
    whole = folder / "whole" / run.name
    if not whole.exists():
        shutil.copytree(run, whole)
        assert trials.resume_here(whole, MORE) == 0
    files = sorted(path.relative_to(run) for path in run.rglob("*") if path.is_file() and not path.name.startswith(".lock"))
    every = [(file, name, harm) for file in files for name, harm in harms(run, other).items()]
    for file, name, harm in every[first:]:
        copy = folder / "copy" / run.name
        shutil.rmtree(copy.parent, ignore_errors=True)
        shutil.copytree(run, copy)
        harm(copy, file)
        yield f"{file} {name}", look(copy, whole)


def finished(folder: Path, name: str, seed: int) -> Path:
    """A tiny run that has ended, made once."""
    root = folder / name
    if not root.exists():
        assert trials.run_here(root, trials.TRIAL, f"train.seed={seed}", "parallel.devices=1") == 0
    return runs(root)[0]


def harms(run: Path, other: Path) -> dict[str, Callable[[Path, Path], None]]:
    """What is done to a file, by name."""
    return {
        "cut": lambda copy, file: (copy / file).write_bytes((copy / file).read_bytes()[: (copy / file).stat().st_size // 2]),
        "flipped": flip,
        "deleted": lambda copy, file: (copy / file).unlink(),
        "another run's": partial(replace, run, other),
    }


def flip(copy: Path, file: Path) -> None:
    """One bit, somewhere."""
    content = bytearray((copy / file).read_bytes())
    if content:
        draw = random.Random(str(file))
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    (copy / file).write_bytes(bytes(content))


def replace(run: Path, other: Path, copy: Path, file: Path) -> None:
    """The file of the same place in the other run; where it has none, any of the same folder."""
    there = other / file
    if not there.exists():
        there = next((path for path in sorted(there.parent.rglob("*")) if path.is_file()), other / "meta.json")
    shutil.copyfile(there, copy / file)


def look(copy: Path, whole: Path) -> str:
    """Resume a damaged run, report on it and compare it."""
    code, out, err = in_process(partial(main, train.run), [f"resume={copy}", MORE])
    if code:
        wrong, outcome = complaint(code, err), "refused in one line"
    else:
        differs, warned = same(copy, whole), "warning: " in out or "damaged" in err
        wrong = "" if warned else differs
        outcome = "said in one line" if differs else ("the checkpoint before it is used" if warned else "nothing depends on it")
    readers: dict[str, tuple[Callable[[list[str]], int], list[str]]] = {
        "report": (partial(main, report, schema=ReportConfig), [f"run={copy}"]),
        "compare": (compare, [str(copy), str(whole), f"--output={copy / 'compare.html'}"]),
    }
    for name, (command, words) in readers.items():
        code, _, err = in_process(command, words)
        if code and (unclear := complaint(code, err)):
            wrong = wrong or f"{name}: {unclear}"
    return f"BROKEN: {wrong}" if wrong else outcome
