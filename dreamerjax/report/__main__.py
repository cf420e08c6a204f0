"""Report on a run: `python -m dreamerjax.report run=runs/<id>` writes one HTML page that needs nothing else to be read."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from dreamerjax.config.cli import main
from dreamerjax.config.keys import key
from dreamerjax.core.console import say
from dreamerjax.core.files import write_text
from dreamerjax.core.run_directory import RunDirectory
from dreamerjax.report.glossary import metrics_page, read_glossary
from dreamerjax.report.media import read_media
from dreamerjax.report.page import render
from dreamerjax.report.reading import read_directory


@dataclass
class ReportConfig:
    """Which run to report on: any, also one that is in progress, or that was killed."""

    run: str = key(MISSING, "A run directory, its name under `root`, or latest")
    root: str = key("runs", "Where runs lie")
    output: str | None = key(None, "HTML file; by default report.html in the run directory")


def run(config: ReportConfig) -> int:
    """Write the report, and print where it is."""
    directory = RunDirectory.open(config.run, root=config.root)
    output = Path(config.output) if config.output else directory.path / "report.html"
    write_text(output, render(read_directory(directory), read_media(directory.media), read_glossary(metrics_page())))
    say(str(output))
    return 0


if __name__ == "__main__":
    sys.exit(main(run, schema=ReportConfig))
