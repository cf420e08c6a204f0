"""One mapping of an experiment file after the other, with complaints that name the file and the key."""

from __future__ import annotations

import math
from collections.abc import Collection
from difflib import get_close_matches
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import yaml

from dreamerjax.core.errors import UserError

E = TypeVar("E", bound=Enum)


class _Loader(yaml.BaseLoader):
    """Every scalar is the text that the file has (so `1e-5` and `off` are what they look like); no key comes twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [str(key.value) for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"{name} comes twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(file: Path) -> Any:
    """The content of a YAML file: dictionaries, lists and text.

    Raises:
        UserError: the file cannot be read or is not YAML.
    """
    try:
        return yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{file} is not valid YAML: {error}") from error


class Reader:
    """A mapping whose values are read by kind. Without a default, a key is required."""

    def __init__(self, file: Path, name: str, data: Any, keys: Collection[str] | None) -> None:
        """Refuse what is not a mapping, and keys other than `keys` (None: any); `name` is the dotted key of the mapping."""
        self.file, self.name = file, name
        if not isinstance(data, dict):
            raise UserError(f"{file}: {name or 'the file'} must be a mapping{_of(keys)}")
        self.data: dict[str, Any] = data
        for key in data:
            if not isinstance(key, str):
                raise UserError(f"{file}: {self.full(str(key))} must be text")
            if keys is not None and key not in keys:
                near = get_close_matches(key, keys, n=1)
                hint = f"did you mean {near[0]}?" if near else f"valid: {', '.join(keys)}"
                raise UserError(f"{file}: unknown key {self.full(key)}; {hint}")

    def full(self, key: str) -> str:
        """The dotted key from the top of the file."""
        return f"{self.name}.{key}" if self.name else key

    def error(self, key: str, message: str) -> UserError:
        """The complaint about a key of this mapping."""
        return UserError(f"{self.file}: {self.full(key)} {message}")

    def get(self, key: str, default: Any = None) -> Any:
        """The value as it is, if it is not empty."""
        value = self.data.get(key)
        if value in (None, [], {}) or (isinstance(value, str) and not value.strip()):
            if default is None:
                raise self.error(key, "is missing")
            return default
        return value

    def text(self, key: str, default: str | None = None) -> str:
        """Text on one line."""
        value = self.get(key, default)
        if not isinstance(value, str):
            raise self.error(key, "must be text")
        return " ".join(value.split())

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = _number(self.get(key, default))
        if value is None:
            raise self.error(key, f"must be a number, not {self.data[key]}")
        return value

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number; `1e5` is one."""
        value = _number(self.get(key, default))
        if value is None or not value.is_integer():
            raise self.error(key, f"must be a whole number, not {self.data[key]}")
        return int(value)

    def wholes(self, key: str) -> tuple[int, ...]:
        """A list of whole numbers."""
        numbers = [_number(word) for word in self.words(key)]
        if any(number is None or not number.is_integer() for number in numbers):
            raise self.error(key, f"must be a list of whole numbers, not [{', '.join(self.words(key))}]")
        return tuple(int(number) for number in numbers if number is not None)

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        word = self.get(key, str(default).lower())
        if word not in ("true", "false"):
            raise self.error(key, f"must be true or false, not {word}")
        return bool(word == "true")

    def choice(self, key: str, kind: type[E], default: E) -> E:
        """The name of a member of an enumeration."""
        word = self.get(key, default.name)
        names = [member.name for member in kind]
        if word not in names:
            near = get_close_matches(str(word), names, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise self.error(key, f"must be one of {', '.join(names)}, not {word}{hint}")
        return kind[word]

    def words(self, key: str, default: list[str] | None = None) -> tuple[str, ...]:
        """A list of text."""
        value = self.get(key, () if default is not None else None)
        if isinstance(value, str | dict) or not all(isinstance(word, str) for word in value):
            raise self.error(key, "must be a list of text, such as [a, b]; an override is one word, key=value")
        return tuple(value)

    def section(self, key: str, keys: Collection[str] | None) -> Reader:
        """The mapping at `key`."""
        return Reader(self.file, self.full(key), self.get(key), keys)


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _of(keys: Collection[str] | None) -> str:
    return f" with the keys {', '.join(keys)}" if keys else ""
