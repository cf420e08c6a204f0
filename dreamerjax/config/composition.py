"""Configuration files, overrides and a program's settings to a checked `Config`, and back, by Hydra and OmegaConf."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar, cast

from hydra import compose, initialize, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dreamerjax.config.flat import alternatives, key_types
from dreamerjax.config.help import Group
from dreamerjax.config.keys import written
from dreamerjax.config.overrides import explain, is_open, normalise, parents, require_truth, unknown_key
from dreamerjax.config.population import NAME, is_population, require_alone, settings
from dreamerjax.config.schema import Config, PopulationConfig, RunConfig
from dreamerjax.config.validation import check_ranges, validate
from dreamerjax.core.errors import UserError
from dreamerjax.core.run_directory import find_run

T = TypeVar("T")
HYDRA = "1.3"  # the Hydra version whose behaviour is asked for
_LONGEST_NAME = 150  # characters of a run's name that a sweep makes
FIXED_AT_START = ("mode", "from_", "reset_actor_critic")
_COMPOSING = threading.Lock()  # Hydra keeps what it composes in variables of the process


def config_directory() -> Path:
    """The checkout's `configs/` where the package lies in one, else the copy inside the installed package."""
    package = Path(__file__).resolve().parent.parent
    checkout = package.parent
    in_checkout = (checkout / "pyproject.toml").is_file() and (checkout / "configs" / "config.yaml").is_file()
    return checkout / "configs" if in_checkout else package / "_configs"


def groups_of(schema: type) -> dict[str, bool]:
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
        for name, always in sorted(groups_of(schema).items(), key=lambda group: not group[1])
    ]


def _by_size(path: Path) -> list[tuple[int, str]]:
    """Sorts by letters, and numbers by what they count."""
    return [(int(part or 0), "") if i % 2 else (0, part) for i, part in enumerate(re.split(r"(\d+)", path.stem))]


def _comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    comments = takewhile(lambda line: line.startswith("#"), lines)
    return " ".join(line.removeprefix("#").strip() for line in comments if not line.startswith("# @package"))


def register(schema: type) -> tuple[str | None, str]:
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
def one_line_errors(schema: type, overrides: Sequence[str]) -> Iterator[None]:
    """Turn the exceptions of Hydra and OmegaConf into UserError."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        raise explain(error, overrides, key_types(schema), groups_of(schema)) from error


def refuse_extra(node: Any, types: dict[str, Any], groups: Collection[str], prefix: str = "") -> None:
    """Raise UserError for a key outside the schema, which Hydra's `+` and a file can add, or a value for a section."""
    if not isinstance(node, DictConfig):
        raise UserError(f"{prefix.rstrip('.')} is a section, not a value")
    for name in node:
        key = f"{prefix}{name!s}"
        if key not in types:
            raise unknown_key(key, types, groups)
        if is_dataclass(types[key]):
            refuse_extra(node[name], types, groups, f"{key}.")


def to_dataclass(schema: type[T], node: DictConfig) -> T:
    refuse_extra(node, key_types(schema), groups_of(schema))
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


def compose_layers(schema: type, overrides: Sequence[str], *, with_hydra: bool = False) -> DictConfig:
    """The layers and the overrides, not yet checked; with Hydra's own settings at `hydra` if wanted."""
    arguments = normalise(overrides, key_types(schema), groups_of(schema), sweep=False)
    with one_line_errors(schema, overrides), _own_hydra():
        directory, name = register(schema)
        with initialize_config_dir(directory, version_base=HYDRA) if directory else initialize(version_base=HYDRA):
            return compose(name, arguments, return_hydra_config=with_hydra)


def load_structured(schema: type[T], overrides: Sequence[str] = ()) -> T:
    """Read `key=value` overrides into an instance of a dataclass; fields without a default are required.

    Raises UserError: a key, group, option, type or value that is not valid.
    """
    node = compose_layers(schema, overrides)
    with one_line_errors(schema, overrides):
        return to_dataclass(schema, node)


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
    words = normalise(overrides, key_types(Config), groups_of(Config), sweep=False)
    keys = [override.key_or_group for override in OverridesParser.create().parse_overrides(words)]
    return _continued(config.resume or "", config.run.root, {key: OmegaConf.select(named, key) for key in keys})


def _continued(run: str, root: str, changes: Mapping[str, Any]) -> Config:
    """The configuration of the run to continue with these keys changed."""
    saved = OmegaConf.structured(config_from_yaml(find_run(run, root) / "config.yaml"))
    for key, value in changes.items():
        if key in groups_of(Config):
            raise _not_with_resume(key)
        if key in FIXED_AT_START or key.partition(".")[0] == "population":
            raise UserError(f"{key.rstrip('_')}= cannot be combined with resume=: it says how a run begins")
        OmegaConf.update(saved, key, value)
    resumed = to_dataclass(Config, saved)
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
    types, groups = key_types(Config), groups_of(Config)
    named = dict(_dotted(settings, types))
    options = [f"{key}={named.pop(key)}" for key in list(named) if key in groups]
    values = {key: _value(key, value, types) for key, value in named.items()}
    run = values.get("resume")
    if options and (config is not None or run is not None):
        group = options[0].partition("=")[0]
        raise _not_with_resume(group) if run is not None else UserError(f"{group}= cannot be combined with config=")
    words = [f"{key}={written(value)}" for key, value in values.items()]
    with one_line_errors(Config, words):
        if run is not None:
            return _continued(str(run), str(values.get("run.root", RunConfig.root)), values)
        node = compose_layers(Config, options) if config is None else cast(DictConfig, OmegaConf.structured(config))
        for key, value in values.items():
            OmegaConf.update(node, key, value, force_add=key not in types)
        return to_dataclass(Config, node)


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
        raise unknown_key(key, types, groups_of(Config))
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
        refuse_extra(loaded, types, ())
        return to_dataclass(Config, cast(DictConfig, OmegaConf.merge(OmegaConf.structured(Config), loaded)))
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
