"""Run and judge experiments: `python -m dreamerjax.experiment list | new | plan | run | report SLUG | compare RUN RUN...`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dreamerjax.core.console import say
from dreamerjax.core.errors import UserError
from dreamerjax.core.files import read_json_object, user_path
from dreamerjax.experiment import spec
from dreamerjax.experiment.design import Budget
from dreamerjax.experiment.states import runs

_INTERRUPTED = 130


def list_experiments(options: argparse.Namespace) -> None:
    """A table of all experiments: where they stand and what they ask."""
    table = Table("experiment", "date", "status", "runs", "verdict", "question")
    for slug in spec.slugs(options.experiments):
        try:
            experiment = spec.load(slug, options.experiments)
        except UserError as error:
            table.add_row(slug, "", "invalid", "", "", str(error))
            continue
        states = runs(experiment, options.root).values()
        finished = sum(state.state == "finished" for state in states)
        verdict = str(read_json_object(experiment.directory / "results.json").get("verdict", ""))
        status, progress = experiment.status.name, f"{finished}/{len(states)}"
        table.add_row(slug, str(experiment.date), status, progress, verdict, experiment.question)
    Console().print(table)


def new(options: argparse.Namespace) -> None:
    """Write a new experiment file."""
    say(str(spec.write_new(options.slug, options.experiments, options.question or spec.QUESTION)))


def run(options: argparse.Namespace) -> int:
    """Run what is not finished."""
    from dreamerjax.experiment import runner
    from dreamerjax.experiment.cluster import Cluster

    experiment = spec.load(options.slug, options.experiments)
    cluster = Cluster(options.cluster, options.time, options.cpus, options.partition) if options.cluster else None
    return runner.run(
        experiment,
        options.root,
        jobs=options.jobs,
        arms=options.arms,
        seeds=options.seeds,
        cluster=cluster,
        population=options.population,
    )


def plan(options: argparse.Namespace) -> None:
    """Say what an experiment can see, before it runs."""
    from dreamerjax.experiment import power

    say(power.plan(spec.load(options.slug, options.experiments), options.spread, options.effect))


def report(options: argparse.Namespace) -> None:
    """Write the report."""
    from dreamerjax.experiment.write_up import write_up

    say(str(write_up(spec.load(options.slug, options.experiments), options.root)))


def compare(options: argparse.Namespace) -> None:
    """Compare runs."""
    from dreamerjax.experiment.compare import compare_runs, show

    choices = {"at": options.at, "budget": Budget[options.budget], "across_families": options.across_families}
    show(*compare_runs(options.runs, options.root, options.metric, **choices), options.output)


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(prog="python -m dreamerjax.experiment", description=(__doc__ or "").splitlines()[0])
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: object, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(function=function)
        added.add_argument("--root", type=user_path, default=Path("runs"), help="where runs lie (default: runs)")
        added.add_argument("--experiments", type=user_path, default=Path("experiments"), help="where experiment files lie")
        return added

    command("list", list_experiments, "list the experiments")
    added = command("new", new, "write a new experiment file")
    added.add_argument("slug")
    added.add_argument("--question", help="the question it is to answer")
    added = command("run", run, "run what is not finished of an experiment")
    added.add_argument("slug")
    added.add_argument("--jobs", type=int, default=1, help="processes at once, each on its own share of the cores")
    added.add_argument("--seeds", type=int, nargs="+", help="only these")
    added.add_argument("--arms", nargs="+", help="only these")
    added.add_argument("--cluster", choices=("slurm", "local"), help="through submitit, instead of processes of this one")
    added.add_argument(
        "--population", action="store_true", help="train runs that differ in seed and traced numbers alone in one process"
    )
    added.add_argument("--partition", help="of the cluster")
    added.add_argument("--time", type=int, default=60, metavar="MINUTES", help="of each job of the cluster")
    added.add_argument("--cpus", type=int, default=2, help="of each job of the cluster")
    added = command("plan", plan, "say how small an effect an experiment can see, and how many seeds it needs")
    added.add_argument("slug", help="its name, directory or file")
    added.add_argument(
        "--spread", type=float, help="between seeds of an arm (default: of the newest results of the same metric)"
    )
    added.add_argument("--effect", type=float, help="to be seen, in units of the metric (default: hypothesis.by)")
    added = command("report", report, "write the report of an experiment")
    added.add_argument("slug")
    added = command("compare", compare, "compare runs")
    added.add_argument("runs", nargs="+", metavar="RUN")
    added.add_argument("--metric", default="eval/greedy/return_mean")
    added.add_argument("--at", type=float, help="the budget at which to compare; needed if the runs are of unequal length")
    added.add_argument("--budget", choices=[budget.name for budget in Budget], default=Budget.env_steps.name)
    added.add_argument("--across-families", action="store_true", help="allow runs of different model families")
    added.add_argument("--output", type=user_path, help="a file for the figure")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    options = parser().parse_args(argv)
    try:
        return options.function(options) or 0
    except UserError as error:
        say(f"error: {error}", sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
