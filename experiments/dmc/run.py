"""DeepMind Control from vectors: what is reached after 50,000 environment steps, beside DreamerV3's published means.

    python experiments/dmc/run.py                      # trains what is missing, one on each core, then writes REPORT.md
    python experiments/dmc/run.py --task reacher_easy  # this task alone
    python experiments/dmc/run.py train|report         # the one without the other

Each action is applied twice, as in the published runs, so 50,000 environment steps are 25,000 of the agent.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dreamerjax.core.files import read_json_object, write_json, write_text
from dreamerjax.core.machine import machine
from dreamerjax.experiment.cores import launched, side_by_side
from dreamerjax.storage.logger import read_metrics

HERE = Path(__file__).resolve().parent
ROOT = Path("runs/dmc")
PUBLISHED = {"cartpole_balance": (490, 71), "cartpole_swingup": (322, 80), "reacher_easy": (631, 236)}  # mean and deviation
SEEDS = range(3)
STEPS, EVERY = 25_000, 2_500
CHOSEN = {  # the defaults, but where they do not suffice
    "cartpole_balance": "env=dmc_cartpole_balance",
    "cartpole_swingup": "env=dmc_cartpole_swingup",
    "reacher_easy": "+experiment=dmc_reacher_easy",
}
SETTINGS = (f"train.steps={STEPS}", f"train.eval_every={EVERY}", "monitor.dreams_every=0")


def find(task: str, seed: int) -> Path | None:
    """The finished run; None if there is none."""
    runs = [path for path in ROOT.glob(f"*_{task}_seed{seed}") if (path / "summary.json").exists()]
    return max(runs, default=None)


def train(job: tuple[str, int], cores: Sequence[int]) -> None:
    """One run of a task and a seed on these cores, with its output in a log."""
    task, seed = job
    arguments = [CHOSEN[task], *SETTINGS, f"train.seed={seed}", f"run.root={ROOT}", f"run.name={task}_seed{seed}"]
    with (ROOT / f"{task}_seed{seed}.log").open("w") as output:
        command = [*launched(cores), sys.executable, "-m", "dreamerjax.train", *arguments]
        subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=True)


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
    """REPORT.md and dmc.json, from the runs that there are; a task without any keeps what was reported of it before."""
    rows = [row(task, seed, run) for task in PUBLISHED for seed in SEEDS if (run := find(task, seed)) is not None]
    before = read_json_object(HERE / "dmc.json")["runs"] if (HERE / "dmc.json").exists() else []
    rows = [*(entry for entry in before if entry["task"] not in {new["task"] for new in rows}), *rows]
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
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("phase", nargs="?", choices=("train", "report"), help="train what is missing and stop; or only report")
    parser.add_argument("--task", choices=PUBLISHED, nargs="+", default=list(PUBLISHED))
    options = parser.parse_args()
    ROOT.mkdir(parents=True, exist_ok=True)
    if options.phase != "report":
        missing = [(task, seed) for task in options.task for seed in SEEDS if find(task, seed) is None]
        side_by_side(train, missing, len(os.sched_getaffinity(0)))
    if options.phase != "train":
        report()
    return 0


if __name__ == "__main__":
    sys.exit(main())
