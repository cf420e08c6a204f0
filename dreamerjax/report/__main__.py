"""Report on a run: `python -m dreamerjax.report run=runs/<id>` writes one HTML page that needs nothing else to be read."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from dreamerjax.config.cli import main
from dreamerjax.config.keys import key
from dreamerjax.core.files import write_text
from dreamerjax.core.run_directory import RunDirectory
from dreamerjax.report.glossary import metrics_page, read_glossary
from dreamerjax.report.media import find_media
from dreamerjax.report.reading import read_run
from dreamerjax.report.sections import render

STYLE = Path(__file__).with_name("style.css")


@dataclass
class ReportConfig:
    """Which run to report on: any, also one that is in progress, or that was killed."""

    run: str = key(MISSING, "A run directory, its name under `root`, or latest")
    root: str = key("runs", "Where runs lie")
    output: str | None = key(None, "HTML file; by default report.html in the run directory")


def write_report(directory: RunDirectory, output: Path) -> None:
    """Writes the page.

    Raises:
        UserError: the file cannot be written; exit code 1.
    """
    style = STYLE.read_text(encoding="utf-8")
    write_text(output, render(read_run(directory), find_media(directory.media), read_glossary(metrics_page()), style))


def run(config: ReportConfig) -> int:
    """Write the report, and print where it is."""
    directory = RunDirectory.open(config.run, root=config.root)
    output = Path(config.output) if config.output else directory.path / "report.html"
    write_report(directory, output)
    print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main(run, schema=ReportConfig))
