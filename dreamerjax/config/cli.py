"""The command line of an entry point: its configuration, help, flags and sweeps.

An entry point is `sys.exit(main(train))` with `train(config: Config) -> int | None`, or with a dataclass of its own
`sys.exit(main(evaluate, schema=EvaluateOptions))`.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

from hydra import main as hydra_main
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from dreamerjax.config.completion import complete, settings_parser
from dreamerjax.config.composition import (
    HYDRA,
    compose_layers,
    config_groups,
    groups_of,
    load_config,
    load_members,
    load_structured,
    one_line_errors,
    refuse_extra,
    register,
    run_name,
    to_dataclass,
)
from dreamerjax.config.flat import key_types, walk
from dreamerjax.config.help import help_text
from dreamerjax.config.overrides import normalise, unknown_key
from dreamerjax.config.population import require_alone
from dreamerjax.config.schema import Config
from dreamerjax.config.synonyms import SYNONYMS
from dreamerjax.core.console import say
from dreamerjax.core.errors import UserError, exit_code

_BY_SIGNAL = 128  # exit codes above it


@dataclass(frozen=True)
class Result:
    """What a task ends with: an exit code, and what the table that ends a sweep says of it, by column."""

    exit_code: int
    row: Mapping[str, str] = field(default_factory=dict)


Task = Callable[[Any], int | Result | None]
Together = Callable[[Sequence[Config]], Sequence[Result]]


def _code(result: int | Result | None) -> int:
    return result.exit_code if isinstance(result, Result) else result or 0


def _print_sweep(rows: Sequence[Mapping[str, str]]) -> None:
    """One table of all tasks of a sweep: what differed, and how each ended."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    columns, table = list(dict.fromkeys(name for row in rows for name in row)), Table()
    for name in columns:
        table.add_column(escape(name), overflow="fold")
    for row in rows:
        table.add_row(*(escape(row.get(name, "")) for name in columns))
    Console().print(table)


def _refuse_flags(arguments: Sequence[str], schema: type) -> None:
    """Raise UserError for a flag that there is not, which Hydra would answer with its usage, and for what goes with none."""
    for argument in arguments:
        key = argument.lstrip("-").partition("=")[0]
        if argument[:1] == "-" and (key in key_types(schema) or key in groups_of(schema)):
            raise UserError(f"{argument}: write {key}=value, without dashes")
        if argument[:1] == "-" and key.replace("-", "_") in SYNONYMS:
            raise unknown_key(key, key_types(schema), groups_of(schema))
    parser, said = get_args_parser(), io.StringIO()
    try:
        with redirect_stderr(said):
            _, unknown = parser.parse_known_args([word for word in arguments if word[:1] == "-" or "=" not in word])
    except SystemExit:
        raise UserError(said.getvalue().strip().splitlines()[-1].partition("error: ")[2]) from None
    if unknown:
        raise UserError(f"{unknown[0]}: there is no such flag; -m runs a sweep, --help tells the keys")
    if schema is Config and any(argument.startswith("resume=") for argument in arguments):
        raise UserError("resume= cannot be combined with flags: name the run and the keys to change, nothing else")
    if population := next((argument for argument in arguments if argument.lstrip("+").startswith("population.")), None):
        raise UserError(f"{population} cannot be combined with flags: a sweep trains its runs one after the other")


@contextmanager
def _started_with(words: Sequence[str]) -> Iterator[None]:
    """As if the program had been started with these; Hydra raises its errors instead of printing them. All is put back."""
    argv, full_error, root = sys.argv, os.environ.get("HYDRA_FULL_ERROR"), logging.getLogger()
    handlers = list(root.handlers)
    sys.argv, os.environ["HYDRA_FULL_ERROR"] = [argv[0], *words], "1"
    try:
        yield
    finally:
        sys.argv = argv
        root.handlers[:] = handlers  # Hydra's own write to the streams of this moment
        os.environ.pop("HYDRA_FULL_ERROR")
        if full_error is not None:
            os.environ["HYDRA_FULL_ERROR"] = full_error


