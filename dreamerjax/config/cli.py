"""Command line and configuration files to dataclasses, and back: the only module that imports Hydra and OmegaConf.

An entry point is `sys.exit(main(train))` with `train(config: Config) -> int | None`, or with a dataclass of its own
`sys.exit(main(evaluate, schema=EvaluateOptions))`.
"""

from __future__ import annotations

import io
import logging
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field, is_dataclass, replace
from functools import reduce
from itertools import takewhile
from operator import getitem
from pathlib import Path
from typing import Any, TypeVar, cast

from hydra import compose, initialize, initialize_config_dir
from hydra import main as hydra_main
from hydra._internal.utils import get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dreamerjax.config.completion import complete, settings_parser
from dreamerjax.config.flat import alternatives, key_types, walk
from dreamerjax.config.help import Group, help_text, purpose
from dreamerjax.config.keys import written
from dreamerjax.config.overrides import explain, is_open, normalise, parents, require_truth, unknown_key
from dreamerjax.config.population import NAME, is_population, require_alone, settings
from dreamerjax.config.schema import Config, PopulationConfig, RunConfig
from dreamerjax.config.synonyms import SYNONYMS
from dreamerjax.config.validation import check_ranges, validate
from dreamerjax.core.console import say
from dreamerjax.core.errors import UserError, exit_code
from dreamerjax.core.run_directory import find_run

T = TypeVar("T")
_HYDRA = "1.3"  # the Hydra version whose behaviour is asked for
_BY_SIGNAL = 128  # exit codes above it
_LONGEST_NAME = 150  # characters of a run's name that a sweep makes
FIXED_AT_START = ("mode", "from_", "reset_actor_critic")
_COMPOSING = threading.Lock()  # Hydra keeps what it composes in variables of the process


@dataclass(frozen=True)
class Result:
    """What a task ends with: an exit code, and what the table that ends a sweep says of it, by column."""

    exit_code: int
    row: Mapping[str, str] = field(default_factory=dict)


Task = Callable[[Any], int | Result | None]
Together = Callable[[Sequence[Config]], Sequence[Result]]


def _code(result: int | Result | None) -> int:
    return result.exit_code if isinstance(result, Result) else result or 0


def config_directory() -> Path:
    """The checkout's `configs/` where the package lies in one, else the copy inside the installed package."""
    package = Path(__file__).resolve().parent.parent
    checkout = package.parent
    in_checkout = (checkout / "pyproject.toml").is_file() and (checkout / "configs" / "config.yaml").is_file()
    return checkout / "configs" if in_checkout else package / "_configs"


def _groups(schema: type) -> dict[str, bool]:
    """Each configuration group, and whether the primary configuration already chooses an option of it."""
    if schema is not Config:
        return {}
    directory = config_directory()
    return {path.name: path.name != "experiment" for path in sorted(directory.iterdir()) if path.is_dir()}


def config_groups(schema: type = Config, chosen: Mapping[str, str] | None = None) -> list[Group]:
    """The configuration groups, those that always have an option first, with what each option's file says in comments."""
    return [
        Group(
            f"{'' if always else '+'}{name}=",
            {path.stem: _comment(path) for path in sorted((config_directory() / name).glob("*.yaml"), key=_by_size)},
            (chosen or {}).get(name, ""),
        )
        for name, always in sorted(_groups(schema).items(), key=lambda group: not group[1])
    ]


def _by_size(path: Path) -> list[tuple[int, str]]:
    """Sorts by letters, and numbers by what they count."""
    return [(int(part or 0), "") if i % 2 else (0, part) for i, part in enumerate(re.split(r"(\d+)", path.stem))]


def _comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = takewhile(lambda line: line.startswith("#"), lines)
    return " ".join(line.removeprefix("#").strip() for line in comments if not line.startswith("# @package"))


