"""The words and tables of a report, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from dreamerjax.core.formatting import number
from dreamerjax.experiment.analysis import Analysis, ArmResult
from dreamerjax.experiment.design import RULE, Budget, Experiment, Metric, Statistic
from dreamerjax.experiment.results import UNITS, end
from dreamerjax.experiment.statistics import RESAMPLES, Estimate, level_means

ESTIMATOR = "interquartile mean over seeds (the mean for fewer than 4), with a percentile bootstrap interval over seeds"
_STATISTICS = {Statistic.mean: "the mean", Statistic.min: "the smallest", Statistic.max: "the largest"}


def render(analysis: Analysis, notes: str, computer: dict[str, Any]) -> str:
    """The report.

    Args:
        analysis: what it says.
        notes: Markdown to end with; empty for none.
        computer: see `core.machine.machine`.
    """
    parts = [
        f"# {analysis.experiment.question}",
        verdict_line(analysis),
        *(["\n".join(f"> **Warning.** {warning}  " for warning in analysis.warnings)] if analysis.warnings else []),
        "## The question",
        _question(analysis.experiment),
        "## The arms",
        _table(analysis),
        "![The primary metric of each arm, seed by seed](metric.png)",
        "![Learning curves of each arm](curves.png)",
        "## The contrast",
        _contrast(analysis),
        *_absent(analysis),
        "## How to repeat",
        _repeat(analysis, computer),
        *([notes.strip()] if notes.strip() else []),
    ]
    return "\n\n".join(parts) + "\n"


def verdict_line(analysis: Analysis) -> str:
    """The verdict, the figures that made it, and how many seeds they rest on."""
    hypothesis, contrast = analysis.experiment.hypothesis, analysis.experiment.hypothesis.contrast
    direction = "higher" if hypothesis.higher else "lower"
    line = (
        f"**{analysis.verdict.name.capitalize()}**: {_difference(analysis)} is {_interval(analysis.contrast)}; "
        f"expected was at least {number(hypothesis.by)} {direction}"
    )
    if analysis.improvement is not None:
        line += f". A treatment run is {direction} than a control run with probability {_interval(analysis.improvement)}"
    used = (*contrast.treatment, *contrast.control)
    counts = [f"{len(arm.runs)}" for arm in analysis.arms if arm.arm.name in used or contrast.factor is not None]
    seeds = " + ".join(counts) if len(counts) <= 4 else f"{sum(map(int, counts))} in {len(counts)} arms"
    return f"{line}. Seeds: {seeds}. Why: {analysis.verdict.reason}."


def metric_words(metric: Metric) -> str:
    """The primary metric in words."""
    at = f"{metric.at:,} {UNITS[metric.budget]}"
    if metric.statistic is Statistic.last:
        return f"`{metric.name}`, its last value at or before {at}"
    return f"`{metric.name}`, {_STATISTICS[metric.statistic]} of its values from {metric.start:,} to {at}"


def _question(experiment: Experiment) -> str:
    hypothesis = experiment.hypothesis
    direction = "higher" if hypothesis.higher else "lower"
    common = f"\n- **All arms**: {_codes(experiment.common)}" if experiment.common else ""
    return (
        f"- **Change**: {hypothesis.change}\n"
        f"- **Expected**: {hypothesis.expect} ({direction}, by at least {number(hypothesis.by)})\n"
        f"- **Primary metric**: {metric_words(experiment.metric)}\n"
        f"- **Rule**: {RULE}. The intervals are {experiment.confidence:.0%} intervals.\n"
        f"- **Estimator**: {ESTIMATOR}, {RESAMPLES:,} resamples, each arm on its own. "
        "With fewer than 10 seeds such intervals are somewhat too narrow.\n"
        f"- **Budget**: {experiment.metric.at:,} {UNITS[experiment.metric.budget]}, the same for every run that counts.{common}"
    )


def _table(analysis: Analysis) -> str:
    confidence = f"{analysis.experiment.confidence:.0%}"
    head = ["arm", "overrides", "seeds", f"IQM [{confidence} interval]", "mean", "min", "max", "findings", "seconds", "updates"]
    rows = [_row(arm, len(analysis.experiment.seeds)) for arm in analysis.arms]
    return _markdown_table(head, rows) + "\n\nSeconds and updates are medians over the seeds, of the whole run."


def _row(arm: ArmResult, seeds: int) -> list[str]:
    overrides = [*([f"script={arm.arm.script}"] if arm.arm.script else []), *arm.arm.overrides]
    counted = f"{len(arm.runs)} of {seeds}"
    if not arm.runs:
        return [arm.arm.name, _codes(overrides), counted, *["n/a"] * 7]
    spent = [np.median([end(run, budget) for run in arm.runs]) for budget in (Budget.seconds, Budget.updates)]
    numbers = [arm.values.mean(), arm.values.min(), arm.values.max()]
    found = Counter(name for run in arm.runs for name in run.findings)
    findings = "; ".join(f"{count} of {len(arm.runs)}: {name}" for name, count in found.most_common()) or "none"
    return [
        arm.arm.name,
        _codes(overrides),
        counted,
        _interval(arm.middle),
        *map(number, numbers),
        findings,
        *(f"{amount:,.0f}" for amount in spent),
    ]


def _contrast(analysis: Analysis) -> str:
    contrast = analysis.experiment.hypothesis.contrast
    text = f"The contrast, {_difference(analysis)}, is {_interval(analysis.contrast)}."
    if contrast.factor is None:
        return text
    middles = {arm.arm.name: arm.middle.value for arm in analysis.arms}
    arms = [arm.arm for arm in analysis.arms]
    rows = [
        [f"`{key}`", level, number(float(mean))]
        for key in (contrast.factor, str(contrast.against))
        for level, mean in level_means(middles, arms, key).items()
    ]
    return f"{text}\n\n{_markdown_table(['key', 'level', 'mean of the IQM of its arms'], rows)}"


def _difference(analysis: Analysis) -> str:
    contrast = analysis.experiment.hypothesis.contrast
    if contrast.factor is not None:
        return f"the range of the level means of `{contrast.factor}` minus that of `{contrast.against}`"
    treatment, control = (" and ".join(names) for names in (contrast.treatment, contrast.control))
    return f"{treatment} minus {control}"


def _absent(analysis: Analysis) -> list[str]:
    if not analysis.absent:
        return []
    rows = [[absence.arm, str(absence.seed), absence.reason] for absence in analysis.absent]
    return ["## Runs that do not count", _markdown_table(["arm", "seed", "why"], rows)]


def _repeat(analysis: Analysis, computer: dict[str, Any]) -> str:
    runs = [run for arm in analysis.arms for run in arm.runs]
    commits = sorted({run.commit for run in runs})
    versions = runs[0].meta.get("versions") or {}
    packages = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    slug = analysis.experiment.slug
    return (
        f"```\npython -m dreamerjax.experiment run {slug}\npython -m dreamerjax.experiment report {slug}\n```\n\n"
        f"Reported on: {computer['processor']}, {computer['cores']} cores. Commit of the runs: {', '.join(commits)}. "
        f"Packages: {packages or 'not recorded'}. Every number: [results.json](results.json)."
    )


def _interval(estimate: Estimate) -> str:
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"


def _codes(words: Iterable[str]) -> str:
    return " ".join(f"`{word}`" for word in words) or "none"


def _markdown_table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
