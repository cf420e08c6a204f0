"""What docs/reliability.md promises, counted: `make bench-reliability`.

    python -m experiments.reliability.run                            # every part; goes on where it was stopped
    python -m experiments.reliability.run --parts kills --count 20
    python -m experiments.reliability.run report                     # REPORT.md and results.json from what there is

A part is a series of numbered cases, each of which ends in a word or, where a promise was broken, in BROKEN and what was seen.
Cases are kept as they end, one line each, in `<root>/<part>.jsonl`: a part that was stopped goes on behind them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import trials

from dreamerjax.core.console import say
from dreamerjax.core.files import write_json, write_text
from dreamerjax.core.run_directory import git_state
from experiments.reliability import damage, disk, faults, inputs, kills, soak

HERE = Path(__file__).resolve().parent
BROKEN = "BROKEN"

Part = Callable[[Path, int], Iterator[tuple[str, str]]]
"""Called with a folder of its own and the first case's number: yields names and outcomes, without end or to the end."""

PARTS: dict[str, tuple[Part, int, str]] = {
    "kills": (
        kills.cases,
        100,
        "`kill -9` at a random moment; after each fifth the run goes on to its end and is compared",
    ),
    "damage": (damage.cases, 10_000, "a file of a run is cut, flipped in one bit, deleted, or replaced by another run's"),
    "inputs": (inputs.cases, 500, "bad input on the command line, in YAML, in experiment files and from Python"),
    "disk": (disk.cases, 20, "the disk is full from a random moment on, and has space again when the run is resumed"),
    "faults": (faults.cases, 500, "an environment misbehaves at random"),
    "soak": (soak.cases, 2, "hours of training with subprocess environments: memory, descriptors, threads"),
}


def run_part(name: str, count: int, root: Path) -> None:
    """Play the cases of a part that are not yet kept."""
    part, _, about = PARTS[name]
    kept = root / f"{name}.jsonl"
    done = len(read(kept))
    say(f"{name}: {about}; {done} cases played before")
    if done >= count:
        return
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with kept.open("a", encoding="utf-8") as file:
        for number, (case, outcome) in enumerate(part(folder, done), done):
            took, started = time.monotonic() - started, time.monotonic()
            file.write(json.dumps({"case": case, "outcome": outcome, "seconds": round(took, 2)}) + "\n")
            file.flush()
            say(f"{name} {number + 1}: {case}: {outcome}")
            if number + 1 >= count:
                break


def read(file: Path) -> list[dict[str, Any]]:
    """The kept cases of a part."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


def report(root: Path) -> int:
    """Write REPORT.md and results.json; returns how many promises were broken."""
    commit, dirty = git_state(HERE.parent.parent, "dreamerjax", "configs")
    results: dict[str, Any] = {}
    lines = [
        "# Reliability, counted",
        "",
        f"Commit `{(commit or 'unknown')[:8]}`{' with changes' if dirty else ''}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores; `make bench-reliability`.",
        "",
        "| part | what happens | cases | outcomes | broken | minutes |",
        "|---|---|---|---|---|---|",
    ]
    for name, (_, _, about) in PARTS.items():
        cases = read(root / f"{name}.jsonl")
        if not cases:
            continue
        outcomes = Counter(case["outcome"].split(":")[0] for case in cases)
        broken = [case for case in cases if case["outcome"].startswith(BROKEN)]
        minutes = sum(case["seconds"] for case in cases) / 60
        results[name] = {"cases": len(cases), "outcomes": dict(outcomes), "broken": broken, "minutes": round(minutes, 1)}
        words = ", ".join(f"{outcome} {n}" for outcome, n in outcomes.most_common() if outcome != BROKEN)
        lines.append(f"| {name} | {about} | {len(cases)} | {words} | {len(broken)} | {minutes:.1f} |")
    soaked = [f"- {case['case']}: {case['outcome']}" for case in read(root / "soak.jsonl")]
    notes = HERE / "NOTES.md"
    lines += [
        "",
        *(["Soak:", "", *soaked, ""] if soaked else []),
        *([notes.read_text(encoding="utf-8")] if notes.exists() else []),
    ]
    write_text(HERE / "REPORT.md", "\n".join(lines).rstrip() + "\n")
    write_json(HERE / "results.json", results)
    say(f"written: {HERE / 'REPORT.md'}")
    return sum(len(result["broken"]) for result in results.values())


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Count what docs/reliability.md promises.")
    parser.add_argument("task", nargs="?", choices=["run", "report"], default="run")
    parser.add_argument("--parts", default=",".join(PARTS), help="which, separated by commas")
    parser.add_argument("--count", type=int, help="cases of each part, instead of its own number")
    parser.add_argument("--hours", type=float, default=soak.HOURS, help="of each soak")
    parser.add_argument("--root", type=Path, default=Path("runs/reliability"), help="where cases and their runs lie")
    options = parser.parse_args()
    if unknown := [name for name in options.parts.split(",") if name not in PARTS]:
        parser.error(f"--parts: there is no {', '.join(unknown)}; parts: {', '.join(PARTS)}")
    soak.HOURS = options.hours
    sys.path[:0] = trials.ENV_PATH
    root = options.root.absolute()
    if options.task == "run":
        for name in options.parts.split(","):
            run_part(name, options.count or PARTS[name][1], root)
    return int(report(root) > 0)


if __name__ == "__main__":
    sys.exit(main())
