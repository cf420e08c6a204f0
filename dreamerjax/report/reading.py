"""A run directory as it is, finished or not, whole or damaged: what can be read of it, and what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dreamerjax.config.flat import flatten
from dreamerjax.config.schema import Config
from dreamerjax.core.files import read_json_object
from dreamerjax.core.formatting import whole
from dreamerjax.core.run_directory import RunDirectory, read_summary
from dreamerjax.diagnostics.collapse import CollapseWatch
from dreamerjax.diagnostics.verdict import judge_run, to_go_on
from dreamerjax.storage.logger import EPISODE_RETURN, WALL_CLOCK, read_metrics

IN_PROGRESS, KILLED = "in progress", "killed"  # beside the outcomes that a run itself writes into summary.json
GOAL = "train.stop_at_return"
GREEDY, SAMPLED = "eval/greedy/return_mean", "eval/sampled/return_mean"


@dataclass(frozen=True)
class RunReading:
    """What is known of a run."""

    directory: RunDirectory
    outcome: str  # of summary.json, or IN_PROGRESS or KILLED where the run has not come to an end
    meta: dict[str, Any]
    config: dict[str, Any]  # flat, dotted keys, as config.yaml has them
    config_yaml: str
    records: list[dict[str, float]]  # sound lines of metrics.jsonl
    figures: dict[str, Any]  # what summary.json says, or for a run without an end what its metrics do, by the same names
    findings: list[dict[str, Any]]  # see CollapseWatch.summary
    evaluations: dict[str, dict[str, Any]]  # files of `python -m dreamerjax.evaluate`, by name
    missing: list[str]  # sentences

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.directory.path.resolve().name

    @property
    def ending(self) -> str:
        """How it ended, or that it has not, in words."""
        steps, solved = self.figures.get("env_steps"), self.figures.get("solved_step")
        at = f"step {whole(steps)}" if steps is not None else "an unknown step"
        if self.outcome == "solved":
            return f"solved at step {whole(solved if solved is not None else steps)}"
        words = {
            "stopped": f"stopped by a KL spike at {at}",
            IN_PROGRESS: f"in progress, at {at}",
            KILLED: f"killed after {at}",
        }.get(self.outcome, f"{self.outcome} at {at}")
        return words + (f"; solved at step {whole(solved)}" if solved is not None else "")

    @property
    def further(self) -> str:
        """The override without which a resumed run would end at once, if there is one."""
        return to_go_on(self.outcome, flatten(Config()) | self.config)


def read_directory(directory: RunDirectory) -> RunReading:
    """Reads all that a report shows, but pictures. Damaged and missing files are named in `missing` and are no error."""
    missing: list[str] = []
    config_yaml, config = _read_config(directory.config_path, missing)
    records = _read_records(directory.metrics, missing)
    summary = read_summary(directory.path)
    meta, wanted = directory.meta, config.get(GOAL)
    changes = [change.get("env_step") for change in meta.get("changes", ()) if change.get("key") == GOAL]
    recorded = recorded_figures(records, wanted, max((step for step in changes if isinstance(step, int)), default=0))
    outcome = _outcome(directory, summary, recorded, missing)
    ended = outcome not in (IN_PROGRESS, KILLED)
    kept = {key: value for key, value in summary.items() if value is not None} if ended else {}
    if records and GREEDY not in {key for record in records for key in record}:
        missing.append("There is no evaluation in the metrics so far.")
    figures = recorded | kept
    findings = watched(records, config) if kept.get("findings") is None else kept["findings"]
    if "verdict" not in figures and records:
        names, settings = [str(found.get("name")) for found in findings], flatten(Config()) | config
        figures |= judge_run(records, settings, names, figures.get("baseline_return")).figures()
    return RunReading(
        directory=directory,
        outcome=outcome,
        meta=meta,
        config=config,
        config_yaml=config_yaml,
        records=records,
        figures=figures,
        findings=findings,
        evaluations={path.name: read_json_object(path) for path in sorted(directory.path.glob("evaluation_*.json"))},
        missing=missing,
    )


def recorded_figures(records: Sequence[dict[str, float]], wanted: float | None, since: int) -> dict[str, Any]:
    """What metrics say of a run, under the names of summary.json; a figure that they do not have is absent.

    `wanted` is the return that solves it, which it is `since` an environment step.
    """
    if not records:
        return {}
    figures: dict[str, Any] = {
        "env_steps": max(record["env_step"] for record in records),
        "updates": max(record["update"] for record in records),
        "seconds": max(record.get(WALL_CLOCK, 0.0) for record in records),
        "episodes": sum(EPISODE_RETURN in record for record in records),
    }
    latest = {"baseline_return": "baseline/return_mean", "last_return": GREEDY, "last_sampled_return": SAMPLED}
    figures |= {name: record[key] for record in records for name, key in latest.items() if key in record}
    greedy = [(record[GREEDY], record["env_step"]) for record in records if math.isfinite(record.get(GREEDY, math.nan))]
    if greedy:
        figures["last_step"] = greedy[-1][1]
        figures["best_return"], figures["best_step"] = max(greedy, key=lambda pair: pair[0])
    solved = [step for value, step in greedy if wanted is not None and value >= wanted]
    return figures | ({"solved_step": max(solved[0], since)} if solved else {})


def watched(records: Sequence[dict[str, float]], config: dict[str, Any]) -> list[dict[str, Any]]:
    """The findings that the collapse watch has in these metrics."""
    watch = CollapseWatch(flatten(Config()) | config)
    for record in records:
        watch.observe(record)
    return watch.summary()


def _read_config(path: Path, missing: list[str]) -> tuple[str, dict[str, Any]]:
    """The text of config.yaml and its values, which a later version of the configuration need not accept."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
        content = yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        missing.append(f"config.yaml cannot be read: {' '.join(str(error).split())}.")
        return "", {}
    if not isinstance(content, dict):
        missing.append("config.yaml is no mapping of keys to values.")
        return text, {}
    config = flatten(content)
    if not isinstance(config.get(GOAL), int | float | None):
        missing.append(f"config.yaml has no number as {GOAL}: {config.pop(GOAL)}.")
    return text, config


def _read_records(path: Path, missing: list[str]) -> list[dict[str, float]]:
    damaged: list[int] = []
    try:
        records = read_metrics(path, damaged)
    except OSError as error:
        missing.append(f"There are no metrics: metrics.jsonl cannot be read ({error.strerror or error}).")
        return []
    if damaged:
        lines = ", ".join(map(str, damaged[:5])) + (", ..." if len(damaged) > 5 else "")
        missing.append(f"metrics.jsonl is damaged in line {lines} ({len(damaged)} in all): what stood there is left out.")
    if not records:
        missing.append("There are no metrics: metrics.jsonl has no line yet that can be read.")
    return records


def _outcome(directory: RunDirectory, summary: dict[str, Any], recorded: dict[str, Any], missing: list[str]) -> str:
    if directory.in_training():
        missing.append("The run is in progress: this is how it stood when the report was written.")
        return IN_PROGRESS
    if not summary:
        missing.append("summary.json is missing or cannot be read: the run was killed before it could say how it ended.")
        return KILLED
    earlier = summary.get("env_steps", 0)
    if recorded.get("env_steps", 0) > earlier:
        missing.append(f"summary.json is of an earlier end, at step {earlier:,}: the run was continued, and killed later.")
        return KILLED
    return str(summary.get("outcome") or KILLED)
