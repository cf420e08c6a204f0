"""Compare runs by settings, curves, verdicts and over seeds: `python -m dreamerjax.compare RUN RUN...`, also as one page."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dreamerjax.config.completion import complete
from dreamerjax.core.console import Parser, say
from dreamerjax.core.errors import UserError, exit_code
from dreamerjax.core.files import user_path, write_text
from dreamerjax.core.formatting import NOT_KNOWN, amount, duration, whole
from dreamerjax.core.run_directory import RunDirectory
from dreamerjax.experiment.compare import ComparedArm, compare_runs
from dreamerjax.experiment.compare import show as arms_table
from dreamerjax.experiment.design import Budget, Metric
from dreamerjax.report import charts
from dreamerjax.report.glossary import Glossary, metrics_page, read_glossary
from dreamerjax.report.page import TEMPLATES
from dreamerjax.report.reading import GREEDY, RunReading, read_directory
from dreamerjax.visualization.learning_curve import series

METRICS = (  # each a small diagram below that of the greedy evaluations
    "episode/return",
    "eval/sampled/return_mean",
    "dream/value_mean",
    "dream/critic_lag",
    "actor/randomness",
    "model/kl",
    "model/posterior_randomness",
    "loss/decoder",
    "loss/reward",
    "loss/continue_",
    "gap/return_ratio",
    "gap/open_loop_error",
)
NOT_A_SETTING = ("run.", "resume")  # what keys begin with that say nothing of what a run does
SEED = "train.seed"
LABEL = 40  # characters that the settings of a run may take in a legend; else its name stands there
BLOCKS, WIDTH = "▁▂▃▄▅▆▇█", 24  # of a curve in the terminal


@dataclass(frozen=True)
class Comparison:
    """Runs side by side, in the order in which they were named."""

    runs: tuple[RunReading, ...]
    differences: dict[str, tuple[str, ...]]  # of each key in which they differ, every run's value
    notes: tuple[str, ...]  # sentences: what to keep in mind

    @property
    def labels(self) -> list[str]:
        """Each run's number, with its settings where these are few, else with its name."""
        settings = [
            ", ".join(f"{key.rpartition('.')[2]}={values[place]}" for key, values in self.differences.items())
            for place in range(len(self.runs))
        ]
        return [
            f"{number}: {text if 0 < len(text) <= LABEL else run.name}"
            for number, (text, run) in enumerate(zip(settings, self.runs, strict=True), 1)
        ]


def read_comparison(names: Sequence[str], root: str | Path = "runs") -> Comparison:
    """Reads runs, two at least, finished or not, which need not be of one environment: paths, ids under `root`, or `latest`.

    Raises UserError: fewer than two runs, the same one twice, no such run.
    """
    if len(names) < 2:
        raise UserError(f"a comparison needs at least 2 runs, not {len(names)}")
    directories = [RunDirectory.open(name, root=root) for name in names]
    places = [directory.path.resolve() for directory in directories]
    twice = next((directory for place, directory in enumerate(directories) if places[place] in places[:place]), None)
    if twice is not None:
        raise UserError(f"run {twice.path} is named twice")
    runs = tuple(map(read_directory, directories))
    keys = dict.fromkeys(key for run in runs for key in run.config if not key.startswith(NOT_A_SETTING))
    values = {key: tuple(str(run.config.get(key, "-")) for run in runs) for key in keys}
    environments = dict.fromkeys(str(run.config.get("env.id", NOT_KNOWN)) for run in runs)
    commits = dict.fromkeys(str(run.meta.get("git", {}).get("commit"))[:10] for run in runs)
    notes = []
    if len(environments) > 1:
        notes.append(f"The runs are of different environments, whose returns do not compare: {', '.join(environments)}.")
    if len(commits) > 1:
        notes.append(f"The runs were made by different versions of the code: {', '.join(commits)}.")
    notes += [f"{number}: {sentence}" for number, run in enumerate(runs, 1) for sentence in run.missing]
    return Comparison(runs, {key: found for key, found in values.items() if len(set(found)) > 1}, tuple(notes))


def show(comparison: Comparison, console: Console) -> None:
    """Prints the runs, the settings in which they differ, and the verdicts beside the greedy returns as small curves."""
    runs = Table("", "run")
    runs.columns[1].overflow = "fold"
    for name in ("steps", "last return", "best", "time"):
        runs.add_column(name, justify="right", no_wrap=True)
    for number, run in enumerate(comparison.runs, 1):
        returns = [amount(run.figures.get(f"{which}_return")) for which in ("last", "best")]
        numbers = (whole(run.figures.get("env_steps")), *returns, duration(run.figures.get("seconds")))
        runs.add_row(str(number), escape(run.name), *numbers)
    console.print(runs)
    if comparison.differences:
        settings = Table("setting", *(str(number) for number in range(1, len(comparison.runs) + 1)))
        for key, values in comparison.differences.items():
            settings.add_row(*map(escape, (key, *values)))
        console.print(settings)
    else:
        console.print("The runs have the same settings.")
    drawable = console.encoding.lower().startswith("utf")
    for number, (run, curve) in enumerate(zip(comparison.runs, _curves(comparison.runs), strict=True), 1):
        advice = "".join(f"; try {found.get('override')} ({found.get('reason')})" for found in run.figures.get("advice") or ())
        verdict = f"{run.ending}. {run.figures.get('verdict') or NOT_KNOWN}{advice}"
        console.print(f"{number}: {f'{curve} ' if drawable else ''}{verdict}", markup=False)
    for note in comparison.notes:
        console.print(f"note: {note}", markup=False)