def _register(schema: type) -> tuple[str | None, str]:
    """Put the schema into Hydra's store; return the directory (if any) and name of its primary configuration."""
    store = ConfigStore.instance()
    if schema is Config:
        store.store(name="base", node=Config)
        return str(config_directory()), "config"
    store.store(name=f"{schema.__name__}_base", node=schema)
    settings = cast(DictConfig, OmegaConf.load(config_directory() / "config.yaml")).hydra
    defaults = [f"{schema.__name__}_base", "_self_", {"override hydra/job_logging": "none"}]
    store.store(name=schema.__name__, node={"defaults": defaults, "hydra": settings})
    return None, schema.__name__


@contextmanager
def _one_line_errors(schema: type, overrides: Sequence[str]) -> Iterator[None]:
    """Turn the exceptions of Hydra and OmegaConf into UserError."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        raise explain(error, overrides, key_types(schema), _groups(schema)) from error


def _refuse_extra(node: Any, types: dict[str, Any], groups: Collection[str], prefix: str = "") -> None:
    """Raise UserError for a key outside the schema, which Hydra's `+` and a file can add, or a value for a section."""
    if not isinstance(node, DictConfig):
        raise UserError(f"{prefix.rstrip('.')} is a section, not a value")
    for name in node:
        key = f"{prefix}{name!s}"
        if key not in types:
            raise unknown_key(key, types, groups)
        if is_dataclass(types[key]):
            _refuse_extra(node[name], types, groups, f"{key}.")


def _to_dataclass(schema: type[T], node: DictConfig) -> T:
    _refuse_extra(node, key_types(schema), _groups(schema))
    config = OmegaConf.to_object(node)
    assert isinstance(config, schema)
    new_run: Any = config
    if schema is not Config:
        check_ranges(config)
    elif new_run.resume is None:  # a run's own configuration is checked once it is complete
        validate(new_run)
    return config


@contextmanager
def _own_hydra() -> Iterator[None]:
    """One thread at a time, and apart from the Hydra of a program that calls this package from within its own."""
    with _COMPOSING:
        theirs, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
        try:
            yield
        finally:
            GlobalHydra.instance().hydra = theirs


def _compose(schema: type, overrides: Sequence[str], *, with_hydra: bool = False) -> DictConfig:
    """The layers and the overrides, not yet checked; with Hydra's own settings at `hydra` if wanted."""
    arguments = normalise(overrides, key_types(schema), _groups(schema), sweep=False)
    with _one_line_errors(schema, overrides), _own_hydra():
        directory, name = _register(schema)
        with initialize_config_dir(directory, version_base=_HYDRA) if directory else initialize(version_base=_HYDRA):
            return compose(name, arguments, return_hydra_config=with_hydra)


def load_structured(schema: type[T], overrides: Sequence[str] = ()) -> T:
    """Read `key=value` overrides into an instance of a dataclass; fields without a default are required.

    Raises UserError: a key, group, option, type or value that is not valid.
    """
    node = _compose(schema, overrides)
    with _one_line_errors(schema, overrides):
        return _to_dataclass(schema, node)


def load_config(overrides: Sequence[str] = ()) -> Config:
    """Compose the three layers (dataclasses, `configs/`, overrides) and check every value.

    With `resume=RUN` the run's own configuration takes the place of the first two.

    Raises UserError: a key, group, option, type or value that is not valid; no such run.
    """
    config = load_structured(Config, overrides)
    require_alone(config)
    return config if config.resume is None else _resumed(config, overrides)


def load_members(overrides: Sequence[str] = ()) -> list[Config]:
    """The configurations of all runs that the command line asks for: one, or the members of a population.

    Each is that of a run which is trained alone. Several runs to `resume` are members too.

    Raises UserError: as `load_config` does; members that are none.
    """
    config = load_structured(Config, overrides)
    if config.resume is not None:
        runs = [config.resume] if os.path.isdir(config.resume) else [run.strip() for run in config.resume.split(",")]
        if twice := next((run for run in runs if runs.count(run) > 1), None):
            raise UserError(f"resume={config.resume}: {twice} stands there twice")
        return [_resumed(replace(config, resume=run), overrides) for run in runs]
    if not is_population(config):
        return [config]
    common, members = replace(config, population=PopulationConfig()), []
    for own in settings(config.population):
        member = config_from_settings(own, common)
        if NAME not in own:
            member.run.name = run_name(member, {key: written(value) for key, value in own.items()})
        members.append(member)
    return members