def _run_with_hydra(task: Task, arguments: Sequence[str], schema: type) -> int:
    """Hand arguments with flags to Hydra: `-m` sweeps, and ends with one table of what the tasks say; `--cfg job` prints.

    A signal ends the whole sweep.
    """
    _refuse_flags(arguments, schema)
    directory, name = register(schema)
    sweep = any(argument in ("-m", "--multirun") for argument in arguments)
    words = [
        f"hydra.job.name='{Path(sys.argv[0]).stem}'",
        *normalise(arguments, key_types(schema), groups_of(schema), sweep=sweep),
    ]
    words.sort(key=lambda word: "=" in word and word[:1] != "-")  # argparse wants all overrides in one place
    codes: list[int] = []
    rows: list[Mapping[str, str]] = []
    keys: set[str] = set()  # that are swept

    def job(node: DictConfig) -> None:
        if any(code > _BY_SIGNAL for code in codes):
            return
        config: Any = to_dataclass(schema, node)
        if schema is Config:
            require_alone(config)
        given = (word.lstrip("+").partition("=") for word in HydraConfig.get().overrides.task)
        swept = {key: value for key, _, value in given if key in keys}
        if schema is Config and swept:
            config.run.name = run_name(config, swept)
        try:
            result = task(config)
        except UserError as error:
            rows.append({**swept, "ended": f"error: {error}"})
            raise
        codes.append(_code(result))
        if isinstance(result, Result):
            rows.append({**swept, **result.row})

    try:
        with _started_with(words), one_line_errors(schema, arguments):
            parsed = OverridesParser.create().parse_overrides([word for word in words if "=" in word and word[:1] != "-"])
            keys.update(override.key_or_group for override in parsed if override.is_sweep_override())
            hydra_main(config_path=directory, config_name=name, version_base=HYDRA)(job)()
    finally:
        if sweep and len(rows) > 1:
            _print_sweep(rows)
    return next((code for code in codes if code), 0)


def _help(task: Task, arguments: Sequence[str], schema: type) -> str:
    """The keys with the values that the other arguments give them, however incomplete these are; those of a sweep do not."""
    spec, about = sys.modules["__main__"].__spec__, sys.modules[task.__module__].__doc__
    sweep = {"-m", "--multirun"} & set(arguments)
    overrides = [argument for argument in arguments if argument[:1] != "-" and not sweep]
    node = compose_layers(schema, overrides, with_hydra=True)
    chosen = {str(name): str(option) for name, option in node.hydra.runtime.choices.items()}
    node = OmegaConf.masked_copy(node, [str(name) for name in node if name != "hydra"])
    refuse_extra(node, key_types(schema), groups_of(schema))
    if schema is Config and node.resume is not None:
        node, chosen = OmegaConf.structured(load_config(overrides)), {}
    with one_line_errors(schema, overrides):
        values: Any = OmegaConf.to_container(node, resolve=True, enum_to_str=True)
    return help_text(
        f"python -m {spec.name.removesuffix('.__main__')}" if spec else sys.argv[0],
        about,
        [replace(entry, value=reduce(getitem, entry.key.split("."), values)) for entry in walk(schema)],
        config_groups(schema, chosen),
        everything="--help-all" in arguments,
        width=min(shutil.get_terminal_size((100, 0)).columns, 128),
    )


def complete_settings(schema: type = Config) -> None:
    """What `complete` does, for the keys, groups and values of a schema."""
    complete(lambda: settings_parser(walk(schema), config_groups(schema)))


def main(task: Task, argv: Sequence[str] | None = None, schema: type = Config, *, together: Together | None = None) -> int:
    """Run an entry point and return its exit code. `together` is its task for several runs, where it has one.

    A UserError becomes one line on stderr and its own exit code (2 for bad input), Ctrl-C becomes 130.
    """
    complete_settings(schema)
    arguments = list(sys.argv[1:] if argv is None else argv)
    if schema is not Config and "run" in key_types(schema) and not any(word[:1] == "-" for word in arguments):
        arguments = [word if "=" in word else f"run={word}" for word in arguments]  # `evaluate RUN`
    return exit_code(lambda: _main(task, arguments, schema, together))


def _require_one_run(arguments: Sequence[str]) -> None:
    """Raise UserError where several are named, of which the last one alone would be taken."""
    runs = [word.partition("=")[2] for word in arguments if word.startswith("run=")]
    if len(runs) > 1:
        raise UserError(f"one run at a time, not {', '.join(runs)}")


def _main(task: Task, arguments: Sequence[str], schema: type, together: Together | None) -> int:
    if {"-h", "--help", "--help-all"} & set(arguments):
        say(_help(task, arguments, schema))
        return 0
    if any(argument[:1] == "-" for argument in arguments):
        return _run_with_hydra(task, arguments, schema)
    if schema is not Config:
        _require_one_run(arguments)
        return _code(task(load_structured(schema, arguments)))
    members = [load_config(arguments)] if together is None else load_members(arguments)
    if together is None or len(members) == 1:
        return _code(task(members[0]))
    results = together(members)
    _print_sweep([result.row for result in results])
    return next((result.exit_code for result in results if result.exit_code), 0)
