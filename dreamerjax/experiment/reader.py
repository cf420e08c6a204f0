"""Mappings of text, as an experiment file has them, into dataclasses; complaints name the file and the key."""

from __future__ import annotations

import datetime
import math
from collections.abc import Collection, Iterable
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml

from dreamerjax.config.flat import alternatives, describe
from dreamerjax.core.errors import UserError

T = TypeVar("T")
_TRUTH = {"true": True, "false": False}
_WORDS: dict[Any, str] = {
    datetime.date: "a date such as 2026-11-25",
    tuple[int, ...]: "a list of whole numbers",
    tuple[str, ...]: "a list of text, such as [a, b]; an override is one word, key=value",
}


class _Loader(yaml.BaseLoader):
    """Every scalar is the text that the file has (so `1e-5` and `off` are what they look like); no key comes twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [str(key.value) for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{name} comes twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(file: Path) -> Any:
    """The content of a YAML file: dictionaries, lists and text. Raises UserError: the file cannot be read or is not YAML."""
    try:
        return yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{file} is not valid YAML: {error}") from error
    except RecursionError:
        raise UserError(f"{file} is not valid YAML: it is nested too deeply") from None


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """The nearest known word as a question; `otherwise` if none is near."""
    near = get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}?" if near else otherwise


class Section:
    """A mapping of a file; `name` is its dotted key, empty for the whole file."""

    def __init__(self, file: Path, name: str, data: Any, keys: Collection[str] | None) -> None:
        """Refuse what is not a mapping, and keys other than `keys` (None: any)."""
        self.file, self.name = file, name
        if not isinstance(data, dict):
            expected = f" with the keys {', '.join(keys)}" if keys else ""
            raise UserError(f"{file}: {name or 'the file'} must be a mapping{expected}")
        self.data: dict[str, Any] = data
        for key in data:
            if not isinstance(key, str):
                raise self.error(str(key), "must be text")
            if keys is not None and key not in keys:
                hint = did_you_mean(key, keys, f"valid: {', '.join(keys)}")
                raise UserError(f"{file}: unknown key {self.full(key)}; {hint}")

    def full(self, key: str) -> str:
        """The dotted key from the top of the file."""
        return f"{self.name}.{key}" if self.name else key

    def error(self, key: str, message: str) -> UserError:
        """The complaint about a key of this mapping."""
        return UserError(f"{self.file}: {self.full(key)} {message}")

    def get(self, key: str, default: Any = MISSING) -> Any:
        """The value as it is; if it is empty, the default, without which a key is required."""
        value = self.data.get(key)
        if value not in (None, [], {}) and not (isinstance(value, str) and not value.strip()):
            return value
        if default is MISSING:
            raise self.error(key, "is missing")
        return default

    def section(self, key: str, keys: Collection[str] | None) -> Section:
        """The mapping at `key`."""
        return Section(self.file, self.full(key), self.get(key), keys)

    def read(self, key: str, kind: Any, default: Any = MISSING) -> Any:
        """The value as a `kind`: text, a number, a member of an enumeration, a tuple of one of these, a dataclass."""
        value = self.get(key, default)
        if value is default:
            return default
        if isinstance(kind, type) and is_dataclass(kind):
            return self.section(key, [field.name for field in fields(kind)]).build(kind)
        try:
            return _converted(value, kind)
        except (KeyError, TypeError, ValueError):
            wanted, of_text = _WORDS.get(kind) or describe(kind), kind in (str, tuple[str, ...])
            shown = f"[{', '.join(map(str, value))}]" if isinstance(value, list) else value
            names = [member.name for member in kind] if isinstance(kind, type) and issubclass(kind, Enum) else []
            hint = did_you_mean(str(value), names)
            message = f"must be {wanted}" + ("" if of_text else f", not {shown}") + (f"; {hint}" if hint else "")
            raise self.error(key, message) from None

    def build(self, kind: type[T], **given: Any) -> T:
        """A dataclass, each field that is not given from the key of its name."""
        hints = get_type_hints(kind)
        return kind(
            **{
                field.name: self.read(field.name, alternatives(hints[field.name])[0], field.default)
                for field in fields(kind)  # type: ignore[arg-type]
                if field.name not in given
            },
            **given,
        )


def _converted(value: Any, kind: Any) -> Any:
    """Raises KeyError, TypeError or ValueError for what is no such kind. Text is on one line; `1e5` is a whole number."""
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise TypeError
        return tuple(value) if item is str else tuple(_converted(word, item) for word in value)
    if not isinstance(value, str):
        raise TypeError
    if kind is str:
        return " ".join(value.split())
    if kind is bool:
        return _TRUTH[value]
    if kind is datetime.date:
        return datetime.date.fromisoformat(value)
    if issubclass(kind, Enum):
        return kind[value]
    number = float(value)
    if not math.isfinite(number) or (kind is int and not number.is_integer()):
        raise ValueError
    return kind(number)
