"""What the command line may say about a dataclass of settings, and what to answer when it says something else.

Nothing here imports Hydra or OmegaConf: `cli.py` does, and hands their exceptions to `explain`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from decimal import Decimal
from difflib import get_close_matches
from enum import Enum
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from dreamerjax.core.errors import UserError

_OVERRIDE = re.compile(r"(?P<sign>\+\+|\+|~)?(?P<key>[^=\s'\"]+)=(?P<value>.*)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_LARGEST_EXACT = 2.0**53
_NAMES: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def key_types(schema: type, prefix: str = "") -> dict[str, Any]:
    """Type of every dotted key of a (nested) dataclass; a section maps to its dataclass."""
    hints = get_type_hints(schema)
    types: dict[str, Any] = {}
    for item in fields(schema):
        hint = hints[item.name]
        types[prefix + item.name] = hint
        if is_dataclass(hint):
            types |= key_types(hint, f"{prefix}{item.name}.")  # type: ignore[arg-type]
    return types


def _alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def describe(hint: Any) -> str:
    """Say in words which values a key of this type takes."""
    parts = []
    for part in _alternatives(hint):
        if isinstance(part, type) and issubclass(part, Enum):
            parts.append("one of " + ", ".join(member.name for member in part))
        elif get_origin(part) is dict or part is dict:
            parts.append("a mapping such as {name: value}")
        else:
            parts.append("null" if part is NoneType else _NAMES.get(part, getattr(part, "__name__", str(part))))
    return " or ".join(parts)


def unknown_key(key: str, types: dict[str, Any], groups: Collection[str] = ()) -> UserError:
    """The error for a key that does not exist, with the nearest ones that do."""
    leaves = [name for name, hint in types.items() if not is_dataclass(hint)]
    last = key.rpartition(".")[2]
    same_name = [name for name in leaves if name.rpartition(".")[2] == last]
    near = same_name or get_close_matches(key, [*leaves, *groups], n=1)
    if not near:
        names = {name.rpartition(".")[2]: name for name in leaves}
        near = [names[name] for name in get_close_matches(last, names, n=1)]
    top = sorted({name.partition(".")[0] for name in types} | set(groups))
    hint = f"did you mean {' or '.join(near)}?" if near else f"top-level keys: {', '.join(top)}"
    return UserError(f"unknown key {key}; {hint}")


def unknown_option(group: str, option: str, options: Sequence[str]) -> UserError:
    """The error for an option that a configuration group does not have."""
    near = get_close_matches(option, options, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return UserError(f"{group}={option}: no such option; {hint}valid: {', '.join(options) or 'none'}")


def _whole(text: str) -> str:
    """`1e5` and `100000.0` as `100000`; anything else unchanged."""
    if not _NUMBER.fullmatch(text) or abs(float(text)) >= _LARGEST_EXACT or not float(text).is_integer():
        return text
    return str(int(Decimal(text)))


def quoted(text: str) -> str:
    """Any text as a value that Hydra's grammar reads as that text."""
    escaped = re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), text)
    return f"'{escaped}'"


def _normalise_one(text: str, types: dict[str, Any], groups: dict[str, bool], sweep: bool) -> str:
    match = _OVERRIDE.fullmatch(text)
    if match is None or text.startswith("-"):
        return text
    sign, key, value = match["sign"] or "", match["key"], match["value"]
    if key not in types and f"{key}_" in types:  # Python's own words, such as from and lambda
        key = f"{key}_"
    if key in groups and sign in ("", "+"):
        return f"{'' if groups[key] else '+'}{key}={value}"
    parts = _alternatives(types.get(key))
    if int in parts:
        value = ",".join(_whole(part.strip()) for part in value.split(","))
    elif str in parts and not sweep and value not in ("null", "???") and value[:1] not in ("'", '"'):
        value = quoted(value)
    if any(_is_open(types.get(name)) for name in (key, *_parents(key))):
        sign = sign or "++"
    elif key in types:
        sign = sign.replace("+", "")
    return f"{sign}{key}={value}"


def _is_open(hint: Any) -> bool:
    return any(part is dict or get_origin(part) is dict for part in _alternatives(hint))


def _parents(key: str) -> Iterator[str]:
    while "." in key:
        key = key.rpartition(".")[0]
        yield key


def normalise(overrides: Iterable[str], types: dict[str, Any], groups: dict[str, bool], *, sweep: bool) -> list[str]:
    """Rewrite what a person types into what Hydra's grammar wants, leaving the rest as it is.

    Whole floats become integers for integer keys, text is quoted for text keys (unless a sweep, where commas separate
    values), keys of open mappings (`env.kwargs.x`) are added, `from=` and `behavior.lambda=` get the underscore that Python
    wants of them, and `+` is put where it belongs. `groups` says of each
    group whether the primary configuration already chooses an option of it (else one is appended with `+`).
    """
    return [_normalise_one(text, types, groups, sweep) for text in overrides]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def explain(error: Exception, overrides: Sequence[str], types: dict[str, Any], groups: Collection[str]) -> UserError:
    """One line for an exception of Hydra or OmegaConf: the key, group or argument at fault and what would be valid."""
    missing = getattr(error, "missing_cfg_file", None)
    if missing:
        group, _, option = str(missing).rpartition("/")
        return unknown_option(group or "config", option, list(getattr(error, "options", None) or ()))
    unread = getattr(error, "override", None)
    if isinstance(unread, str):
        advice = "quote its value, as in \"key='...'\"" if "=" in unread else "write key=value"
        return UserError(f"cannot read the argument {unread}: {advice}")
    text = str(error)
    if text.startswith("Ambiguous value for argument"):
        argument = text.partition("\n")[0].partition("'")[2].rstrip("'")
        return UserError(f"{argument}: several values are a sweep and need -m; otherwise quote the value")
    for cause in _causes(error):
        key = getattr(cause, "full_key", None)
        if key:
            return _explain_key(str(key), cause, text, overrides, types, groups)
    return UserError(text.partition("\n")[0] or type(error).__name__)


def _explain_key(
    key: str,
    cause: BaseException,
    text: str,
    overrides: Sequence[str],
    types: dict[str, Any],
    groups: Collection[str],
) -> UserError:
    source = re.match(r"In '([^']+)'", text)
    where = f"configs/{source[1]}.yaml: " if source else ""
    matches = [match for match in map(_OVERRIDE.fullmatch, overrides) if match]
    given = [match for match in matches if f"{match['key']}.".startswith(f"{key}.")]
    if key not in types or (given and given[-1]["key"] not in types and not is_dataclass(types[key])):
        return UserError(where + str(unknown_key(given[-1]["key"] if given else key, types, groups)))
    if type(cause).__name__ == "MissingMandatoryValue":
        return UserError(f"{key} is required: {key}=... ({describe(types[key])})")
    if any(override.startswith(f"~{key}") for override in overrides):
        return UserError(f"{key} cannot be removed; set it with {key}=...")
    if "Interpolation" in type(cause).__name__:
        return UserError(f"{where}{key}: {str(cause).partition(chr(10))[0]}")
    if is_dataclass(types[key]):
        example = f"{key}.{fields(types[key])[0].name}"
        return UserError(f"{where}{key} is a section, not a value: set its keys, such as {example}")
    value = given[-1]["value"] if given else getattr(cause, "value", None)
    shown = f", not {value}" if value is not None else f" ({str(cause).partition(chr(10))[0]})"
    return UserError(f"{where}{key} must be {describe(types[key])}{shown}")
