"""An experiment as data: what `experiments/<slug>/experiment.yaml` says once it has been read and checked."""

from __future__ import annotations

from dataclasses import dataclass
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
    """What arms are compared at equal amounts of: fields of every line of metrics.jsonl (`seconds` is its `time`)."""

    env_steps = "env_steps"
    updates = "updates"
    seconds = "seconds"


class Statistic(Enum):
    """How a run's curve becomes one number. `last`: the value at the budget; the others: over the window up to it."""

    last = "last"
    mean = "mean"
    min = "min"
    max = "max"


@dataclass(frozen=True)
class Metric:
    """The primary metric: one number per run."""

    name: str  # a key of metrics.jsonl, for example eval/greedy/return_mean
    at: int  # the budget at which the arms are compared
    budget: Budget = Budget.env_steps
    statistic: Statistic = Statistic.last
    start: int = 0  # of the window of mean, min and max, in units of the budget


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
class Experiment:
    """All of it. The rule of the verdict is RULE."""

    slug: str
    directory: Path
    date: str  # ISO
    status: Status
    question: str
    hypothesis: Hypothesis
    metric: Metric
    confidence: float  # of the interval in the rule
    gate: Gate
    factorial: bool
    pilot: bool
    common: tuple[str, ...]  # overrides of every arm
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]


RULE = (
    "supported if the interval of the contrast, taken in the expected direction, lies above 0 and its estimate is at least "
    "`by`; refuted if the interval lies below `by`; else inconclusive"
)

TOLERANCE = 0.01  # share of the budget by which a run may fall short of it and still count
