"""What metrics and findings mean, read from the tables of docs/metrics.md: the one place that says it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from dreamerjax.config.composition import config_directory


@dataclass(frozen=True)
class Glossary:
    """The rows of both tables by the names in their first column; texts are Markdown."""

    metrics: dict[str, tuple[str, str]] = field(default_factory=dict)  # meaning; what a healthy run shows, or empty
    findings: dict[str, tuple[str, str]] = field(default_factory=dict)  # meaning; what to try

    def metric(self, name: str) -> tuple[str, str] | None:
        """Meaning of a metric and what a healthy run shows; the table's names may be patterns such as `gradient_norm/*`."""
        return next((texts for pattern, texts in self.metrics.items() if fnmatchcase(name, pattern)), None)

    def of(self, names: Mapping[str, str]) -> dict[tuple[str, str], list[str]]:
        """Each text with what it explains, in the words that `names` has for the metrics; an unknown metric is left out."""
        explained: dict[tuple[str, str], list[str]] = {}
        for name, words in names.items():
            if (texts := self.metric(name)) is not None:
                explained.setdefault(texts, []).append(words)
        return explained


def metrics_page() -> Path:
    """docs/metrics.md of the checkout, or the copy inside the installed package."""
    configs = config_directory()
    return configs.parent / ("docs" if configs.name == "configs" else "_docs") / "metrics.md"


def read_glossary(path: Path) -> Glossary:
    """The glossary of a page; empty where the page is not to be had, since a report needs its numbers more than its words."""
    glossary = Glossary()
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return glossary
    table = ""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if cells and cells[0] in ("metric", "finding"):
            table = cells[0]
        names = re.findall(r"`([^`]+)`", cells[0]) if cells else []
        if table == "metric" and len(cells) == 3:
            glossary.metrics.update(dict.fromkeys(names, (cells[1], cells[2])))
        elif table == "finding" and len(cells) == 4:
            glossary.findings.update(dict.fromkeys(names, (cells[1], cells[3])))
        if not cells:
            table = ""
    return glossary
