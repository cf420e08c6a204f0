"""Run and judge experiments: `python -m dreamerjax.experiment list | new | plan | run | report SLUG`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dreamerjax.config.completion import complete
from dreamerjax.core.console import Parser, say
from dreamerjax.core.errors import UserError, exit_code
from dreamerjax.core.files import read_json_object, user_path
from dreamerjax.experiment import spec
from dreamerjax.experiment.states import runs


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
    path = spec.write_new(options.slug, options.experiments, options.question or spec.QUESTION)
    say(f"{path}: say in it what changes, then python -m dreamerjax.experiment run {options.slug}")


def run(options: argparse.Namespace) -> int:
    """Run what is not finished."""
    from dreamerjax.experiment import runner
    from dreamerjax.experiment.executors import Cluster

    if options.address is not None and options.cluster != "dask":
        raise UserError("--address is the one of a Dask scheduler: it needs --cluster dask")
    experiment = spec.load(options.slug, options.experiments)
    asked = {"minutes": options.time, "cpus": options.cpus, "partition": options.partition, "address": options.address}
    cluster = Cluster(options.cluster, **asked) if options.cluster else None
    code = runner.run(
        experiment,
        options.root,
        jobs=options.jobs,
        arms=options.arms,
        seeds=options.seeds,
        cluster=cluster,
        population=options.population,
    )
    if code == 0:
        say(f"what they say: python -m dreamerjax.experiment report {options.slug}")
    return code


def plan(options: argparse.Namespace) -> None:
    """Say what an experiment can see, before it runs."""
    from dreamerjax.experiment import power

    say(power.plan(spec.load(options.slug, options.experiments), options.spread, options.effect))


def report(options: argparse.Namespace) -> None:
    """Write the report."""
    from dreamerjax.experiment.write_up import write_up

    say(str(write_up(spec.load(options.slug, options.experiments), options.root)))


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = Parser(prog="python -m dreamerjax.experiment", description=(__doc__ or "").splitlines()[0])
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
    added.add_argument(
        "--population", action="store_true", help="train runs that differ in seed and traced numbers alone in one process"
    )
    clusters = "instead of processes of this one: slurm or local through submitit, or workers of dask"
    added.add_argument("--cluster", choices=("slurm", "local", "dask"), help=clusters)
    added.add_argument("--partition", help="of SLURM")
    added.add_argument("--time", type=int, default=60, metavar="MINUTES", help="of each job of submitit")
    added.add_argument("--cpus", type=int, default=2, help="of each job of submitit")
    scheduler = "of a Dask scheduler, tcp://HOST:PORT (default: --jobs workers are started on this machine)"
    added.add_argument("--address", help=scheduler)
    added = command("plan", plan, "say how small an effect an experiment can see, and how many seeds it needs")
    added.add_argument("slug", help="its name, directory or file")
    added.add_argument(
        "--spread", type=float, help="between seeds of an arm (default: of the newest results of the same metric)"
    )
    added.add_argument("--effect", type=float, help="to be seen, in units of the metric (default: hypothesis.by)")
    added = command("report", report, "write the report of an experiment")
    added.add_argument("slug")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    complete(parser)
    options = parser().parse_args(argv)
    return exit_code(lambda: options.function(options))


if __name__ == "__main__":
    sys.exit(main())
