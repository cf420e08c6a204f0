"""DeepMind Control from vectors: what is reached after 50,000 environment steps, beside DreamerV3's published means.

    python experiments/dmc/run.py            # trains what is missing, two at a time on a core each, then writes REPORT.md
    python experiments/dmc/run.py report     # from the runs that there are

Each action is applied twice, as in the published runs, so 50,000 environment steps are 25,000 of the agent.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from dreamerjax.benchmark import machine
from dreamerjax.files import read_json_object, write_json, write_text
from dreamerjax.logs import read_metrics

HERE = Path(__file__).resolve().parent
ROOT = Path("runs/dmc")
PUBLISHED = {"cartpole_balance": (490, 71), "cartpole_swingup": (322, 80), "reacher_easy": (631, 236)}  # mean and deviation
SEEDS = range(3)
STEPS, EVERY = 25_000, 2_500
SETTINGS = (f"train.steps={STEPS}", f"train.eval_every={EVERY}", "monitor.dreams_every=0")


def find(task: str, seed: int) -> Path | None:
    """The finished run; None if there is none."""
    runs = [path for path in ROOT.glob(f"*_{task}_seed{seed}") if (path / "summary.json").exists()]
    return max(runs, default=None)


def train(task: str, seed: int, core: int) -> None:
    """One run on one core, with its output in a log."""
    arguments = [f"env=dmc_{task}", *SETTINGS, f"train.seed={seed}", f"run.root={ROOT}", f"run.name={task}_seed{seed}"]
    launch = [sys.executable, "-m", "dreamerjax.lab.launch", str(os.getpid()), str(core)]
    with (ROOT / f"{task}_seed{seed}.log").open("w") as output:
        command = [*launch, sys.executable, "-m", "dreamerjax.train", *arguments]
        subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=True)


def train_all() -> None:
    """Whatever has not been trained."""
    cores = queue.SimpleQueue[int]()
    available = sorted(os.sched_getaffinity(0))
    for core in available:
        cores.put(core)

    def one(job: tuple[str, int]) -> None:
        core = cores.get()
        try:
            train(*job, core)
        finally:
            cores.put(core)

    with ThreadPoolExecutor(len(available)) as pool:
        list(pool.map(one, [(task, seed) for task in PUBLISHED for seed in SEEDS if find(task, seed) is None]))


def row(task: str, seed: int, run: Path) -> dict[str, Any]:
    """What is reported of a run."""
    summary = read_json_object(run / "summary.json")
    lines = [line for line in read_metrics(run / "metrics.jsonl") if "eval/greedy/return_mean" in line]
    curve = [[2 * line["env_step"], round(line["eval/greedy/return_mean"], 1)] for line in lines]
    sampled = lines[-1]["eval/sampled/return_mean"]
    return {
        "task": task, "seed": seed, "env_steps": curve[-1][0], "greedy": curve[-1][1], "sampled": round(sampled, 1),
        "updates": summary["updates"], "process_seconds": round(summary["process_seconds"]), "curve": curve,
    }  # fmt: skip


def report() -> None:
    """REPORT.md and dmc.json, from the runs that there are."""
    rows = [row(task, seed, run) for task in PUBLISHED for seed in SEEDS if (run := find(task, seed)) is not None]
    write_json(HERE / "dmc.json", {"machine": machine(), "runs": rows})
    table = ["| task | published | here, mean | each seed | sampled policy | seconds a run |", "|" + " --- |" * 6]
    for task, (mean, deviation) in PUBLISHED.items():
        of = [entry for entry in rows if entry["task"] == task]
        if of:
            greedy, sampled, seconds = ([entry[key] for entry in of] for key in ("greedy", "sampled", "process_seconds"))
            table.append(
                f"| `{task}` | {mean} ± {deviation} | {np.mean(greedy):.0f} | {', '.join(f'{value:.0f}' for value in greedy)} "
                f"| {', '.join(f'{value:.0f}' for value in sampled)} | {min(seconds)} to {max(seconds)} |"
            )
    text = ["# DeepMind Control from vectors, at 50,000 environment steps", "", *table, "", (HERE / "NOTES.md").read_text()]
    write_text(HERE / "REPORT.md", "\n".join(text))
    print("\n".join(table))


def main() -> int:
    """The command line."""
    ROOT.mkdir(parents=True, exist_ok=True)
    if sys.argv[1:] not in ([], ["report"]):
        print("usage: python experiments/dmc/run.py [report]", file=sys.stderr)
        return 2
    if not sys.argv[1:]:
        train_all()
    report()
    return 0


if __name__ == "__main__":
    sys.exit(main())
