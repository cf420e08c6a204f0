"""The terminal display of a run: a live panel on a terminal, plain lines every few seconds anywhere else."""

from __future__ import annotations

import io
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from dreamerjax.core.console import say
from dreamerjax.core.formatting import number

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

PLAIN_SECONDS = 5.0  # between two lines where there is no terminal
REFRESH_RATE = 4  # refreshes of the panel per second, in a thread of its own
SAMPLE_SECONDS = 0.5  # between two entries that the speeds are computed from
SAMPLES = 40  # entries that are kept: speeds are means over 20 seconds
EPISODES = 20  # the episode return is a mean over so many


class SharedStream(io.TextIOBase):
    """A stream that several runs print on: no terminal, and each line begins with what `prefix` says of who prints it."""

    def __init__(self, stream: TextIO, prefix: Callable[[], str]) -> None:
        self._stream, self._prefix, self._line_begins = stream, prefix, True

    def write(self, text: str) -> int:
        """Passes it on, with the prefix wherever a line begins."""
        for line in text.splitlines(keepends=True):
            self._stream.write(f"{self._prefix()}{line}" if self._line_begins else line)
            self._line_begins = line.endswith("\n")
        return len(text)

    def flush(self) -> None:
        """Passes it on."""
        self._stream.flush()

    def fileno(self) -> int:
        """Of the stream below."""
        return self._stream.fileno()


class ProgressDisplay:
    """Shows where a run is, how fast it goes and what it has reached; on a stream that is shared, only at its end."""

    def __init__(self, title: str, total_steps: int, stream: TextIO) -> None:
        """Starts the display, a panel with this title on a terminal; `total_steps` is 0 where it is not known."""
        self._title = title
        self._total = total_steps
        self._stream: TextIO | None = stream
        self._start = self._printed = time.monotonic()
        self._samples: deque[tuple[float, int, int]] = deque(maxlen=SAMPLES)  # seconds, environment steps, updates
        self._step = self._updates = 0
        self._returns: deque[float] = deque(maxlen=EPISODES)
        self._latest: dict[str, float] = {}
        self._live: Live | None = None
        if stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown"):
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=stream), get_renderable=self._panel, refresh_per_second=REFRESH_RATE)
            self._live.start()

    def progress(self, step: int, updates: int) -> None:
        """Sets the environment steps and updates so far; without a terminal, prints a line when one is due."""
        now = time.monotonic()
        if updates and not self._updates:
            self._samples.clear()  # neither random steps nor the time of compiling say how fast the rest will be
        self._step, self._updates = step, updates
        if not self._samples or now - self._samples[-1][0] >= SAMPLE_SECONDS:
            self._samples.append((now, step, updates))
        if self._live is None and now - self._printed >= PLAIN_SECONDS and not isinstance(self._stream, SharedStream):
            self._printed = now
            self.message(self.plain_line())

    def values(self, numbers: Mapping[str, float]) -> None:
        """Takes over logged metrics: episode returns, evaluations and losses."""
        if "episode/return" in numbers:
            self._returns.append(numbers["episode/return"])
        self._latest = {**self._latest, **numbers}  # replaced, not changed: the panel's thread may be reading it

    def message(self, text: str) -> None:
        """Prints one line; above the panel where there is one."""
        if self._live is not None:
            with self._terminal_may_be_gone():
                self._live.console.print(text, markup=False, highlight=False)
        elif self._stream is not None and not say(text, self._stream):
            self._stream = None

    def close(self) -> None:
        """Leaves the last state of the panel standing, or prints a last line. Harmless when repeated."""
        if self._live is not None:
            with self._terminal_may_be_gone():
                self._live.stop()
        else:
            self.message(self.plain_line())
        self._stream = self._live = None

    @contextmanager
    def _terminal_may_be_gone(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):
            self._live = self._stream = None

    def plain_line(self) -> str:
        """All of the panel in one line."""
        steps_rate, updates_rate = self._rates()
        total = f"/{self._total:,}" if self._total else ""
        parts = [f"{self._step:,}{total} steps", f"{self._updates:,} updates"]
        parts += [f"{steps_rate:.0f} steps/s", f"{updates_rate:.1f} updates/s", f"ETA {self._eta()}"]
        return " | ".join(parts + [f"{name} {value}" for name, value in self._results() + self._losses()])

    def _panel(self) -> RenderableType:
        from rich.columns import Columns
        from rich.console import Group
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        steps_rate, updates_rate = self._rates()
        head = Table.grid(expand=True, padding=(0, 1))
        head.add_column(ratio=1)
        head.add_column(justify="right", no_wrap=True)
        bar = ProgressBar(total=max(self._total, self._step, 1), completed=self._step)
        share = f"{self._step / self._total:.0%} " if self._total else ""
        head.add_row(bar, f"{self._step:,} / {self._total:,} steps [bold]{share}[/]ETA {self._eta()}")
        elapsed = _clock(time.monotonic() - self._start)
        speeds = f"{self._updates:,} updates   {updates_rate:.1f} updates/s   {steps_rate:.0f} env steps/s   {elapsed}"
        results = Columns([f"{name} [bold]{value}[/]" for name, value in self._results()], padding=(0, 3))
        losses = Columns([f"[dim]{name}[/] {value}" for name, value in self._losses()], padding=(0, 3))
        return Panel(Group(head, speeds, results, losses), title=self._title, border_style="cyan")

    def _results(self) -> list[tuple[str, str]]:
        results = []
        if returns := list(self._returns):
            results.append((f"return (last {len(returns)})", number(sum(returns) / len(returns))))
        latest = self._latest
        for policy in ("greedy", "sampled"):
            if (mean := latest.get(f"eval/{policy}/return_mean")) is not None:
                results.append((f"eval {policy}", number(mean)))
        return results

    def _losses(self) -> list[tuple[str, str]]:
        latest = self._latest
        return [(key.removeprefix("loss/"), f"{latest[key]:.3g}") for key in sorted(latest) if key.startswith("loss/")]

    def _rates(self) -> tuple[float, float]:
        samples = list(self._samples)
        if len(samples) < 2:
            return 0.0, 0.0
        (start, first_step, first_update), (end, last_step, last_update) = samples[0], samples[-1]
        return (last_step - first_step) / (end - start), (last_update - first_update) / (end - start)

    def _eta(self) -> str:
        rate, _ = self._rates()
        known = self._updates > 0 and rate > 0 and self._total
        return _clock(max(self._total - self._step, 0) / rate) if known else "-:--"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
