"""The one walk through a configuration: every key, dotted, with its value, its type and what it says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from inspect import getdoc
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from dreamerjax.config.keys import ABOUT, About, Range

_NAMES: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
_PLURALS: dict[Any, str] = {int: "whole numbers", float: "numbers"}


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The members of a union of types; any other type alone."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def describe(hint: Any) -> str:
    """Say in words which values a key of this type takes."""
    parts = []
    for part in alternatives(hint):
        if isinstance(part, type) and issubclass(part, Enum):
            parts.append("one of " + ", ".join(member.name for member in part))
        elif get_origin(part) is dict or part is dict:
            parts.append("a mapping such as {name: value}")
        elif get_origin(part) is list:
            parts.append(f"a list of {_PLURALS.get(get_args(part)[0], 'values')}")
        else:
            parts.append(_NAMES.get(part, getattr(part, "__name__", str(part))))
    return " or ".join(parts)


@dataclass(frozen=True)
class Entry:
    """A key. One that comes from a mapping, not from a dataclass, has neither a type (`hint`) nor anything to say."""

    key: str
    value: Any  # of a dataclass's type: the default, the dataclass of a section, or dataclasses.MISSING
    hint: Any = Any
    about: About | None = None

    @property
    def is_section(self) -> bool:
        """Whether other keys may lie below it."""
        return is_dataclass(self.value) or isinstance(self.value, Mapping)

    @property
    def range(self) -> Range | None:
        """Of a number that describes itself."""
        return self.about.range if self.about and {int, float} & set(alternatives(self.hint)) else None

    @property
    def description(self) -> str:
        """One sentence without its full stop: the key's own, or that of its enumeration or section."""
        if self.about and self.about.description:
            return self.about.description
        told = is_dataclass(self.hint) or (isinstance(self.hint, type) and issubclass(self.hint, Enum))
        return " ".join((getdoc(self.hint) or "").split()).removesuffix(".") if told else ""

    @property
    def valid(self) -> str:
        """Its valid values in words."""
        if self.range is None:
            return describe(self.hint)
        return " or ".join([str(self.range), *(["null"] if NoneType in alternatives(self.hint) else [])])


def walk(node: Any, prefix: str = "") -> Iterator[Entry]:
    """Each key below a (nested) dataclass, its type or an instance, or a mapping; a section before what lies in it."""
    for entry in _members(node, prefix):
        yield entry
        if entry.is_section:
            yield from walk(entry.value, f"{entry.key}.")


def _members(node: Any, prefix: str) -> Iterator[Entry]:
    if isinstance(node, Mapping):
        yield from (Entry(f"{prefix}{name}", value) for name, value in node.items())
        return
    hints = get_type_hints(node if isinstance(node, type) else type(node))
    for item in fields(node):
        hint = hints[item.name]
        if not isinstance(node, type):
            value = getattr(node, item.name)
        elif is_dataclass(hint):
            value = hint
        else:
            value = item.default if item.default_factory is MISSING else item.default_factory()
        yield Entry(f"{prefix}{item.name}", value, hint, item.metadata.get(ABOUT))


def key_types(schema: type) -> dict[str, Any]:
    """Type of every dotted key of a (nested) dataclass; a section maps to its dataclass."""
    return {entry.key: entry.hint for entry in walk(schema)}


def flatten(node: Any) -> dict[str, Any]:
    """Dotted keys and values, sections left out, of a (nested) dataclass or mapping; a member of an enumeration is its name."""
    values = ((entry.key, entry.value) for entry in walk(node) if not entry.is_section)
    return {key: value.name if isinstance(value, Enum) else value for key, value in values}
