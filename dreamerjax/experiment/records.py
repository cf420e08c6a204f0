"""What runs wrote down, read into arrays and numbers that can be compared."""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dreamerjax.config.flat import flatten
from dreamerjax.core.errors import UserError
from dreamerjax.core.files import sound
from dreamerjax.core.run_directory import META, SUMMARY
from dreamerjax.experiment.design import TOLERANCE, Budget, Metric, Statistic
from dreamerjax.storage.logger import WALL_CLOCK, read_metrics

FIELDS = {Budget.env_steps: "env_step", Budget.updates: "update", Budget.seconds: WALL_CLOCK}  # of each line of metrics.jsonl
_TICKS = {Budget.env_steps: "env.num_envs", Budget.updates: "train.updates_per_call"}


@dataclass(frozen=True)
class RunRecord:
    """The content of a run directory."""

    path: Path
    records: tuple[dict[str, Any], ...]  # lines of metrics.jsonl, at least one
    config: dict[str, Any]  # flat, dotted keys
    meta: dict[str, Any]
    summary: dict[str, Any]  # empty if the run never wrote it

    @property
    def name(self) -> str:
        """The directory's name, which says nothing of the machine that it is on."""
        return self.path.name

    @property
    def seed(self) -> Any:
        """The seed of the run."""
        return self.config.get("train.seed", self.meta.get("seed"))

    @property
    def commit(self) -> str:
        """First ten digits of the code's commit."""
        return str(self.meta.get("git", {}).get("commit") or "unknown")[:10]

    @property
    def dirty(self) -> bool:
        """Whether the run started with changes that were not committed."""
        return bool(self.meta.get("git", {}).get("dirty"))

    @property
    def findings(self) -> tuple[str, ...]:
        """Names of what the collapse watch saw, each once, in order; none of a run that had no such watch."""
        return tuple(dict.fromkeys(str(finding.get("name")) for finding in self.summary.get("findings", ())))


def read_run(path: Path) -> RunRecord:
    """Reads a run directory, also one that is being trained. Raises UserError: a file of it is missing, damaged or empty."""
    damaged: list[int] = []
    try:
        records = tuple(read_metrics(path / "metrics.jsonl", damaged))
        config = yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8"))
        meta = json.loads((path / "meta.json").read_text(encoding="utf-8"))
        summary_file = path / "summary.json"
        summary = json.loads(summary_file.read_text(encoding="utf-8")) if summary_file.exists() else {}
    except FileNotFoundError as error:
        raise UserError(f"run {path.name} has no {Path(error.filename).name}") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"run {path.name} cannot be read: {error}") from error
    if damaged:
        raise UserError(f"run {path.name} cannot be read: metrics.jsonl is damaged in line {', '.join(map(str, damaged))}")
    if not records:
        raise UserError(f"run {path.name} logged nothing")
    for name, content in (("config.yaml", config), ("meta.json", meta), ("summary.json", summary)):
        if not isinstance(content, dict):
            raise UserError(f"run {path.name} cannot be read: {name} is no mapping of keys to values")
    return RunRecord(path, records, flatten(config), sound(meta, META), sound(summary, SUMMARY))


def curve(run: RunRecord, metric: str, budget: Budget) -> tuple[np.ndarray, np.ndarray]:
    """Budget spent [n], not decreasing, and value of the metric there [n].

    Raises UserError: the run never logged the metric; the nearest one that it logged is named.
    """
    field = FIELDS[budget]
    points = [(record[field], record[metric]) for record in run.records if record.get(metric) is not None and field in record]
    if not points:
        known = sorted({key for record in run.records for key in record} - set(FIELDS.values()))
        near = get_close_matches(metric, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known[:8]) or 'none'}"
        raise UserError(f"run {run.name} has no metric {metric}; {hint}")
    table = np.array(points, dtype=np.float64)
    table = table[np.argsort(table[:, 0], kind="stable")]
    return table[:, 0], table[:, 1]


def end(run: RunRecord, budget: Budget) -> float:
    """How much of the budget the run had spent at its last record of any kind."""
    return float(max(record.get(FIELDS[budget], 0.0) for record in run.records))


def reaches(run: RunRecord, budget: Budget, at: float) -> bool:
    """Whether the run went on until `at`, or until 1% before it."""
    return end(run, budget) >= at * (1 - TOLERANCE)


def value(run: RunRecord, metric: Metric) -> float:
    """The run's number.

    `last` is the last value at or before `at`; the others are over all values from `start` to `at`. A vector of environments
    passes a step count by less than one tick, a call of several updates likewise: values so little past `at` count too.

    Raises UserError: the run ended before `at`, never logged the metric, logged it only outside the window, or a value in it is
    not finite; or `kept` has no value after the one that reached the threshold. Such a run cannot be compared.
    """
    unit = metric.budget.value
    if not reaches(run, metric.budget, metric.at):
        raise UserError(f"run {run.name} ended after {end(run, metric.budget):,.0f} of {metric.at:,} {unit}")
    spent, values = curve(run, metric.name, metric.budget)
    start = 0 if metric.statistic is Statistic.last else metric.start
    ticks = run.config.get(_TICKS.get(metric.budget, ""), 1)
    inside = (spent >= start) & (spent <= metric.at + int(ticks) - 1)
    if not inside.any():
        raise UserError(f"run {run.name} has no {metric.name} from {start:,} to {metric.at:,} {unit}")
    spent, values = spent[inside], values[inside]
    if not np.isfinite(values[-1:] if metric.statistic is Statistic.last else values).all():
        raise UserError(f"run {run.name}: {metric.name} is not finite")
    if np.isnan(number := float(_of_curve(spent, values, metric))):
        raise UserError(f"run {run.name} has no {metric.name} after the first that reaches {metric.threshold:g}")
    return number


def _of_curve(spent: np.ndarray, values: np.ndarray, metric: Metric) -> Any:
    """The statistic of a curve [n] of at least one value; NaN where it has none."""
    reached = values >= (np.inf if metric.threshold is None else metric.threshold)
    first = int(np.argmax(reached))
    match metric.statistic:
        case Statistic.last:
            return values[-1]
        case Statistic.area:
            return np.trapezoid(values, spent) / np.ptp(spent) if np.ptp(spent) else values.mean()
        case Statistic.fall:
            return values.max() - values[-1]
        case Statistic.time_to:
            return min(spent[first], metric.at) if reached.any() else metric.at
        case Statistic.kept if not reached.any():
            return 0.0
        case Statistic.kept:
            return reached[first + 1 :].mean() if len(values) > first + 1 else np.nan
    return getattr(np, metric.statistic.name)(values)
