"""Ten seeds of CartPole-v1 from state: how fast each is solved from a cold start, and what happens in the steps after.

    python experiments/cartpole_ten_seeds/run.py solve    # one seed after the other, alone on the machine
    python experiments/cartpole_ten_seeds/run.py after    # goes on from there, two seeds at a time
    python experiments/cartpole_ten_seeds/run.py report   # results.json, REPORT.md and curves.png, from the runs

`solve` gives each seed an empty compilation cache, so that every time is a cold one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dreamerjax.benchmark import machine
from dreamerjax.logs import read_metrics

HERE = Path(__file__).resolve().parent
SOLVED = 475.0


def train(log: Path, *overrides: str, **environment: str) -> None:
    """One training process, its output in `log`."""
    command = [sys.executable, "-m", "dreamerjax.train", *overrides]
    with log.open("w") as output:
        subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **environment}, check=True)


def run_of(root: Path, seed: int) -> Path:
    """The run directory of a seed."""
    return max(path for path in root.iterdir() if path.name.endswith(f"_seed{seed}"))


def solve(root: Path, seeds: list[int]) -> None:
    """Train each seed until solved, and keep the summary of that moment."""
    for seed in seeds:
        name = (f"train.seed={seed}", f"run.root={root}", f"run.name=seed{seed}")
        with tempfile.TemporaryDirectory() as cache:
            train(root / f"solve{seed}.log", "+experiment=cartpole", *name, JAX_COMPILATION_CACHE_DIR=cache)
        run = run_of(root, seed)
        summary = json.loads((run / "summary.json").read_text())
        (run / "solved.json").write_text(json.dumps(summary))
        print(
            f"seed {seed}: {summary['outcome']} at step {summary['env_steps']}, {summary['process_seconds']:.0f} s", flush=True
        )


def go_on(root: Path, steps: int, seed: int) -> None:
    """Continue a solved seed for so many environment steps, on one core."""
    run = run_of(root, seed)
    total = json.loads((run / "solved.json").read_text())["env_steps"] + steps
    options = ("train.stop_at_return=null", f"train.steps={total}", "train.eval_every=1000", "parallel.devices=1")
    train(root / f"after{seed}.log", f"resume={run}", *options)
    print(f"seed {seed}: done", flush=True)


def collect(root: Path, seeds: list[int]) -> list[dict[str, Any]]:
    """One row per seed."""
    rows = []
    for seed in seeds:
        run = run_of(root, seed)
        solved = json.loads((run / "solved.json").read_text())
        evaluations = [line for line in read_metrics(run / "metrics.jsonl") if "eval/greedy/return_mean" in line]
        curve = [[line["env_step"], line["eval/greedy/return_mean"], line["eval/sampled/return_mean"]] for line in evaluations]
        after = np.array([point[1:] for point in curve if point[0] > solved["env_steps"]]).reshape(-1, 2)
        rows.append(
            {
                "seed": seed,
                "outcome": solved["outcome"],
                "solved_step": solved["solved_step"],
                "updates": solved["updates"],
                "process_seconds": round(solved["process_seconds"], 1),
                "first_update_seconds": round(solved["first_update_seconds"], 1),
                "loop_overhead": round(solved["loop_overhead"], 3),
                "return_when_solved": solved["last_return"],
                "evaluations_after": len(after),
                "steps_after": curve[-1][0] - solved["env_steps"],
                "share_above_475": round(float((after[:, 0] >= SOLVED).mean()), 3) if len(after) else None,
                "worst_after": float(after[:, 0].min()) if len(after) else None,
                "last": float(after[-1, 0]) if len(after) else None,
                "sampled_mean_after": round(float(after[:, 1].mean()), 1) if len(after) else None,
                "curve": curve,
            }
        )
    return rows


COLUMNS = {
    "seed": "seed",
    "solved_step": "solved at env step",
    "updates": "updates",
    "process_seconds": "seconds from process start",
    "first_update_seconds": "seconds to first update",
    "return_when_solved": "greedy return then",
    "steps_after": "steps watched afterwards",
    "share_above_475": "evaluations >= 475 afterwards",
    "worst_after": "worst evaluation afterwards",
    "last": "last evaluation",
    "sampled_mean_after": "sampled policy afterwards",
}


def report(root: Path, seeds: list[int]) -> None:
    """Write results.json, REPORT.md and curves.png."""
    rows = collect(root, seeds)
    (HERE / "results.json").write_text(json.dumps({"machine": machine(), "seeds": rows}, indent=1) + "\n")
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "|" + "---|" * len(COLUMNS)]
    for row in rows:
        cells = ("-" if row[key] is None else f"{row[key]:.0%}" if key == "share_above_475" else row[key] for key in COLUMNS)
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    steps = [row["solved_step"] for row in rows if row["solved_step"] is not None]
    seconds = [row["process_seconds"] for row in rows]
    summary = (
        f"Solved: {len(steps)} of {len(rows)} seeds, at a median of {np.median(steps):.0f} environment steps "
        f"({min(steps)} to {max(steps)}) and {np.median(seconds):.0f} s ({min(seconds):.0f} to {max(seconds):.0f} s) "
        f"from the start of the process, compilation included. Machine: {machine()['processor']}, {machine()['cores']} cores."
    )
    text = (HERE / "NOTES.md").read_text()
    (HERE / "REPORT.md").write_text("\n".join(["# CartPole-v1 from state, ten seeds", "", summary, "", *lines, "", text]))
    draw(rows)


def draw(rows: list[dict[str, Any]]) -> None:
    """Greedy evaluations of all seeds against environment steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for row in rows:
        curve = np.array(row["curve"])
        axes.plot(curve[:, 0], curve[:, 1], color="#2f6db3", alpha=0.35, linewidth=1.2)
    grid = np.arange(1000, min(row["curve"][-1][0] for row in rows) + 1, 500)
    curves = [np.interp(grid, *np.array(row["curve"])[:, :2].T) for row in rows]
    axes.plot(grid, np.median(curves, axis=0), color="#123a63", linewidth=2.2, label=f"median of {len(rows)} seeds")
    axes.axhline(SOLVED, color="#3a7d44", linestyle="--", linewidth=1.2, label="solved at 475")
    axes.set_xlabel("environment steps")
    axes.set_ylabel("greedy return, mean of 20 episodes")
    axes.set_title("CartPole-v1 from state", loc="left", fontweight="bold")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(HERE / "curves.png")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("phase", choices=("solve", "after", "report"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--root", type=Path, default=Path("runs/ten_seeds"))
    parser.add_argument("--steps", type=int, default=20_000, help="of `after`, per seed")
    parser.add_argument("--jobs", type=int, default=2, help="of `after`, at a time")
    options = parser.parse_args()
    options.root.mkdir(parents=True, exist_ok=True)
    if options.phase == "solve":
        solve(options.root, options.seeds)
    elif options.phase == "after":
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(partial(go_on, options.root, options.steps), options.seeds))
    else:
        report(options.root, options.seeds)


if __name__ == "__main__":
    main()
