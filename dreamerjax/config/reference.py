"""Write the reference of all keys, from the schema: `python -m dreamerjax.config.reference > docs/configuration.md`."""

from __future__ import annotations

from collections.abc import Iterator

from dreamerjax.config.composition import config_groups
from dreamerjax.config.flat import walk
from dreamerjax.config.help import by_section
from dreamerjax.config.keys import written
from dreamerjax.config.schema import Config
from dreamerjax.config.synonyms import SYNONYMS
from dreamerjax.core.formatting import markdown_table

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
    return "\n".join([_BEGIN, *_groups(), *_keys(), *_other_names()]).replace("``", "") + "\n"


def _groups() -> Iterator[str]:
    for group in config_groups():
        yield f"\n## `{group.word}`\n"
        yield from markdown_table(("option", "what it is"), [(f"`{name}`", text) for name, text in group.options.items()])


def _keys() -> Iterator[str]:
    for section, inside in by_section(list(walk(Config))):
        yield f"\n## `{section.key}`\n\n{section.description}.\n" if section else "\n## Keys outside sections\n"
        head = ("key", "default", "unit", "valid", "what it is")
        rows = [
            (f"`{e.key}`", f"`{written(e.value)}`", e.about.unit if e.about else "", e.valid, e.description) for e in inside
        ]
        yield from markdown_table(head, rows)


def _other_names() -> Iterator[str]:
    yield f"\n{_SYNONYMS}\n"
    named: dict[tuple[str, ...], list[str]] = {}
    for name, keys in SYNONYMS.items():
        named.setdefault(keys, []).append(name)
    rows = [[", ".join(f"`{name}`" for name in names) for names in pair] for pair in named.items()]
    yield from markdown_table(("key", "other names"), rows)


if __name__ == "__main__":
    print(reference(), end="")
