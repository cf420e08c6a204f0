"""Write the reference of all keys, from the schema: `python -m dreamerjax.config.reference > docs/configuration.md`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass

from dreamerjax.config.cli import config_groups
from dreamerjax.config.flat import Entry, walk
from dreamerjax.config.help import told
from dreamerjax.config.keys import written
from dreamerjax.config.schema import Config
from dreamerjax.config.synonyms import SYNONYMS

_BEGIN = """# Configuration

Made by `make docs` from [dreamerjax/config/schema.py](../dreamerjax/config/schema.py) and `configs/`;
`make docs-check` fails where it is out of date.

Three layers, later ones win: the defaults below, the overlays of the groups, the command line. There, write `key=value`,
`group=option` and `+experiment=option`; `-m key=1,2,3` runs one after the other. `python -m dreamerjax.train --help` shows the
most used keys with the values that the other arguments give them, `--help-all` every key, `--cfg job` what they compose.
The underscore at the end of `from_`, `behavior.lambda_` and `loss.scales.continue_` may be left out on the command line.

Steps are environment steps over all environments together, action repeat not multiplied in; updates are the world model's."""
_SYNONYMS = """## Other names

What other implementations call these keys. They are not accepted: the answer to one is an error that names the key it means."""


def reference() -> str:
    """docs/configuration.md."""
    return "\n".join([_BEGIN, *_groups(), *_keys(), *_other_names()]) + "\n"


def _groups() -> Iterator[str]:
    for group in config_groups():
        yield f"\n## `{group.word}`\n"
        yield from _table(("option", "what it is"), [(f"`{name}`", text) for name, text in group.options.items()])


def _keys() -> Iterator[str]:
    entries = list(walk(Config))
    yield "\n## Keys outside sections\n"
    yield from _described([entry for entry in told(entries) if "." not in entry.key])
    for section in entries:
        if is_dataclass(section.hint):
            yield f"\n## `{section.key}`\n\n{section.description}.\n"
            yield from _described([entry for entry in told(entries) if entry.key.rpartition(".")[0] == section.key])


def _described(entries: Sequence[Entry]) -> Iterator[str]:
    rows = [
        (f"`{entry.key}`", f"`{written(entry.value)}`", entry.about.unit if entry.about else "", entry.valid, entry.description)
        for entry in entries
    ]
    yield from _table(("key", "default", "unit", "valid", "what it is"), rows)


def _other_names() -> Iterator[str]:
    yield f"\n{_SYNONYMS}\n"
    named: dict[tuple[str, ...], list[str]] = {}
    for name, keys in SYNONYMS.items():
        named.setdefault(keys, []).append(name)
    rows = [(", ".join(f"`{key}`" for key in keys), ", ".join(f"`{name}`" for name in names)) for keys, names in named.items()]
    yield from _table(("key", "other names"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(row)} |".replace("``", "") for row in rows)


if __name__ == "__main__":
    print(reference(), end="")
