"""What --help says: the keys of a command with their present values, in a width that fits the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, is_dataclass
from textwrap import TextWrapper, fill

from dreamerjax.config.flat import Entry
from dreamerjax.config.keys import written

_HEAD = 26  # columns of `key=value` before its meaning, at most


@dataclass(frozen=True)
class Group:
    """A configuration group: how it is chosen from (`env=`, `+experiment=`), and its options with what their files say."""

    word: str
    options: dict[str, str] = field(default_factory=dict)
    chosen: str = ""


def purpose(docstring: str | None) -> str:
    """What a command's module says it is for: the first line, up to how it is called."""
    return (docstring or "").partition("\n")[0].partition(": `python")[0].removesuffix(".")


def details(docstring: str | None, width: int) -> Iterator[str]:
    """The paragraphs of a command's module after its first line, each after an empty line; indented ones stand as they are."""
    for paragraph in (docstring or "").partition("\n")[2].strip("\n").split("\n\n"):
        if paragraph:
            yield ""
            yield paragraph if paragraph.startswith(" ") else fill(paragraph, width)


def terms(entry: Entry) -> str:
    """A number's unit and range, or the members of an enumeration; nothing for what its value shows."""
    unit = entry.about.unit if entry.about else ""
    valid = entry.valid if entry.range is not None or "one of" in entry.valid else ""
    return ", ".join(part for part in (unit, valid) if part)


def told(entries: Sequence[Entry]) -> list[Entry]:
    """Those that can be set: no sections, and no values inside a mapping."""
    return [entry for entry in entries if entry.about or not entry.is_section]


def help_text(
    command: str, about: str | None, entries: Sequence[Entry], groups: Sequence[Group], *, everything: bool, width: int
) -> str:
    """The common keys, or with `everything` all of them; a command with no common ones always shows all.

    `command` is what is typed before the keys, `about` its module's docstring, `entries` a walk through the schema with
    the values that its keys have now, and `width` the terminal's, in characters.
    """
    keys = told(entries)
    common = [entry for entry in keys if entry.about and entry.about.common]
    lines = [
        f"usage: {command} {'[group=option ...] ' if groups else ''}[key=value ...] [-m] [--cfg job] [--help]",
        fill(purpose(about), width),
        *details(about, width),
        "",
    ]
    if everything or not common:
        lines.append("Keys and their values:")
        for section, inside in by_section(entries):
            lines += ["", fill(f"{section.key}: {section.description}", width)] if section else []
            lines += _lines(inside, width)
    else:
        lines += [f"The most used of {len(keys)} keys, and their values:", *_lines(common, width)]
    if groups:
        lines += ["", "Groups of settings, from configs/:"]
    for group in groups:
        lines.append(_columns(f"{group.word}{group.chosen}", ", ".join(group.options), width))
    more = "" if everything or not common else "Every key: --help-all. "
    lines += ["", fill(f"{more}What these settings make: --cfg job. A sweep: -m key=1,2,3.", width)]
    return "\n".join(lines)


def by_section(entries: Sequence[Entry]) -> Iterator[tuple[Entry | None, list[Entry]]]:
    """The keys outside any section first, then each section with its own."""
    for section in (None, *(entry for entry in entries if is_dataclass(entry.hint))):
        name = section.key if section else ""
        yield section, [entry for entry in told(entries) if entry.key.rpartition(".")[0] == name]


def _lines(entries: Sequence[Entry], width: int) -> Iterator[str]:
    for entry in entries:
        remark = f" ({terms(entry)})" if terms(entry) else ""
        yield _columns(f"{entry.key.rstrip('_')}={written(entry.value)}", f"{entry.description}{remark}", width)


def _columns(head: str, text: str, width: int) -> str:
    """`head`, and `text` beside it, or below it if it is too long."""
    begin = f"  {head:<{_HEAD}} "
    indent = " " * (_HEAD + 3)
    wrap = TextWrapper(max(width, _HEAD + 30), initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    body = wrap.fill(text)
    return (begin + body[len(indent) :] if len(head) <= _HEAD else f"{begin.rstrip()}\n{body}").rstrip()
