"""Report on a run: `python -m dreamerjax.report run=runs/<id>` writes one HTML page that needs nothing else to be read.

With `--serve`, which is `serve=true`, it is a web page of this machine that follows the run instead.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from omegaconf import MISSING

from dreamerjax.config.cli import main
from dreamerjax.config.keys import key
from dreamerjax.core.console import say
from dreamerjax.core.errors import UserError
from dreamerjax.core.files import user_path, write_text
from dreamerjax.core.run_directory import RunDirectory
from dreamerjax.report.glossary import metrics_page, read_glossary
from dreamerjax.report.media import read_media
from dreamerjax.report.page import render
from dreamerjax.report.reading import read_directory
from dreamerjax.report.serving import LivePage, serve


@dataclass
class ReportConfig:
    """Which run to report on: any, also one that is in progress, or that was killed."""

    run: str = key(MISSING, "A run directory, its name under `root`, or latest")
    root: str = key("runs", "Where runs lie")
    output: str | None = key(None, "HTML file; by default report.html in the run directory")
    serve: bool = key(False, "Write no file, but show the page in a browser and keep it current, until Ctrl-C")
    host: str = key("127.0.0.1", "Address to serve at; this one is reached from this machine alone")
    port: int = key(8000, "Port to serve at; 0 for a free one", least=0, most=65535)


def run(config: ReportConfig) -> int:
    """Write the report, and print where it is; or serve it."""
    directory = RunDirectory.open(config.run, root=config.root)

    def draw() -> str:
        return render(read_directory(directory), read_media(directory.media), read_glossary(metrics_page()))

    if config.serve:
        if config.output is not None:
            raise UserError("output= cannot be combined with serve=true: what is served is not written")
        serve(LivePage(directory, draw), config.host, config.port)
        return 0
    output = user_path(config.output) if config.output else directory.path / "report.html"
    write_text(output, draw())
    say(str(output))
    return 0


if __name__ == "__main__":
    arguments = ["serve=true" if argument == "--serve" else argument for argument in sys.argv[1:]]
    sys.exit(main(run, arguments, schema=ReportConfig))
