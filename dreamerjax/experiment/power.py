"""How small an effect an experiment can see, before it runs: the rule of the verdict, tried on simulated experiments.

Values of an arm are taken as normal, with one spread in all arms. The interval of a contrast moves with the effect, so that one
simulation without an effect is enough: the effect at which 80% of the intervals have left 0 behind.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dreamerjax.core.errors import UserError
from dreamerjax.core.files import read_json_object
from dreamerjax.core.formatting import number
from dreamerjax.experiment.design import Experiment, Metric
from dreamerjax.experiment.statistics import SEED, interquartile_mean

POWER = 0.8  # share of the experiments that see an effect of that size
TRIALS, RESAMPLES = 1_000, 400  # simulated experiments, and bootstrap resamples of each
SIMULATED = 20  # seeds of an arm; with more, the effect shrinks with the square root of their number
FEWEST = 3
FAINTEST = 1e-6  # of a spread


class Sight(NamedTuple):
    """What a number of seeds can see."""

    effect: float  # the smallest effect that `POWER` of the experiments see, in units of the spread
    false_alarm: float  # share of the experiments without an effect whose interval does not hold 0


class Pilot(NamedTuple):
    """The spread between seeds of an arm, pooled over arms, and where it comes from."""

    spread: float
    source: str


@lru_cache
def sight(treatment: tuple[int, ...], control: tuple[int, ...], confidence: float) -> Sight:
    """What an experiment sees with so many seeds in each arm of either side, at least 2 each."""
    rng = np.random.default_rng(SEED)
    ends = np.array([_interval(rng, treatment, control, confidence) for _ in range(TRIALS)])
    low, high = ends.T
    return Sight(float(-np.quantile(low, 1 - POWER)), float(np.mean((low > 0) | (high < 0))))


def seeds_needed(experiment: Experiment, effect: float) -> int:
    """Seeds of each arm, at least 3, with which an experiment sees an effect, given in units of the spread."""

    def seen_with(seeds: int) -> float:
        return _sight_of(experiment, seeds).effect

    if (least := seen_with(SIMULATED)) > effect:
        return math.ceil(SIMULATED * (least / effect) ** 2)
    return FEWEST + bisect_left(range(FEWEST, SIMULATED), True, key=lambda seeds: seen_with(seeds) <= effect)


def pooled_spread(arms: Sequence[Sequence[float] | np.ndarray]) -> float:
    """Standard deviation of the values of an arm, pooled over the arms; NaN where no arm has two values."""
    counted = [np.asarray(values, np.float64) for values in arms if len(values) > 1]
    freedom = sum(len(values) - 1 for values in counted)
    return math.sqrt(sum(float(np.sum((values - values.mean()) ** 2)) for values in counted) / freedom) if freedom else math.nan


def newest_pilot(experiment: Experiment) -> Pilot:
    """The spread in the experiment's own results, or else in the newest of the same metric beside its directory.

    Raises UserError: there are no results of this metric, they are damaged, or all of their values are equal.
    """
    metric, own = experiment.metric, experiment.directory.resolve() / "results.json"
    others = sorted(own.parent.parent.glob("*/results.json"))
    found = [(file == own, str(content.get("date")), file, content) for file in others if (content := _same(file, metric))]
    if not found:
        raise UserError(
            f"experiment {experiment.slug}: no results of {metric.label} yet that tell its standard deviation "
            "between seeds: give what you expect as --spread"
        )
    _, date, file, content = max(found, key=lambda entry: entry[:2])
    try:
        spread = pooled_spread([[run["value"] for run in arm["runs"]] for arm in content["arms"]])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{file} is damaged: each of its arms must have runs with a value") from None
    if not spread > 0:
        raise UserError(f"experiment {experiment.slug}: the seeds in {file} do not differ: give the --spread to expect")
    return Pilot(spread, f"results of {file.parent.name}, {date}")


def plan(experiment: Experiment, spread: float | None, effect: float | None) -> str:
    """What the experiment can see, in a few lines.

    `spread` is that between seeds of an arm, in units of the metric, by default that of a pilot, see `newest_pilot`; `effect`
    is asked about, by default `hypothesis.by`.

    Raises UserError: a number is not above 0, there is no pilot, or the contrast is one of two factors.
    """
    slug, contrast, seeds = experiment.slug, experiment.hypothesis.contrast, len(experiment.seeds)
    if contrast.factor is not None:
        raise UserError(f"experiment {slug}: a plan needs hypothesis.treatment and control, not factor and against")
    for name, value in (("--spread", spread), ("--effect", effect)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UserError(f"{name} must be above 0, not {value:g}")
    asked = effect or experiment.hypothesis.by
    if not asked:
        raise UserError(f"experiment {slug}: hypothesis.by is 0, so that no number of seeds is enough: give an --effect")
    pilot = newest_pilot(experiment) if spread is None else Pilot(spread, "as given")
    lines = [
        f"experiment {slug}: {' and '.join(contrast.treatment)} against {' and '.join(contrast.control)}",
        f"metric: {experiment.metric.label}",
        f"spread between seeds of an arm: {number(pilot.spread)} ({pilot.source})",
    ]
    if seeds > 1:
        seen = _sight_of(experiment, seeds)
        lines.append(
            f"{seeds} seeds an arm: {POWER:.0%} of such experiments see an effect of {number(seen.effect * pilot.spread)}, as "
            f"their {experiment.rule.confidence:.0%} interval excludes 0; without an effect {seen.false_alarm:.0%} see one"
        )
    if asked < FAINTEST * pilot.spread:
        raise UserError(
            f"experiment {slug}: no number of seeds shows an effect of {asked:g} beside a spread of {pilot.spread:g}"
        )
    needed = seeds_needed(experiment, asked / pilot.spread)
    return "\n".join([*lines, f"to see an effect of {number(asked)}: {needed} seeds an arm"])


def smallest_effect(values: Mapping[str, Sequence[float] | np.ndarray], experiment: Experiment) -> float | None:
    """The smallest effect that finished runs, of which `values` are each arm's, could have seen, in units of the metric.

    None of a contrast of two factors, with fewer than two values in an arm of it, and where the values do not differ.
    """
    contrast = experiment.hypothesis.contrast
    if contrast.factor is not None:
        return None
    treatment, control = (tuple(len(values[name]) for name in side) for side in (contrast.treatment, contrast.control))
    spread = pooled_spread([values[name] for name in (*contrast.treatment, *contrast.control)])
    if min((*treatment, *control)) < 2 or not spread > 0:
        return None
    return spread * sight(treatment, control, experiment.rule.confidence).effect


def _sight_of(experiment: Experiment, seeds: int) -> Sight:
    contrast = experiment.hypothesis.contrast
    treatment, control = ((seeds,) * len(side) for side in (contrast.treatment, contrast.control))
    return sight(treatment, control, experiment.rule.confidence)


def _interval(rng: np.random.Generator, treatment: tuple[int, ...], control: tuple[int, ...], confidence: float) -> np.ndarray:
    """The ends of the interval of one experiment without an effect."""

    def side(counts: tuple[int, ...]) -> np.ndarray:
        arms = [rng.standard_normal(count)[rng.integers(count, size=(RESAMPLES, count))] for count in counts]
        return np.mean([interquartile_mean(arm) for arm in arms], axis=0)

    return np.quantile(side(treatment) - side(control), [(1 - confidence) / 2, (1 + confidence) / 2])


def _same(file: Path, metric: Metric) -> dict[str, Any] | None:
    """The results in a file, if they are of this metric."""
    content = read_json_object(file)
    wanted = {"name": metric.name, "statistic": metric.statistic.name, "budget": metric.budget.name}
    measured = content.get("metric")
    return content if isinstance(measured, dict) and wanted.items() <= measured.items() and content.get("arms") else None
