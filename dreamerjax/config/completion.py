"""What the shell completes on TAB, through argcomplete: commands, options, and the keys and values of a configuration."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Any

from dreamerjax.config.flat import Entry, alternatives
from dreamerjax.config.help import Group, told

ASKED = "_ARGCOMPLETE"  # set by the shell's function: the number of the word that is the program, from 1


def complete(parser: Callable[[], ArgumentParser]) -> None:
    """Where the shell asks for it, tell it what may come next on this command line and end the program; else do nothing."""
    if ASKED in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser())


def asked_command() -> str | None:
    """The first word after the program, where it is complete and the shell asks what comes behind it."""
    if ASKED not in os.environ:
        return None
    typed = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    words = typed.split()[int(os.environ[ASKED]) :]
    return words[0] if len(words) > 1 or (words and typed[-1].isspace()) else None


def settings_parser(entries: Iterable[Entry], groups: Iterable[Group]) -> ArgumentParser:
    """A command line of `key=value` words, to be completed and not to be parsed."""
    words = list(_words(told(list(entries)), groups))
    keys = sorted({word.partition("=")[0] + "=" for word in words})

    def fitting(prefix: str, **_: Any) -> list[str]:
        return words if "=" in prefix else keys

    parser = ArgumentParser()
    parser.add_argument("settings", nargs="*").completer = fitting  # type: ignore[attr-defined]
    return parser


def _words(entries: Iterable[Entry], groups: Iterable[Group]) -> Iterator[str]:
    """Every key as `key=`, and with each of its values where they can be listed."""
    for entry in entries:
        key = entry.key.rstrip("_")
        values = [value for part in alternatives(entry.hint) for value in _values(part)]
        yield from (f"{key}={value}" for value in values or [""])
    for group in groups:
        yield from (f"{group.word}{option}" for option in group.options)


def _values(hint: Any) -> list[str]:
    if hint is bool:
        return ["true", "false"]
    return [member.name for member in hint] if isinstance(hint, type) and issubclass(hint, Enum) else []
