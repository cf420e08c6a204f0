"""What the command line may say about a dataclass of settings, and what to answer when it says something else.

Nothing here imports Hydra or OmegaConf: `composition.py` and `cli.py` do, and hand their exceptions to `explain`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, get_origin

from dreamerjax.config.flat import alternatives, describe
from dreamerjax.config.synonyms import SYNONYMS, is_environment_id
from dreamerjax.core.errors import UserError

_OVERRIDE = re.compile(r"(?P<sign>\+\+|\+|~)?(?P<key>[^=\s'\"]+)=(?P<value>.*)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_LARGEST_EXACT = 2.0**53


def unknown_key(key: str, types: dict[str, Any], groups: Collection[str] = ()) -> UserError:
    """The error for a key that does not exist, with those that do and are nearest: by name, by meaning, or by letters."""
    top = sorted({name.partition(".")[0] for name in types} | set(groups))
    near = _nearest(key.lower().replace("-", "_"), [name for name, hint in types.items() if not is_dataclass(hint)], groups)
    hint = f"did you mean {' or '.join(near)}?" if near else f"top-level keys: {', '.join(top)}"
    return UserError(f"unknown key {key}; {hint}")


def _nearest(key: str, leaves: Collection[str], groups: Collection[str]) -> list[str]:
    """What has the name, whole or its last part; else what is spelt like either."""
    last, keys = key.rpartition(".")[2], (*leaves, *groups)
    known = {name: [meant for meant in synonym if meant in keys] for name, synonym in SYNONYMS.items()}
    for name in leaves:
        known[name.rpartition(".")[2]] = [leaf for leaf in leaves if leaf.rpartition(".")[2] == name.rpartition(".")[2]]
    known = {name: near for name, near in known.items() if near} | {name: [name] for name in keys}
    spelt = [*get_close_matches(key, known, n=1), *get_close_matches(last, known, n=1)]
    return next((known[name] for name in (key, last, *spelt) if name in known), [])


def unknown_option(group: str, option: str, options: Sequence[str]) -> UserError:
    """The error for an option that a configuration group does not have."""
    near = get_close_matches(option, options, n=1)
    wanted = f"env.id={option}" if group == "env" and is_environment_id(option) else near[0] if near else ""
    hint = f"did you mean {wanted}? " if wanted else ""
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
    key = text.lstrip("+~").partition("=")[0]
    if not key.strip():
        raise UserError(f"cannot read the argument {text!r}: write key=value")
    if text.startswith("~") and not any(is_open(types.get(name)) for name in (key, *parents(key))):
        raise UserError(f"{key} cannot be removed; set it with {key}=...") if key in types else unknown_key(key, types, groups)
    match = _OVERRIDE.fullmatch(text)
    if match is None or text.startswith("-"):
        return text
    sign, key, value = match["sign"] or "", match["key"], match["value"]
    if key not in types and f"{key}_" in types:  # Python's own words, such as from and lambda
        key = f"{key}_"
    if key in groups and sign in ("", "+"):
        return f"{'' if groups[key] else '+'}{key}={value}"
    parts = alternatives(types.get(key))
    require_truth(key, value, types)
    if int in parts:
        value = ",".join(_whole(part.strip()) for part in value.split(","))
    elif any(get_origin(part) is list for part in parts) and "," in value and not sweep and value[:1] not in "['\"$":
        value = f"[{value}]"
    elif str in parts and not sweep and value not in ("null", "???") and value[:1] not in ("'", '"'):
        value = quoted(value)
    if any(is_open(types.get(name)) for name in (key, *parents(key))):
        sign = sign or "++"
    elif key in types:
        sign = sign.replace("+", "")
    return f"{sign}{key}={value}"


def require_truth(key: str, value: Any, types: dict[str, Any]) -> None:
    """Raise UserError for a number other than 0 and 1, which OmegaConf would call true."""
    if bool in alternatives(types.get(key)) and _NUMBER.fullmatch(str(value)) and float(value) not in (0, 1):
        raise UserError(f"{key} must be {describe(types[key])}, not {value}")


def is_open(hint: Any) -> bool:
    """Whether a key of this type is a mapping of any keys."""
    return any(part is dict or get_origin(part) is dict for part in alternatives(hint))


def parents(key: str) -> Iterator[str]:
    """The sections that a dotted key lies in, the nearest first."""
    while "." in key:
        key = key.rpartition(".")[0]
        yield key


def normalise(overrides: Iterable[str], types: dict[str, Any], groups: dict[str, bool], *, sweep: bool) -> list[str]:
    """Rewrite what a person types into what Hydra's grammar wants, leaving the rest as it is.

    Whole floats become integers for integer keys, text is quoted for text keys and `0,1` becomes `[0,1]` for keys of lists
    (unless in a sweep, where commas separate values), keys of open mappings (`env.kwargs.x`) are added, `from=` and
    `behavior.lambda=` get the underscore that Python wants of them, and `+` is put where it belongs. `groups` says of each
    group whether the primary configuration already chooses an option of it (else one is appended with `+`).

    Raises UserError: an argument without a key, one that removes a key, a number for true or false.
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
        group, _, option = str(missing).partition("/")
        return unknown_option(group, option, list(getattr(error, "options", None) or ()))
    unread = getattr(error, "override", None)
    if isinstance(unread, str):
        advice = "quote its value, as in \"key='...'\"" if "=" in unread else "write key=value"
        return UserError(f"cannot read the argument {unread}: {advice}")
    text = str(error)
    if text.startswith("Ambiguous value for argument"):
        argument = text.partition("\n")[0].partition("'")[2].rstrip("'")
        return UserError(f"{argument}: several values are a sweep and need -m; otherwise quote the value")
    cause = next((cause for cause in _causes(error) if getattr(cause, "full_key", None)), None)
    if cause is None:
        return UserError(text.partition("\n")[0] or type(error).__name__)
    key = str(getattr(cause, "full_key", "")).partition("[")[0]  # of the list, where a member of one is at fault
    source = re.match(r"In '([^']+)'", text)
    where = f"configs/{source[1]}.yaml: " if source else ""
    matches = [match for match in map(_OVERRIDE.fullmatch, overrides) if match]
    given = [match for match in matches if f"{match['key']}.".startswith(f"{key}.")]
    if key not in types or (given and given[-1]["key"] not in types and not is_dataclass(types[key])):
        return UserError(where + str(unknown_key(given[-1]["key"] if given else key, types, groups)))
    if type(cause).__name__ == "MissingMandatoryValue":
        wanted = "RUN or run=RUN, its directory, its name or latest" if key == "run" else f"{key}=... ({describe(types[key])})"
        return UserError(f"{key} is required: {wanted}")
    if "Interpolation" in type(cause).__name__:
        return UserError(f"{where}{key}: {str(cause).partition(chr(10))[0]}")
    if is_dataclass(types[key]):
        example = f"{key}.{fields(types[key])[0].name}"
        return UserError(f"{where}{key} is a section, not a value: set its keys, such as {example}")
    value = given[-1]["value"] if given else getattr(cause, "value", None)
    shown = f", not {value}" if value is not None else f" ({str(cause).partition(chr(10))[0]})"
    return UserError(f"{where}{key} must be {describe(types[key])}{shown}")
