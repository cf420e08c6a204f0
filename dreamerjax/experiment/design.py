"""An experiment as data: what `experiments/<slug>/experiment.yaml` says once it has been read and checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from pathlib import Path


class Gate(Enum):
    """`dynamics`: all arms are one model family. `architecture`: they may differ in environment or model."""

    dynamics = "dynamics"
    architecture = "architecture"


class Status(Enum):
    """Where an experiment is in its life."""

    planned = "planned"
    running = "running"
    reported = "reported"


class Budget(Enum):
    """What arms are compared at equal amounts of, in words."""

    env_steps = "environment steps"
    updates = "updates"
    seconds = "seconds"


class Statistic(Enum):
    """How a run's curve becomes one number. `last`: the value at the budget; the others: over the window up to it. In words."""

    last = "the last"
    mean = "the mean of its values"
    min = "the smallest of its values"
    max = "the largest of its values"
    area = "the area under its curve over the width,"  # so in units of the metric
    fall = "the largest minus the last of its values"
    time_to = "where it first reaches the threshold, or the end where it never does,"  # in units of the budget
    kept = "the share of its values at the threshold or above, after the first of them (0 where there is none),"


@dataclass(frozen=True)
class Metric:
    """The primary metric: one number per run."""

    name: str  # a key of metrics.jsonl, for example eval/greedy/return_mean
    budget: Budget = Budget.env_steps
    at: int = field(kw_only=True)  # the budget at which the arms are compared
    statistic: Statistic = Statistic.last
    start: int = 0  # of the window of all but `last`, in units of the budget
    threshold: float | None = None  # of time_to and kept, in units of the metric

    @property
    def label(self) -> str:
        """Which number it is, in a few words."""
        threshold = "" if self.threshold is None else f" {self.threshold:g}"
        return self.name if self.statistic is Statistic.last else f"{self.statistic.name}{threshold} of {self.name}"

    @property
    def words(self) -> str:
        """It in words, as Markdown."""
        at = f"{self.at:,} {self.budget.value}"
        if self.statistic is Statistic.last:
            return f"`{self.name}`, its last value at or before {at}"
        threshold = "" if self.threshold is None else f" (threshold {self.threshold:g})"
        return f"`{self.name}`, {self.statistic.value} from {self.start:,} to {at}{threshold}"


@dataclass(frozen=True)
class Arm:
    """One setting. `levels` are the swept keys and values of an arm that a grid or random sweep made."""

    name: str
    overrides: tuple[str, ...]  # of the command line, after those that all arms share
    script: str | None = None  # a Python file beside experiment.yaml that runs in place of `-m dreamerjax.train`
    levels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Contrast:
    """The number that decides: treatment minus control, each the mean over arms of the arm's statistic over seeds.

    Or, with `factor` and `against` (swept keys): how much further apart the levels of `factor` lie than those of
    `against` (range of the level means of the one, minus that of the other).
    """

    treatment: tuple[str, ...] = ()  # arm names
    control: tuple[str, ...] = ()
    factor: str | None = None
    against: str | None = None


@dataclass(frozen=True)
class Hypothesis:
    """What is changed, and what is expected of it."""

    change: str  # in words
    expect: str  # in words
    higher: bool  # the direction in which the contrast is expected to lie
    by: float  # how far, in units of the primary metric, above 0
    contrast: Contrast


@dataclass(frozen=True)
class Rule:
    """What the verdict by RULE leaves open."""

    confidence: float = 0.95  # of the interval


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """All of it: but for the first two, what the keys of the file say."""

    slug: str
    directory: Path
    question: str
    date: date
    status: Status = Status.planned
    hypothesis: Hypothesis
    metric: Metric
    rule: Rule = Rule()
    gate: Gate = Gate.dynamics
    factorial: bool = False
    pilot: bool = False
    common: tuple[str, ...] = ()  # overrides of every arm
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]


RULE = (
    "supported if the interval of the contrast, taken in the expected direction, lies above 0 and its estimate is at least "
    "`by`; refuted if the interval lies below `by`; else inconclusive"
)

TOLERANCE = 0.01  # share of the budget by which a run may fall short of it and still count