def read_seeds(comparison: Comparison, options: argparse.Namespace) -> tuple[list[ComparedArm], Metric] | str | None:
    """What seeds of one setting have in common, and how settings differ, where there are seeds or `options` asks; or why not.

    Raises UserError where `options` asks for what cannot be had.
    """
    settings = {
        tuple((key, str(run.config.get(key))) for key in comparison.differences if key != SEED) for run in comparison.runs
    }
    asked = options.at is not None or options.metric != GREEDY
    if not asked and len(settings) == len(comparison.runs):
        return None
    try:
        return compare_runs(options.runs, options.root, options.metric, at=options.at, budget=Budget[options.budget])
    except UserError as error:
        if asked:
            raise
        return str(error)


def _curves(runs: Sequence[RunReading]) -> list[str]:
    """The greedy evaluations of each run in WIDTH characters, on common axes; blank where a run had none yet or had ended."""
    lines = [series(run.records, GREEDY) for run in runs]
    lines = [(steps[np.isfinite(values)], values[np.isfinite(values)]) for steps, values in lines]
    every = np.concatenate([values for _, values in lines])
    if not every.size:
        return [""] * len(runs)
    edges = np.linspace(0, max(steps[-1] for steps, _ in lines if steps.size), WIDTH + 1)[1:]
    low, span = every.min(), float(np.ptp(every)) or 1.0

    def drawn(steps: np.ndarray, values: np.ndarray) -> str:
        newest = np.searchsorted(steps, edges, side="right") - 1
        ended = np.searchsorted(edges, steps[-1]) if steps.size else -1
        heights = ((values - low) / span * (len(BLOCKS) - 1)).round().astype(int)
        return "".join(BLOCKS[heights[at]] if at >= 0 and place <= ended else " " for place, at in enumerate(newest))

    return [drawn(*line) for line in lines]


def render(comparison: Comparison, glossary: Glossary) -> str:
    """The whole page; `glossary` says what metrics mean."""
    records: dict[str, Any] = {label: run.records for label, run in zip(comparison.labels, comparison.runs, strict=True)}
    asked = [str(run.meta.get("primary_metric")) for run in comparison.runs]
    metrics = [metric for metric in dict.fromkeys((*METRICS, *asked)) if metric != GREEDY]
    return TEMPLATES.get_template("compare.html.j2").render(
        comparison=comparison,
        runs=list(zip(comparison.labels, comparison.runs, strict=True)),
        now=datetime.now().astimezone(),
        NOT_KNOWN=NOT_KNOWN,
        curve=charts.overlay(GREEDY, records, large=True),
        panels=[
            (metric, svg, glossary.of({metric: metric}))
            for metric in metrics
            if (svg := charts.overlay(metric, records)) is not None
        ],
    )


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    made = Parser(prog="python -m dreamerjax.compare", description=(__doc__ or "").splitlines()[0])
    made.add_argument("runs", nargs="*", metavar="RUN", help="run directories, their names under --root, or latest")
    made.add_argument("--root", type=user_path, default=Path("runs"), help="where runs lie (default: runs)")
    made.add_argument("--output", type=user_path, help="HTML file; by default compare.html beside the first run")
    made.add_argument("--metric", default=GREEDY, help=f"what seeds of a setting are compared by (default: {GREEDY})")
    made.add_argument("--at", type=float, help="the budget at which; needed if the runs are of unequal length")
    made.add_argument(
        "--budget", choices=[budget.name for budget in Budget], default=Budget.env_steps.name, help="what --at counts"
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    complete(parser)
    return exit_code(lambda: run(parser().parse_args(argv)))


def run(options: argparse.Namespace) -> None:
    """Print the comparison, and write it as a page."""
    options.runs = [name for name in options.runs if not os.path.isfile(name)]  # `runs/*` finds compare.html too
    comparison = read_comparison(options.runs, options.root)
    output = options.output or comparison.runs[0].directory.path.resolve().parent / "compare.html"
    seeds, console = read_seeds(comparison, options), Console()
    show(comparison, console)
    if isinstance(seeds, str):
        console.print(f"note: seeds are not put together: {seeds}", markup=False)
    elif seeds is not None:
        arms_table(*seeds, console)
    write_text(output, render(comparison, read_glossary(metrics_page())))
    say(str(output))


if __name__ == "__main__":
    sys.exit(main())
