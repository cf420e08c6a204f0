"""How fast is a task solved from a cold start, and does the agent stay solved? Ten seeds of CartPole-v1, five of others.

    python experiments/stay_solved/run.py                  # CartPole-v1: everything below, one after the other
    python experiments/stay_solved/run.py --task acrobot   # or pendulum, pixels
    python experiments/stay_solved/run.py solve            # one seed after the other, each alone on the machine
    python experiments/stay_solved/run.py watch            # each goes on from there, two seeds at a time
    python experiments/stay_solved/run.py judge            # 100 episodes with each seed's last checkpoint
    python experiments/stay_solved/run.py report           # <task>.json, <task>.png and REPORT.md, from the runs

`solve` gives each seed an empty compilation cache, so that every time is a cold one. `solve` and `watch` skip what is done.
The exit code is 1 if something that the task demands is not met.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dreamerjax.core.files import read_json_object, write_json, write_text
from dreamerjax.core.formatting import markdown_table
from dreamerjax.core.machine import cores, machine
from dreamerjax.experiment.cores import launched, side_by_side
from dreamerjax.storage.logger import read_metrics
from dreamerjax.visualization import style

HERE = Path(__file__).resolve().parent
PHASES = ("solve", "watch", "judge", "report")


@dataclass(frozen=True)
class Task:
    """What is trained, and what is demanded of it."""

    title: str
    overrides: tuple[str, ...]
    seeds: int
    solved: float  # greedy return, mean over an evaluation, that counts as solved
    within: int  # environment steps that every seed must be solved in
    watch: int  # environment steps that each seed goes on for
    side_by_side: bool = True  # seeds of `solve`: two at a time on a core each, or one alone on the machine
    median_within: int | None = None  # environment steps that half of the seeds must be solved in
    seconds: float | None = None  # the same for wall time, from process start
    never_below: float | None = None  # no evaluation of the watch may be
    share: float | None = None  # of the watch's evaluations that must be solved
    sampled: float | None = None  # mean return of the sampled policy over the watch


TASKS = {
    "cartpole": Task(
        "CartPole-v1", ("+experiment=cartpole",), seeds=10, solved=475, within=8_000, watch=40_000, side_by_side=False,
        median_within=5_000, seconds=120, never_below=400, share=0.98, sampled=450,
    ),
    "acrobot": Task(
        "Acrobot-v1", ("env=acrobot", "train.stop_at_return=-100"), seeds=5, solved=-100, within=30_000, watch=5_000
    ),
    "pendulum": Task(
        "Pendulum-v1", ("env=pendulum", "train.stop_at_return=-200"), seeds=5, solved=-200, within=30_000, watch=20_000
    ),
    "pixels": Task(
        "CartPole-v1 from pixels", ("+experiment=cartpole_pixels",), seeds=3, solved=475, within=40_000, watch=0, seconds=3600
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Seed:
    """One seed of a task, and its run below `root`."""

    task: Task
    root: Path
    number: int

    @property
    def run(self) -> Path | None:
        """The run directory; None before there is one."""
        return max((path for path in self.root.iterdir() if path.name.endswith(f"_seed{self.number}")), default=None)

    @property
    def solved(self) -> dict[str, Any] | None:
        """The run's summary when `solve` had ended; None before."""
        return read_json_object(self.run / "solved.json") if self.run and (self.run / "solved.json").exists() else None

    def python(self, phase: str, cores: Sequence[int], *arguments: str, **environment: str) -> None:
        """`python -m <arguments>` on these cores, with its output in a log; raises CalledProcessError if it fails."""
        with (self.root / f"{phase}{self.number}.log").open("w") as output:
            subprocess.run(
                [*launched(cores), sys.executable, "-m", *arguments],
                stdout=output, stderr=subprocess.STDOUT, env=os.environ | environment, check=True,
            )  # fmt: skip

    def solve(self, cores: Sequence[int]) -> None:
        """Train until solved, and keep the summary of that moment."""
        if self.solved:
            return
        options = [
            *self.task.overrides,
            f"train.steps={self.task.within}",
            f"train.seed={self.number}",
            f"run.root={self.root}",
        ]
        with tempfile.TemporaryDirectory() as cache:
            self.python(
                "solve", cores, "dreamerjax.train", *options, f"run.name=seed{self.number}", JAX_COMPILATION_CACHE_DIR=cache
            )
        assert self.run is not None
        summary = read_json_object(self.run / "summary.json")
        write_json(self.run / "solved.json", summary)
        print(f"seed {self.number}: {summary['outcome']} at step {summary['env_steps']}, {summary['process_seconds']:.0f} s")

    def watch(self, cores: Sequence[int]) -> None:
        """Go on for the task's steps, on one core."""
        assert self.run is not None
        assert self.solved is not None
        total = self.solved["env_steps"] + self.task.watch
        if read_json_object(self.run / "summary.json")["env_steps"] < total:
            options = ("train.stop_at_return=null", f"train.steps={total}", "train.eval_every=1000")
            self.python("watch", cores, "dreamerjax.train", f"resume={self.run}", *options)
            print(f"seed {self.number}: watched until step {total}", flush=True)

    @property
    def judgement(self) -> Path:
        """The last checkpoint's evaluation."""
        assert self.run is not None
        return self.run / "evaluation_latest_greedy.json"

    def judge(self, cores: Sequence[int]) -> None:
        """100 episodes of the last checkpoint."""
        self.python("judge", cores, "dreamerjax.evaluate", f"run={self.run}", "episodes=100")
        print(f"seed {self.number}: {read_json_object(self.judgement)['return_mean']:.2f}", flush=True)

    def row(self) -> dict[str, Any]:
        """What is reported."""
        assert self.run is not None
        assert self.solved is not None
        solved, judged = self.solved, read_json_object(self.judgement)
        lines = list(read_metrics(self.run / "metrics.jsonl"))
        evaluations = [line for line in lines if "eval/greedy/return_mean" in line]
        curve = [[line["env_step"], line["eval/greedy/return_mean"], line["eval/sampled/return_mean"]] for line in evaluations]
        values = [[line["env_step"], line["critic/replay_value"]] for line in lines if "critic/replay_value" in line]
        after = np.array([point[1:] for point in curve if point[0] > solved["env_steps"]]).reshape(-1, 2)
        return {
            "seed": self.number,
            "solved_step": solved["solved_step"],
            "updates": solved["updates"],
            "process_seconds": round(solved["process_seconds"], 1),
            "first_update_seconds": round(solved["first_update_seconds"], 1),
            "return_when_solved": round(solved["last_return"], 1),
            "evaluations_after": len(after),
            "solved_after": int((after[:, 0] >= self.task.solved).sum()),
            "worst_after": round(float(after[:, 0].min()), 1) if len(after) else None,
            "sampled_after": round(float(after[:, 1].mean()), 1) if len(after) else None,
            "last_100": round(judged["return_mean"], 2),
            "env_steps": judged["env_step"],
            "curve": curve,
            "values": values[:: max(1, len(values) // 100)],
        }


COLUMNS = {
    "seed": "seed",
    "solved_step": "solved at environment step",
    "updates": "updates",
    "process_seconds": "seconds from process start",
    "first_update_seconds": "seconds to the first update",
    "return_when_solved": "greedy return then",
    "evaluations_after": "evaluations after",
    "solved_after": "of them solved",
    "worst_after": "worst",
    "sampled_after": "sampled policy, mean",
    "last_100": "last checkpoint, 100 episodes",
}


def verdicts(task: Task, rows: Sequence[dict[str, Any]]) -> list[tuple[str, str, bool]]:
    """(what is demanded, what was seen, whether it is met)."""
    steps = [row["solved_step"] if row["solved_step"] is not None else np.inf for row in rows]
    seconds = [row["process_seconds"] for row in rows]
    after, solved = (sum(row[key] for row in rows) for key in ("evaluations_after", "solved_after"))
    last = [row["last_100"] for row in rows]
    found = [
        (
            f"every seed solved ({task.solved:g}) within {task.within:,} steps",
            f"latest {max(steps):,.0f}",
            max(steps) <= task.within,
        )
    ]
    if task.median_within is not None:
        median = float(np.median(steps))
        found.append((f"median under {task.median_within:,} steps", f"{median:,.0f}", median < task.median_within))
    if task.seconds is not None:
        median = float(np.median(seconds))
        found.append((f"median within {task.seconds:g} s of the cold start", f"{median:.0f} s", median <= task.seconds))
    if task.share is not None:
        seen = f"{solved} of {after}, {solved / after:.1%}"
        found.append((f"{task.share:.0%} of the evaluations afterwards solved", seen, solved >= task.share * after))
    if task.never_below is not None:
        worst = min(row["worst_after"] for row in rows)
        found.append((f"no evaluation afterwards below {task.never_below:g}", f"worst {worst:g}", worst >= task.never_below))
    if task.sampled is not None:
        sampled = float(np.mean([row["sampled_after"] for row in rows]))
        found.append((f"sampled policy at least {task.sampled:g} on average", f"{sampled:.1f}", sampled >= task.sampled))
    reached = sum(value >= task.solved for value in last)
    seen = f"{reached} of {len(rows)}, worst {min(last):g}"
    found.append((f"every last checkpoint at least {task.solved:g} over 100 episodes", seen, reached == len(rows)))
    return found


def section(name: str, task: Task, result: dict[str, Any]) -> list[str]:
    """One task's part of the report."""
    rows = result["seeds"]
    cells = [["-" if row[key] is None else row[key] for key in COLUMNS] for row in rows]
    demands = [[demand, seen, "yes" if met else "**no**"] for demand, seen, met in verdicts(task, rows)]
    how = "one seed at a time" if not task.side_by_side else "two seeds at a time, a core each"
    where = f"{result['machine']['processor']}, {result['machine']['cores']} cores"
    return [
        f"## {task.title}", "",
        *markdown_table(("demanded", "seen", "met"), demands), "",
        f"![Evaluations of every seed]({name}.png)", "",
        f"`python experiments/stay_solved/run.py --task {name}`; settings: `{' '.join(task.overrides)}`, nothing else. "
        f"Machine: {where}; {how} until solved."
        + (f" Each seed then goes on for {task.watch:,} environment steps." if task.watch else ""),
        "",
        *markdown_table(list(COLUMNS.values()), cells), "",
    ]  # fmt: skip


def report(name: str, seeds: Sequence[Seed]) -> bool:
    """Write the task's numbers and figure, and the report of all tasks; returns whether all that is demanded is met."""
    rows = [seed.row() for seed in seeds]
    write_json(HERE / f"{name}.json", {"machine": machine(), "seeds": rows})
    draw(TASKS[name], rows, HERE / f"{name}.png")
    done = {other: task for other, task in TASKS.items() if (HERE / f"{other}.json").exists()}
    sections = [line for other, task in done.items() for line in section(other, task, read_json_object(HERE / f"{other}.json"))]
    text = ["# Solved, and stays solved?", "", *sections, (HERE / "NOTES.md").read_text()]
    write_text(HERE / "REPORT.md", "\n".join(text))
    found = verdicts(TASKS[name], rows)
    for demand, seen, met in found:
        print(f"{'met' if met else 'NOT MET':8}{demand}: {seen}")
    return all(met for _, _, met in found)


def draw(task: Task, rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Greedy evaluations of all seeds against environment steps."""
    with style.figure(8, 4, task.title) as figure:
        axes = figure.add_subplot(xlabel="environment steps", ylabel="greedy return, mean of 20 episodes")
        for row in rows:
            curve = np.array(row["curve"])
            axes.plot(curve[:, 0], curve[:, 1], color=style.REAL, alpha=0.3, linewidth=1.2)
        grid = np.arange(1000, min(row["curve"][-1][0] for row in rows) + 1, 500)
        curves = [np.interp(grid, *np.array(row["curve"])[:, :2].T) for row in rows]
        axes.plot(grid, np.median(curves, axis=0), color=style.REAL, label=f"median of {len(rows)} seeds")
        axes.axhline(task.solved, **{**style.REFERENCE, "color": style.SOLVED}, label=f"solved at {task.solved:g}")
        axes.xaxis.set_major_formatter(style.THOUSANDS)
        axes.legend(loc="lower right")
        style.save(figure, path)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "phases", nargs="*", choices=(*PHASES, []), metavar="PHASE", help=f"of {', '.join(PHASES)}; all by default"
    )
    parser.add_argument("--task", choices=TASKS, default="cartpole")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--root", type=Path, default=Path("runs/stay_solved"))
    options = parser.parse_args()
    task, root = TASKS[options.task], options.root / options.task
    root.mkdir(parents=True, exist_ok=True)
    seeds = [Seed(task, root, number) for number in options.seeds or range(task.seeds)]
    for phase in options.phases or PHASES:
        if phase == "report":
            return 0 if report(options.task, seeds) else 1
        alone = phase == "solve" and not task.side_by_side
        side_by_side(getattr(Seed, phase), seeds, 1 if alone else min(2, len(cores())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