def _resumed(config: Config, overrides: Sequence[str]) -> Config:
    """The configuration of the run to continue, with the keys that the command line names as in `config`."""
    named = OmegaConf.structured(config)
    words = normalise(overrides, key_types(Config), _groups(Config), sweep=False)
    keys = [override.key_or_group for override in OverridesParser.create().parse_overrides(words)]
    return _continued(config.resume or "", config.run.root, {key: OmegaConf.select(named, key) for key in keys})


def _continued(run: str, root: str, changes: Mapping[str, Any]) -> Config:
    """The configuration of the run to continue with these keys changed."""
    saved = OmegaConf.structured(config_from_yaml(find_run(run, root) / "config.yaml"))
    for key, value in changes.items():
        if key in _groups(Config):
            raise _not_with_resume(key)
        if key in FIXED_AT_START or key.partition(".")[0] == "population":
            raise UserError(f"{key.rstrip('_')}= cannot be combined with resume=: it says how a run begins")
        OmegaConf.update(saved, key, value)
    resumed = _to_dataclass(Config, saved)
    validate(resumed)
    return resumed


def _not_with_resume(group: str) -> UserError:
    return UserError(f"{group}= cannot be combined with resume=: the run keeps its own; single keys can be changed")


def config_from_settings(settings: Mapping[str, Any], config: Config | None = None) -> Config:
    """The configuration that a program asks for, checked like one from the command line.

    Args:
        settings: values by key, dotted or as nested mappings (`{"train": {"seed": 1}}` is `{"train.seed": 1}`), and the
            options of groups (`{"size": "tiny"}`). With `resume`, what changes in that run.
        config: what they are put on; by default what the groups make.

    Raises:
        UserError: as `load_config` does; a group together with `config` or `resume`.
    """
    types, groups = key_types(Config), _groups(Config)
    named = dict(_dotted(settings, types))
    options = [f"{key}={named.pop(key)}" for key in list(named) if key in groups]
    values = {key: _value(key, value, types) for key, value in named.items()}
    run = values.get("resume")
    if options and (config is not None or run is not None):
        group = options[0].partition("=")[0]
        raise _not_with_resume(group) if run is not None else UserError(f"{group}= cannot be combined with config=")
    words = [f"{key}={written(value)}" for key, value in values.items()]
    with _one_line_errors(Config, words):
        if run is not None:
            return _continued(str(run), str(values.get("run.root", RunConfig.root)), values)
        node = _compose(Config, options) if config is None else cast(DictConfig, OmegaConf.structured(config))
        for key, value in values.items():
            OmegaConf.update(node, key, value, force_add=key not in types)
        return _to_dataclass(Config, node)


