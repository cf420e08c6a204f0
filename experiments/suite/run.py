"""One configuration for every task: what the defaults reach on many tasks and seeds, with no key but the environment's.

    python experiments/suite/run.py                               # trains what is missing, one run a core, then reports
    python experiments/suite/run.py --tasks dmc6,CartPole-v1      # these alone; groups: dmc18, dmc6, gym, all
    python experiments/suite/run.py --seeds 3 --frames 100000     # seeds 0 to 2; "--seeds 5,7" are these two, "5," is one
    python experiments/suite/run.py train|report                  # the one without the other
    python experiments/suite/run.py report --earlier de57ce64     # with what an earlier version has and this one has not yet
    python experiments/suite/run.py --label nats loss.free_nats=1 # a pilot with other settings, under a name of its own

Runs lie in <root>/<label>/. The label is the newest commit that changed what a run depends on, so that results of two versions
are never mixed. The same command goes on where it was stopped, by Ctrl-C too; a run of 100,000 frames goes on from that of
50,000. Results go to results/<label>.json; those of the defaults also to REPORT.md and curves.png.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dreamerjax.config.composition import load_config
from dreamerjax.config.overrides import quoted
from dreamerjax.core.errors import UserError
from dreamerjax.core.files import file_faults, plain, read_json_object, write_json, write_text
from dreamerjax.core.formatting import markdown_table
from dreamerjax.core.machine import cores, machine
from dreamerjax.core.run_directory import git_state
from dreamerjax.core.stopping import stop_on_signals
from dreamerjax.experiment.design import Metric
from dreamerjax.experiment.executors import in_threads
from dreamerjax.experiment.jobs import Work, hold, last_words
from dreamerjax.experiment.runner import run_all
from dreamerjax.experiment.states import ExperimentRun, by_name, furthest, run_name
from dreamerjax.experiment.statistics import across_tasks, interquartile_mean
from dreamerjax.storage.logger import read_metrics
from dreamerjax.visualization import style

HERE = Path(__file__).resolve().parent
GREEDY, SAMPLED = "eval/greedy/return_mean", "eval/sampled/return_mean"
FRAMES = (50_000, 100_000)  # of DeepMind Control, where each action is applied twice
CODE = ("dreamerjax", "configs", "experiments/suite/run.py")  # what a run depends on
LEAST = 0.7  # of DreamerV3's mean, demanded of a task where that is 100 or more
with (HERE / "reference_dmc18.csv").open() as _file:
    REFERENCE = {entry["task"]: entry for entry in csv.DictReader(_file)}


@dataclass(frozen=True)
class Demand:
    """Greedy return that must be reached: at the end on average or, with `within`, by every seed, and held from there on."""

    value: float
    within: int | None = None  # agent steps
    share: float | None = None  # of the evaluations afterwards; None: the mean over the last quarter of a run


@dataclass(frozen=True)
class Task:
    """What is trained, with what belongs to the environment and nothing else, and what is demanded."""

    name: str
    overrides: tuple[str, ...]
    steps: int  # of the agent
    every: int  # steps between two evaluations
    seeds: int
    demand: Demand | None = None  # None: of DeepMind Control, beside the reference
    repeat: int = 1  # of each action
    weight: float = 1.0  # time of a step, that of one from vectors being 1


SIX = ("cartpole_swingup", "reacher_easy", "walker_walk", "finger_spin", "ball_in_cup_catch", "cheetah_run")
DMC = [
    Task(name, (f"env.id=dmc/{name}", "env.action_repeat=2"), FRAMES[0] // 2, 2_500, 3 if name in SIX else 1, repeat=2)
    for name in REFERENCE
]
GYM = [
    Task("CartPole-v1", ("env.id=CartPole-v1",), 46_500, 500, 10, Demand(475, 6_500, 0.98)),
    Task("Acrobot-v1", ("env.id=Acrobot-v1",), 30_000, 1_000, 5, Demand(-100, 6_000)),
    Task("Pendulum-v1", ("env.id=Pendulum-v1",), 30_000, 1_000, 5, Demand(-200, 17_000)),
    Task("LunarLander-v3", ("env.id=LunarLander-v3",), 70_000, 2_500, 5, Demand(200, 50_000)),
    Task("MountainCarContinuous-v0", ("env.id=MountainCarContinuous-v0",), 30_000, 2_500, 3, Demand(90)),
    Task("CartPole-pixels", ("env=cartpole_pixels",), 60_000, 2_000, 3, Demand(475, 40_000, 0.95), weight=10),
    Task("MinAtar-Breakout", ("env.id=minatar/Breakout",), 100_000, 5_000, 1, Demand(2), weight=1.5),
    Task("MiniGrid-Empty-8x8", ("env.id=minigrid/Empty-8x8",), 50_000, 2_500, 1, Demand(0.8), weight=10),
]
TASKS = {task.name: task for task in (*DMC, *GYM)}
GROUPS = {"dmc18": list(REFERENCE), "dmc6": list(SIX), "gym": [task.name for task in GYM], "all": list(TASKS)}


@dataclass(frozen=True)
class Run(Work):
    """One seed of a task, below the directory of its label."""

    task: Task
    seed: int
    steps: int  # of the agent
    directory: Path
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return run_name(self.task.name, self.seed)

    @property
    def log(self) -> Path:
        return self.directory / "logs" / f"{self.name}.log"

    def state(self) -> ExperimentRun:
        return furthest(by_name(self.directory).get(self.name, ()), Metric(GREEDY, at=self.steps))

    def command(self) -> list[str]:
        state = self.state()
        program = [sys.executable, "-m", "dreamerjax.train"]
        if state.path is not None and state.resumable:
            return [*program, f"resume={state.path}", f"train.steps={self.steps}"]
        own = (f"train.seed={self.seed}", f"run.root={quoted(str(self.directory))}", f"run.name={self.name}")
        length = (f"train.steps={self.steps}", f"train.eval_every={self.task.every}")
        return [*program, *self.task.overrides, *length, *self.overrides, *own]

    def row(self) -> dict[str, Any]:
        """What is kept of it: its curve of [environment frames, greedy return, sampled return], or why there is none."""
        state, own = self.state(), {"task": self.task.name, "seed": self.seed}
        if state.path is None or state.state != "finished":
            said = last_words(self.log) if self.log.exists() and state.state != "interrupted" else ""
            return {**own, "error": said or state.error or state.state}
        summary = read_json_object(state.path / "summary.json")
        lines = [line for line in read_metrics(state.path / "metrics.jsonl") if GREEDY in line]
        curve = [[self.task.repeat * line["env_step"], round(line[GREEDY], 2), round(line[SAMPLED], 2)] for line in lines]
        if not curve:
            return {**own, "error": "it was never evaluated"}
        kept = {"random": summary["baseline_return"], "updates": summary["updates"], "seconds": round(summary["seconds"])}
        return {**own, **kept, "curve": curve}


def lengths(tasks: Sequence[Task], frames: int, overrides: Sequence[str]) -> list[int]:
    """Agent steps of each task's runs, all alike if the overrides say how many; UserError if there are no such settings."""
    unsaid = 10**9
    said = load_config([f"train.steps={unsaid}", *overrides]).train.steps if overrides else unsaid
    usual = [frames // task.repeat if task in DMC else task.steps for task in tasks]
    return usual if said == unsaid else [said] * len(tasks)


def selected(names: str, seeds: str | None) -> list[tuple[Task, int]]:
    """The tasks, the longest first, with their seeds, from what the command line says; UserError if there is no such thing."""
    words = [word for name in names.split(",") for word in GROUPS.get(name, [name])]
    for word in words:
        if word not in TASKS:
            raise UserError(f"--tasks: there is no task {word}; groups: {', '.join(GROUPS)}; tasks: {', '.join(TASKS)}")
    if seeds is not None and not re.fullmatch(r"\d+|(\d+,)+\d*", seeds):
        raise UserError(f"--seeds must be a number of seeds, or seeds with commas such as 5,7; not {seeds}")
    numbers = [int(word) for word in (seeds or "").split(",") if word]
    if "," not in (seeds or ","):
        numbers = list(range(numbers[0]))
    tasks = sorted((TASKS[word] for word in dict.fromkeys(words)), key=lambda task: -task.steps * task.weight)
    return [(task, seed) for task in tasks for seed in numbers or range(task.seeds)]


def identified(root: Path, label: str | None, overrides: Sequence[str], *, begin: bool) -> tuple[Path, dict[str, Any]]:
    """The directory of a label and what its runs have in common, commit and overrides, as recorded there if they have begun.

    Raises:
        UserError: they have not, another commit or other overrides have the label, or overrides came without one.
    """
    commit, dirty = git_state(HERE.parent.parent, *CODE)
    if label is None and (overrides or commit is None):
        raise UserError("give --label NAME: settings of your own, or code without a commit, need a name for their results")
    label = label or f"{str(commit)[:8]}{'-dirty' if dirty else ''}"
    now = {"label": label, "commit": commit, "dirty": dirty, "overrides": list(overrides)}
    record = read_json_object(root / label / "suite.json")
    if not record and not begin:
        raise UserError(f"no runs in {root / label}: run the suite, or give the --label that they have")
    for key in ("commit", "overrides") if begin and record else ():
        if record[key] != now[key]:
            raise UserError(f"--label {label}: its runs have {key} {record[key]}, not {now[key]}; give another --label")
    return root / label, record or now


def last(row: dict[str, Any]) -> float:
    """Greedy return of the last evaluation; nothing is picked."""
    return float(row["curve"][-1][1])


def late(row: dict[str, Any]) -> float:
    """Mean greedy return over the last quarter of the evaluations."""
    curve = row["curve"]
    return float(np.mean([point[1] for point in curve[-math.ceil(len(curve) / 4) :]]))


def by_task(results: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The rows of finished runs."""
    return {name: [row for row in results["runs"] if row["task"] == name and "curve" in row] for name in TASKS}


def verdict(task: Task, rows: Sequence[dict[str, Any]]) -> tuple[str, str, bool]:
    """(what is demanded of the task, what was seen in its runs, whether it is met)."""
    demand = task.demand
    assert demand is not None
    if demand.within is None:
        mean = float(np.mean([last(row) for row in rows]))
        return f"last evaluation {demand.value:g} on average", f"{mean:.4g}", mean >= demand.value
    solved = [next((frame for frame, greedy, _ in row["curve"] if greedy >= demand.value), math.inf) for row in rows]
    after = [point[1] for row, first in zip(rows, solved, strict=True) for point in row["curve"] if point[0] > first]
    in_time, held = sum(first <= demand.within for first in solved), sum(value >= demand.value for value in after)
    when = f"{in_time} of {len(rows)}" + (f", the last at {max(solved):,}" if math.isfinite(max(solved)) else "")
    demanded, seen = f"{demand.value:g} by step {demand.within:,} in every seed", f"{when}; {held} of {len(after)} evaluations"
    if demand.share is not None:
        demanded, met = f"{demanded}, then in {demand.share:.0%} of the evaluations", 0 < demand.share * len(after) <= held
    else:
        worst = min(late(row) for row in rows)
        demanded, seen = f"{demanded}, and in the last quarter", f"{seen}, worst last quarter {worst:.4g}"
        met = worst >= demand.value
    return demanded, seen, met and in_time == len(rows)


def published(name: str, column: str) -> str:
    """A reference figure in words, with its deviation where there is one."""
    entry = REFERENCE[name]
    deviation = f" ± {float(entry[f'{column}_sd']):.0f}" if f"{column}_sd" in entry else ""
    return f"{float(entry[column]):.0f}{deviation}" if entry[column] else "-"


def control(runs: dict[str, list[dict[str, Any]]], frames: int) -> list[str]:
    """The tables of DeepMind Control's finished runs, by task, beside what is published after so many frames."""
    k = frames // 1000
    columns = {"DreamerV3": f"dreamerv3_{k}k", "MR.Q": f"mrq_{k}k"} | ({"TD-MPC2": "tdmpc2_100k"} if k == 100 else {})
    cells, low = [], []
    for name, rows in runs.items():
        ours, dreamer = np.mean([last(row) for row in rows]), float(REFERENCE[name][columns["DreamerV3"]])
        low += [f"`{name}`"] if dreamer >= 100 and ours < LEAST * dreamer else []
        quarter, each = np.mean([late(row) for row in rows]), ", ".join(f"{last(row):.0f}" for row in rows)
        ratio, others = f"{ours / dreamer:.2f}" if dreamer >= 1 else "-", [published(name, of) for of in columns.values()]
        cells.append([f"`{name}`", f"{ours:.0f}", f"{quarter:.0f}", each, *others, ratio, minutes(rows)])
    summary = []
    for what, read in (("last evaluation", last), ("last quarter", late)):
        scores = [np.array([read(row) for row in rows]) for rows in runs.values()]
        summary.append([f"ours, {what}", *(across_tasks(scores, how, 0.95) for how in (np.mean, interquartile_mean))])
    for who, column in columns.items():
        if all(REFERENCE[name][column] for name in runs):
            means = np.array([float(REFERENCE[name][column]) for name in runs])
            summary.append([who, f"{means.mean():.4g}", f"{interquartile_mean(means):.4g}"])
    one = min(map(len, runs.values())) < 2
    header = ("task", "ours, last evaluation", "last quarter", "each seed", *columns, "ours / DreamerV3", "minutes a run")
    return [
        *markdown_table(header, cells), "",
        *markdown_table(("", f"mean over {len(runs)} tasks", "interquartile mean"), summary), "",
        "Each task weighs the same; of what is published, the tasks' means are taken. In brackets: 95%, stratified bootstrap "
        f"{'over tasks, since some have one seed alone' if one else 'over seeds within tasks'}. "
        f"Below {LEAST} of DreamerV3's mean, where that is 100 or more: {', '.join(low) or 'none'}.", "",
    ]  # fmt: skip


def minutes(rows: Sequence[dict[str, Any]]) -> str:
    """Of a run, on average."""
    return f"{np.mean([row['seconds'] for row in rows]) / 60:.1f}"


def report(results: dict[str, Any]) -> str:
    """The report of a results file, as Markdown."""
    finished = by_task(results)
    sections, dmc = [], [row for name in REFERENCE for row in finished[name]]
    unfinished = [f"- `{row['task']}` seed {row['seed']}: {row['error']}" for row in results["runs"] if "curve" not in row]
    for row in (row for row in dmc if row["curve"][-1][0] < 0.99 * FRAMES[0]):
        end = f"it ends at {row['curve'][-1][0]:,} frames with {last(row):.0f}, last quarter {late(row):.0f}"
        unfinished.append(f"- `{row['task']}` seed {row['seed']}: {end}")
    for frames in FRAMES:  # give or take a hundredth: with several environments, evaluations come a little late
        reached = [row for row in dmc if row["curve"][-1][0] >= 0.99 * frames]
        cut = [{**row, "curve": [point for point in row["curve"] if point[0] <= 1.01 * frames]} for row in reached]
        if cut:
            rows = {name: [row for row in cut if row["task"] == name] for name in dict.fromkeys(row["task"] for row in cut)}
            sections += [f"## DeepMind Control from vectors, {frames:,} frames", "", *control(rows, frames)]
    demands = []
    for task in (task for task in GYM if finished[task.name]):
        rows = finished[task.name]
        demanded, seen, met = verdict(task, rows)
        ends, random = ", ".join(f"{last(row):.4g}" for row in rows), np.mean([row["random"] for row in rows], dtype=float)
        demands.append(
            [
                f"`{task.name}`",
                demanded,
                seen,
                "yes" if met else "**no**",
                ends,
                f"{random:.4g}" if math.isfinite(random) else "-",
                minutes(rows),
            ]
        )
    if demands:
        header = ("task", "demanded", "seen", "met", "last evaluation of each seed", "random policy", "minutes a run")
        sections += ["## Other environments", "", *markdown_table(header, demands), ""]
    if unfinished:
        sections += ["## Not finished", "", *unfinished, ""]
    of: dict[str, list[str]] = {}
    for row in (row for row in results["runs"] if "label" in row):
        of.setdefault(row["label"], []).append(f"`{row['task']}` seed {row['seed']}")
    earlier = [f"with `{label}` {', '.join(names)}" for label, names in of.items()]
    settings = f"`{' '.join(results['overrides'])}`" if results["overrides"] else "the defaults"
    version = f"commit `{str(results['commit'])[:8]}`{' with changes' if results['dirty'] else ''}, {settings}"
    return "\n".join([
        "# One configuration for every task", "",
        f"Label `{results['label']}`: {version}; {results['machine']['processor']}, a core a run. "
        "Greedy return, mean of 20 episodes; nothing is stopped or picked.", "",
        *([f"Measured with an earlier commit: {'; '.join(earlier)}.", ""] if earlier else []),
        *sections,
    ])  # fmt: skip


def draw(results: dict[str, Any], path: Path) -> None:
    """The evaluations of all runs, a small panel for each task."""
    shown = {name: rows for name, rows in by_task(results).items() if rows}
    height = math.ceil(len(shown) / 6)
    marks = (("dreamerv3", "DreamerV3", "o", style.IMAGINED), ("mrq", "MR.Q", "D", style.SOLVED))
    with style.figure(11, 0.6 + 1.5 * height, font_size=7) as figure:
        for place, (name, rows) in enumerate(shown.items(), 1):
            axes = figure.add_subplot(height, 6, place)
            axes.set_title(name, fontsize=7)
            for row in rows:
                curve = np.array(row["curve"])
                axes.plot(curve[:, 0] / 1000, curve[:, 1], color=style.REAL, linewidth=1, label="each seed")
            end = max(row["curve"][-1][0] for row in rows)
            for frames in (frames for frames in FRAMES if name in REFERENCE and frames <= max(end, FRAMES[0])):
                for column, who, mark, color in marks:
                    value = float(REFERENCE[name][f"{column}_{frames // 1000}k"])
                    axes.plot(frames / 1000, value, mark, color=color, markersize=4, label=who, clip_on=False)
            if (demand := TASKS[name].demand) is not None:
                axes.axhline(demand.value, **style.REFERENCE, label="demanded")
        found = {label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        figure.legend(found.values(), found.keys(), loc="outside upper right", ncols=4)
        figure.supxlabel("thousand environment frames")
        style.save(figure, path)
    with Image.open(path) as picture:
        picture.quantize(32).save(path, optimize=True)  # a third of the size, and it is committed for each version


def train(runs: Sequence[Run], directory: Path, record: dict[str, Any]) -> int:
    """Everything that is not finished, a run a core; returns the exit code: 1 if a run failed, 128 + number of a signal."""
    with file_faults(directory):
        directory.mkdir(parents=True, exist_ok=True)
    with hold(directory / ".lock", f"another process runs the suite in {directory}"), stop_on_signals() as stop:
        write_json(directory / "suite.json", record)
        todo = [run for run in runs if run.state().state != "finished"]
        print(f"{record['label']}: {len(runs)} runs, {len(runs) - len(todo)} of them finished before", flush=True)
        errors = run_all(todo, in_threads(len(cores())), stop)
    return stop.exit_code or int(any(error is not None for error in errors.values()))


def gather(runs: Sequence[Run], record: dict[str, Any], earlier: Sequence[str] = ()) -> dict[str, Any]:
    """The content of results/<label>.json: these runs, those of the file that are not among them, and those that only the
    results of `earlier` labels have, each with its label.

    Raises:
        UserError: there are no results of an earlier label, or they have other overrides.
    """
    kept = {}
    for label in earlier:
        before = read_json_object(HERE / "results" / f"{label}.json")
        if before.get("overrides") != record["overrides"]:
            raise UserError(f"--earlier {label}: there is no results/{label}.json, or its runs have other overrides")
        kept |= {(row["task"], row["seed"]): {"label": label, **row} for row in before["runs"] if "curve" in row}
    before = read_json_object(HERE / "results" / f"{record['label']}.json")
    kept |= {(row["task"], row["seed"]): row for row in before.get("runs", []) if before["commit"] == record["commit"]}
    for run in runs:
        new = run.row()
        if "curve" in new or "curve" not in kept.get((run.task.name, run.seed), {}):
            kept[run.task.name, run.seed] = new
    order = {name: number for number, name in enumerate(TASKS)}
    rows = [kept[key] for key in sorted(kept, key=lambda key: (order[key[0]], key[1]))]
    return {**record, "machine": machine(), "runs": rows}


def write(results: dict[str, Any]) -> None:
    """results/<label>.json, a run a line; of the defaults also curves.png and REPORT.md, with NOTES.md at its end."""
    (HERE / "results").mkdir(exist_ok=True)
    head = json.dumps(plain({**results, "runs": []}), indent=2).removesuffix("[]\n}")
    rows = ",\n    ".join(json.dumps(plain(row), allow_nan=False) for row in results["runs"])
    write_text(HERE / "results" / f"{results['label']}.json", f"{head}[\n    {rows}\n  ]\n}}\n")
    text = report(results)
    print(text)
    if not results["overrides"] and any("curve" in row for row in results["runs"]):
        draw(results, HERE / "curves.png")
        curves = "![Evaluations of every run](curves.png)\n\n"
        write_text(HERE / "REPORT.md", f"{text}\n{curves}{(HERE / 'NOTES.md').read_text()}")


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("words", nargs="*", metavar="train|report|key=value")
    parser.add_argument("--tasks", default="all", help=f"names or groups ({', '.join(GROUPS)}), with commas between them")
    parser.add_argument("--seeds", help="how many, or which, with commas between them; each task has its own number by default")
    parser.add_argument("--frames", type=int, choices=FRAMES, default=FRAMES[0], help="of DeepMind Control's tasks")
    parser.add_argument("--label", help="what the results are called; the commit by default")
    parser.add_argument("--earlier", default="", help="labels whose results fill in what is missing, with commas between")
    parser.add_argument("--root", type=Path, default=Path("runs/suite"))
    options = parser.parse_intermixed_args()
    phases = [word for word in options.words if word in ("train", "report")] or ["train", "report"]
    overrides = [word for word in options.words if word not in phases]
    if wrong := [word for word in overrides if "=" not in word]:
        raise UserError(f"{wrong[0]}: neither train, nor report, nor key=value; several tasks have commas between them")
    chosen = selected(options.tasks, options.seeds)
    directory, record = identified(options.root, options.label, overrides, begin="train" in phases)
    long = lengths([task for task, _ in chosen], options.frames, record["overrides"])
    own = tuple(record["overrides"])
    runs = [Run(task, seed, steps, directory, own) for (task, seed), steps in zip(chosen, long, strict=True)]
    code = train(runs, directory, record) if "train" in phases else 0
    if "report" in phases and code <= 1:
        write(gather(runs, record, [label for label in options.earlier.split(",") if label]))
    return code


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
