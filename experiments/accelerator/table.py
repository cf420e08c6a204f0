"""results.json as a page to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dreamerjax.core.formatting import markdown_table, number

Record = dict[str, Any]


def markdown(results: dict[str, Any]) -> str:
    """Every figure that there is, in a few tables."""
    jobs: dict[str, Record] = results["jobs"]
    parts = [
        "# On an accelerator",
        "Written by `make gpu-check` (`gpu_check.py`), which says how it measures; the full figures are in `results.json`.",
        f"Begun {results['began']}, {results['seconds']:.0f} s of at most {results['limit_s']:.0f} s.",
        "## The machine",
        machine_table(jobs.get("device", {}).get("figures", {})),
        "## Right and solved",
        check_table(jobs),
        "## One update",
        "16 x 64 steps, horizon 15, all starts, 255 bins, unless the run was a fast one. Share: of the same run's peak of "
        "matrix products in that precision. Queued: the mean when calls are not waited for one by one.",
        update_table(jobs),
        *traces(jobs),
        *failures(jobs),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; empty without rows."""
    return "\n".join(markdown_table(head, rows)) if rows else ""


def machine_table(figures: Record) -> str:
    """What it is, and its peaks."""
    rows = [[name, value if isinstance(value, str) else _number(value)] for name, value in figures.items()
            if isinstance(value, str | int | float)]  # fmt: skip
    versions = ", ".join(f"{name} {value}" for name, value in figures.get("versions", {}).items())
    return table(["", ""], [*rows, *([["versions", versions]] if versions else [])])


def check_table(jobs: dict[str, Record]) -> str:
    """Equality with the CPU, bfloat16's curve, CartPole-v1."""
    rows = []
    for job in ("equality", "curve", "solve"):
        for name, value in jobs.get(job, {}).get("figures", {}).items():
            if isinstance(value, str | int | float) or value is None:
                rows.append([job, name, value if isinstance(value, str) else _number(value)])
    return table(["check", "figure", "value"], rows)


def update_table(jobs: dict[str, Record]) -> str:
    """One line for each timed update."""
    peaks, flops = (jobs.get(name, {}).get("figures", {}) for name in ("device", "flops"))
    rows = []
    for name, record in jobs.items():
        figures = record["figures"]
        if "update_ms" not in figures:
            continue
        kind, precision = ", ".join(name.split(", ")[:2]), name.split(", ")[2].split(" ")[0]
        members = max([int(part[1:]) for part in name.split(", ") if part[0] == "x" and part[1:].isdigit()], default=1)
        done, peak = flops.get(kind), peaks.get(f"{precision}_tflops")
        share = members * done / figures["queued_ms"] / peak / 1e9 if done and peak else None
        columns = ("update_ms", "queued_ms", "replayed_steps_per_s", "trace_s", "compile_s", "peak_memory_gb")
        rows.append([name, *(_number(figures[column]) for column in columns), "-" if share is None else f"{share:.1%}"])
    head = ["update", "ms", "queued ms", "replayed steps/s", "trace s", "compile s", "device memory GB", "share of peak"]
    return table(head, rows)


def traces(jobs: dict[str, Record]) -> list[str]:
    """How much of an update is launches."""
    found = {name: record["figures"]["trace"] for name, record in jobs.items() if record["figures"].get("trace")}
    rows = [
        [name, *(_number(trace[key]) for key in ("kernels", "busy_ms", "wall_ms", "busy_share"))]
        for name, trace in found.items()
    ]
    parts = [table(["update", "kernels", "device busy ms", "wall ms", "share busy"], rows)]
    for name, trace in found.items():
        parts.append(
            table([f"kernel of {name}", "ms"], [[f"`{key}`", _number(value)] for key, value in trace["longest_ms"].items()])
        )
    return ["## Launches, by a profiler's trace", *parts] if rows else []


def failures(jobs: dict[str, Record]) -> list[str]:
    """What there is no figure for, and why."""
    rows = [[name, record["state"], str(record.get("error", ""))[:200].replace("|", "/")] for name, record in jobs.items()
            if record["state"] != "done"]  # fmt: skip
    return ["## Without figures", table(["job", "state", "why"], rows)] if rows else []


def _number(value: float | None) -> str:
    return "-" if value is None else number(value)