def _dotted(settings: Mapping[str, Any], types: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each key with its value; a mapping is the keys below it."""
    for name, value in settings.items():
        key = f"{prefix}{name}"
        key = f"{key}_" if key not in types and f"{key}_" in types else key
        if isinstance(value, Mapping):
            yield from _dotted(value, types, f"{key}.")
        else:
            yield key, value


def _value(key: str, value: Any, types: dict[str, Any]) -> Any:
    """What OmegaConf can hold, of NumPy, pathlib and tuples too.

    Raises UserError for an unknown key, or a number for true or false.
    """
    if key not in types and not any(is_open(types.get(parent)) for parent in parents(key)):
        raise unknown_key(key, types, _groups(Config))
    require_truth(key, value, types)
    value = value.tolist() if hasattr(value, "tolist") else os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(value, float) and value.is_integer() and int in alternatives(types.get(key)):
        return int(value)
    return list(value) if isinstance(value, tuple) else value


def config_to_yaml(config: Config) -> str:
    """Every key with its value: what a run directory keeps and `config_from_yaml` reads."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def config_from_yaml(path: str | Path) -> Config:
    """Read and check what `config_to_yaml` wrote; a key that is lacking has its default.

    Raises UserError: the file cannot be read, or has an unknown key, a wrong type or an impossible value.
    """
    types = key_types(Config)
    try:
        loaded = OmegaConf.load(path)
        if not isinstance(loaded, DictConfig):
            raise UserError("not a mapping of configuration keys")
        _refuse_extra(loaded, types, ())
        return _to_dataclass(Config, cast(DictConfig, OmegaConf.merge(OmegaConf.structured(Config), loaded)))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    except RecursionError:
        raise UserError(f"{path} is not valid YAML: it is nested too deeply") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {explain(error, (), types, ())}") from error


def run_name(config: Config, swept: Mapping[str, str] | None = None) -> str:
    """What a run directory is called: `run.name`, or else the environment without its namespace; then the swept values."""
    own = config.run.name or re.split("[/:]", config.env.id)[-1]
    told = ("env", "env.id", "run.name")  # what the first part says already
    parts = [f"{key.rpartition('.')[2]}-{value}" for key, value in (swept or {}).items() if key not in told]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "_".join([own, *parts])).strip("-")[:_LONGEST_NAME]


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
        if argument[:1] == "-" and (key in key_types(schema) or key in _groups(schema)):
            raise UserError(f"{argument}: write {key}=value, without dashes")
        if argument[:1] == "-" and key.replace("-", "_") in SYNONYMS:
            raise unknown_key(key, key_types(schema), _groups(schema))
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
    directory, name = _register(schema)
    sweep = any(argument in ("-m", "--multirun") for argument in arguments)
    words = [
        f"hydra.job.name='{Path(sys.argv[0]).stem}'",
        *normalise(arguments, key_types(schema), _groups(schema), sweep=sweep),
    ]
    words.sort(key=lambda word: "=" in word and word[:1] != "-")  # argparse wants all overrides in one place
    codes: list[int] = []
    rows: list[Mapping[str, str]] = []
    keys: set[str] = set()  # that are swept

    def job(node: DictConfig) -> None:
        if any(code > _BY_SIGNAL for code in codes):
            return
        config: Any = _to_dataclass(schema, node)
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
        with _started_with(words), _one_line_errors(schema, arguments):
            parsed = OverridesParser.create().parse_overrides([word for word in words if "=" in word and word[:1] != "-"])
            keys.update(override.key_or_group for override in parsed if override.is_sweep_override())
            hydra_main(config_path=directory, config_name=name, version_base=_HYDRA)(job)()
    finally:
        if sweep and len(rows) > 1:
            _print_sweep(rows)
    return next((code for code in codes if code), 0)


def _help(task: Task, arguments: Sequence[str], schema: type) -> str:
    """The keys with the values that the other arguments give them, however incomplete these are; those of a sweep do not."""
    spec, about = sys.modules["__main__"].__spec__, sys.modules[task.__module__].__doc__
    sweep = {"-m", "--multirun"} & set(arguments)
    overrides = [argument for argument in arguments if argument[:1] != "-" and not sweep]
    node = _compose(schema, overrides, with_hydra=True)
    chosen = {str(name): str(option) for name, option in node.hydra.runtime.choices.items()}
    node = OmegaConf.masked_copy(node, [str(name) for name in node if name != "hydra"])
    _refuse_extra(node, key_types(schema), _groups(schema))
    if schema is Config and node.resume is not None:
        node, chosen = OmegaConf.structured(load_config(overrides)), {}
    with _one_line_errors(schema, overrides):
        values: Any = OmegaConf.to_container(node, resolve=True, enum_to_str=True)
    return help_text(
        f"python -m {spec.name.removesuffix('.__main__')}" if spec else sys.argv[0],
        purpose(about),
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
