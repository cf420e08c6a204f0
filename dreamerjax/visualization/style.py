"""How every picture looks: its colours, and matplotlib's settings for every figure. Importing it loads no matplotlib."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

from dreamerjax.core.files import file_faults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers too, without yellow, which is faint on white.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#3a3a3a")
REAL, IMAGINED, SOLVED = "#1b6ca8", "#d9822b", "#3a7d44"
GREY, PALE, WHITE, BLACK = "#8a8f98", "#e3e5e8", "#ffffff", "#22262b"
LINES = ("-", "--", ":")  # in turn, where there are more lines than colours
COLOR_MAP = "cividis"  # of more values than colours
DPI = 120  # pixels per inch
REFERENCE: dict[str, Any] = {"color": GREY, "linestyle": "--", "linewidth": 1.2}  # of a line that is no data
THOUSANDS = "{x:,.0f}"  # format of an axis of steps
SETTINGS: dict[Any, Any] = {
    "figure.dpi": DPI,
    "figure.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": PALE,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "lines.markersize": 5,
    "lines.markeredgewidth": 0,
    "patch.linewidth": 0,
    "image.cmap": COLOR_MAP,
    "svg.hashsalt": "dreamerjax",  # the same bytes for the same figure
}


@contextmanager
def figure(width: float, height: float, title: str = "", font_size: float = 10) -> Iterator[Figure]:
    """An empty figure of so many inches, which nothing shows on a screen; it is drawn and saved within the context.

    The settings are read when something is drawn and again when it is saved, so both belong inside.
    """
    from matplotlib import rc_context  # slow to import
    from matplotlib.figure import Figure

    with rc_context({**SETTINGS, "font.size": font_size}):
        made = Figure(figsize=(width, height), layout="constrained")
        if title:
            made.suptitle(fill(title, round(90 * width / font_size)), x=0.01, ha="left")
        yield made


def save(made: Figure, path: str | Path) -> None:
    """Writes a figure as what the suffix says, in a folder that it makes. Raises UserError if it cannot; exit code 1."""
    with file_faults(Path(path)):
        Path(path).parent.mkdir(exist_ok=True)
        made.savefig(path)
