"""`kill -9` at random moments: while a run starts, compiles, collects, evaluates, makes films, writes checkpoints."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import trials

from experiments.reliability.trial import LONGER, numbered, reference, runs, same

CHAIN = 5  # kills of one run, before it may go on to its end
SPAN = 6.0  # seconds within which a process is killed, from when it holds the run's lock
STARTING = 0.15  # of the kills come at any time from the process's start on
MARK = "RELIABILITY_CHAIN"  # a variable that all processes of a chain have


def cases(folder: Path, first: int) -> Iterator[tuple[str, str]]:
    """One case is a kill. A chain that was left in its middle is played again."""
    for chain in numbered(first // CHAIN):
        yield from list(play(folder, chain))[first - chain * CHAIN if chain == first // CHAIN else 0 :]


def play(folder: Path, chain: int) -> list[tuple[str, str]]:
    """Kill a run so many times, let it end, compare it with one that nothing interrupted."""
    kind = ("sync", "subprocess")[chain % 2]
    settings = f"env.vectorization={kind}"
    whole = reference(folder, kind, settings)
    root, mark, draw = folder / f"chain{chain}", f"{folder}/{chain}", random.Random(chain)
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    moments: list[str] = []
    broken = ""
    while len(moments) < CHAIN and not broken:
        moment = kill(root, settings, mark, draw)
        if moment is None:  # it had come to its end
            shutil.rmtree(root)
            root.mkdir()
            continue
        moments.append(moment)
        broken = left_behind(mark) or unreadable(root)
    if not broken:
        done = trials.run_command("train", *arguments(root, settings), cwd=root, **{MARK: mark})
        last = runs(root)[-1] if runs(root) else None
        if done.returncode or last is None:
            broken = f"it does not go on: {(done.stderr.strip().splitlines() or ['no run'])[-1][:200]}"
        else:
            broken = same(last, whole) or left_behind(mark)
    outcome = f"BROKEN: {broken} (chain {chain})" if broken else "resumed, the same run to the last bit"
    if not broken:
        shutil.rmtree(root)
    return [(f"{kind} {moment}", outcome) for moment in moments]


def arguments(root: Path, settings: str) -> list[str]:
    """To begin the run, or to go on with it where it has begun."""
    begun = runs(root)
    return [f"resume={begun[-1]}"] if begun else [*LONGER, f"run.root={root}", settings]


def kill(root: Path, settings: str, mark: str, draw: random.Random) -> str | None:
    """Start or resume, and kill: at what moment; None if the run had ended by then."""
    early = draw.random() < STARTING
    wait = draw.uniform(0, SPAN)
    before = {run / ".lock.pid": (run / ".lock.pid").read_text() for run in runs(root)}
    with trials.running("train", *arguments(root, settings), cwd=root, **{MARK: mark}) as process:
        if not early:
            trials.wait_until(lambda: process.poll() is not None or holds(root, process.pid, before))
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        if process.poll() is not None:
            assert process.returncode == 0, process.stderr.read() if process.stderr else ""
            return None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    writing = any(path.name.count("orbax-checkpoint-tmp") for path in root.rglob("*tmp*"))
    return f"{'from its start' if early else 'at work'} + {wait:.2f} s{', a checkpoint half written' if writing else ''}"


def holds(root: Path, pid: int, before: dict[Path, str]) -> bool:
    """Whether the process has taken a run's lock."""
    return any(path.read_text().strip() == str(pid) for path in root.glob("*/.lock.pid") if before.get(path) != f"{pid}")


def left_behind(mark: str) -> str:
    """Processes of the chain that are still there five seconds after the kill."""
    deadline = time.monotonic() + 5
    while left := [process.pid for process in psutil.process_iter() if of_chain(process, mark)]:
        if time.monotonic() > deadline:
            return f"{len(left)} processes left"
        time.sleep(0.1)
    return ""


def of_chain(process: psutil.Process, mark: str) -> bool:
    """Whether a process has the chain's mark, and is not merely waiting to be buried."""
    try:
        return process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def unreadable(root: Path) -> str:
    """A folder that is neither a run nor empty of anything that was learned."""
    strays = [path for path in root.glob("*/") if path not in runs(root) and (path / "metrics.jsonl").exists()]
    return f"{strays[0].name} has metrics but is no run" if strays else ""
