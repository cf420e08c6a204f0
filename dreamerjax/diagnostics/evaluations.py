"""Detectors of the collapse watch that set evaluations beside what the critic believes.

`#01-20a` and the like: docs/findings_of_the_log.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from statistics import fmean, median
from typing import NamedTuple

from dreamerjax.core.formatting import number
from dreamerjax.diagnostics.detectors import Reading, Record

EVALUATION_FALL = 0.2  # of (best - baseline): 500 to 363 where the random policy has 22 is 29%, and was the beginning (#01-20a)
CLEARLY_BETTER = 0.5  # the best must beat the baseline by this much of it; before that, an evaluation says little
VALUES_AT_LEAST = 0.99  # of the values at the best: 147 stayed 147 (#01-20a); where they fell too, it recovered (#01-20b)
VALUE_LOGS = 4  # of which the median is the level of the values: one log is noisy
LIMIT_SHARE, LIMIT_LOGS = 0.25, 8  # a critic at its largest value was stuck (#01-20a); a healthy one has a share of 0
FLAT, FLAT_LOGS, FLAT_PARTS = 0.01, 40, 4  # 147 from 20k to 25k (#01-20a): 1,000 updates, in parts whose means hardly differ
RETURNS_CHANGE = 0.2  # 500 to 363 in 1,000 updates (#01-20a)
SWING_EVALUATIONS, FALLS = 20, 2  # 400, 125, 300, 40 (#01-18a); 488, 259, 364, 261 (#01-20c); one fall is no oscillation
EPISODES = 10  # training episodes in each half of the window: with fewer, a change of their mean is chance


class Baseline:
    """The random policy's return, or the first evaluation where no random policy ran."""

    def __init__(self) -> None:
        self._return: float | None = None

    def observe(self, record: Record) -> None:
        """Takes in a record."""
        if self._return is None:
            self._return = record.get("baseline/return_mean", record.get("eval/greedy/return_mean"))

    def gain(self, mean_return: float) -> float:
        """What a return is above the baseline, or 0 if it does not clearly beat it."""
        if self._return is None:
            return 0.0
        gain = mean_return - self._return
        return gain if gain > CLEARLY_BETTER * abs(self._return) else 0.0


class Evaluation(NamedTuple):
    """A greedy evaluation."""

    mean_return: float
    env_step: int
    value: float  # mean imagined value at that time


class EvaluationFalls:
    """The policy gets worse while the critic believes that it does not: it exploits its own model (#01-19a, #01-20a).

    One evaluation may be lucky, or unlucky: early in a healthy run 380 was followed by 206 and then by 500. So either the
    best was held in two evaluations in a row, or the fall lasts for two.
    """

    def __init__(self) -> None:
        self._baseline = Baseline()
        self._values: deque[float] = deque(maxlen=VALUE_LOGS)
        self._last: Evaluation | None = None
        self._best: Evaluation | None = None
        self._held: Evaluation | None = None  # the best of the lower ones of two in a row

    def __call__(self, record: Record) -> Reading | None:
        self._baseline.observe(record)
        if "dream/value_mean" in record:
            self._values.append(record["dream/value_mean"])
        if "eval/greedy/return_mean" not in record or not self._values:
            return None
        now = Evaluation(record["eval/greedy/return_mean"], int(record["env_step"]), median(self._values))
        last, self._last = self._last or now, now
        falls = [self._fall(self._held, now, now), self._fall(self._best, now, _better(last, now))]
        if last is not now:
            self._held = _better(self._held, last if last.mean_return <= now.mean_return else now)
        self._best = _better(self._best, now)
        return max(falls, key=lambda reading: reading.level)

    def _fall(self, best: Evaluation | None, now: Evaluation, lasting: Evaluation) -> Reading:
        """How far the better of the last evaluations, `lasting`, is below a best."""
        gain = self._baseline.gain(best.mean_return) if best is not None else 0.0
        if best is None or not gain:
            return Reading(0.0, "")
        fall = (best.mean_return - lasting.mean_return) / gain
        believed = now.value - best.value >= -(1 - VALUES_AT_LEAST) * abs(best.value)
        values = f"rose from {best.value:.4g} to" if now.value > best.value else "stayed at"
        fell = f"greedy evaluation fell from {number(best.mean_return)} (step {best.env_step:,}) to {number(now.mean_return)}"
        return Reading(fall / EVALUATION_FALL if believed else 0.0, f"{fell} while imagined values {values} {now.value:.4g}")


def _better(one: Evaluation | None, other: Evaluation) -> Evaluation:
    """The evaluation with the larger return, the first of equals."""
    return other if one is None or other.mean_return > one.mean_return else one


class WorseThanRandom:
    """Not one evaluated episode is as good as the random policy's mean (#12-31b, #01-15a).

    Greedy alone it would say little: an actor that has learned nothing yet always does the same.
    """

    def __init__(self) -> None:
        self._random: float | None = None

    def __call__(self, record: Record) -> Reading | None:
        self._random = record.get("baseline/return_mean", self._random)
        best = [record[name] for name in ("eval/greedy/return_max", "eval/sampled/return_max") if name in record]
        if self._random is None or not best:
            return None
        evidence = (
            f"the best evaluated episode has a return of {max(best):.4g}, the random policy {self._random:.4g} on average"
        )
        return Reading(float(max(best) < self._random), evidence)


class EvaluationsOscillate:
    """Evaluations fall, rise and fall again, whatever values and gates do (#01-18a, #01-20c).

    Falls count from the best evaluation on, since a jagged rise is none, and if they are clear beside the spread of episodes.
    """

    def __init__(self) -> None:
        self._baseline = Baseline()
        self._evaluations: deque[tuple[float, float]] = deque(maxlen=SWING_EVALUATIONS)  # (mean, standard deviation)

    def __call__(self, record: Record) -> Reading | None:
        self._baseline.observe(record)
        if "eval/greedy/return_mean" not in record:
            return None
        self._evaluations.append((record["eval/greedy/return_mean"], record.get("eval/greedy/return_std", 0.0)))
        means, deviations = zip(*self._evaluations, strict=True)
        gain = self._baseline.gain(max(means))
        least = max(EVALUATION_FALL * gain, median(deviations))
        since = means[means.index(max(means)) :]
        count = _falls(since, least) if gain else 0
        evidence = f"since the best of {max(means):.4g} greedy evaluations fell {count} times by {least:.4g} or more"
        return Reading(count / FALLS, f"{evidence}, with as large a rise between, down to {min(since):.4g}")


def _falls(values: Sequence[float], least: float) -> int:
    """How often a curve falls by at least so much, each time but the first after it has risen by as much again."""
    count, falling, edge = 0, False, values[0]
    for value in values:
        edge = min(edge, value) if falling else max(edge, value)
        if abs(value - edge) >= least:
            count, falling, edge = count + (not falling), not falling, value
    return count


class CriticSaturates:
    """The critic is stuck: at the largest value it can express, or flat while the returns change much (#01-20a)."""

    def __init__(self) -> None:
        self._shares: deque[float] = deque(maxlen=LIMIT_LOGS)
        self._values: deque[tuple[int, float]] = deque(maxlen=FLAT_LOGS)  # (update, mean imagined value)
        self._evaluations: deque[tuple[int, float]] = deque(maxlen=FLAT_LOGS)  # (update, return)
        self._episodes: deque[tuple[int, float]] = deque(maxlen=5 * FLAT_LOGS)

    def __call__(self, record: Record) -> Reading | None:
        update, known = int(record["update"]), False
        series = (
            ("dream/value_mean", self._values),
            ("eval/greedy/return_mean", self._evaluations),
            ("episode/return", self._episodes),
        )
        for name, points in series:
            if name in record:
                points.append((update, record[name]))
                known = True
        if "critic/limit_share" in record:
            self._shares.append(record["critic/limit_share"])
            known = True
        readings = [reading for reading in (self._at_limit(), self._flat()) if reading is not None]
        return max(readings, key=lambda reading: reading.level) if known and readings else None

    def _at_limit(self) -> Reading | None:
        if len(self._shares) < LIMIT_LOGS:
            return None
        share = fmean(self._shares)
        where = f"the largest value of the critic's bins, over {LIMIT_LOGS} logs"
        return Reading(share / LIMIT_SHARE, f"{share:.0%} of imagined values are at {where}")

    def _flat(self) -> Reading | None:
        if len(self._values) < FLAT_LOGS:
            return None
        size = FLAT_LOGS // FLAT_PARTS
        parts = [fmean(value for _, value in islice(self._values, i, i + size)) for i in range(0, FLAT_LOGS, size)]
        spread = (max(parts) - min(parts)) / max(abs(fmean(parts)), 1e-9)
        start, end = self._values[0][0], self._values[-1][0]
        what, first, last = self._returns(start, end)
        change = abs(last - first) / max(abs(first), abs(last), 1e-9)
        flat = f"imagined values stayed within {spread:.2%} of {fmean(parts):.4g} from update {start:,} to {end:,}"
        level = min(change / RETURNS_CHANGE, FLAT / max(spread, 1e-9))
        return Reading(level, f"{flat} while {what} went from {number(first)} to {number(last)}")

    def _returns(self, start: int, end: int) -> tuple[str, float, float]:
        """What changed between two updates: evaluations most, or training episodes where there are no evaluations."""
        margin = (end - start) // FLAT_PARTS  # the evaluation at which the window begins may lie a little before it
        evaluations = [value for update, value in self._evaluations if update >= start - margin]
        if len(evaluations) >= 2:
            low, high = min(evaluations), max(evaluations)
            rises = evaluations.index(low) < evaluations.index(high)
            return ("greedy evaluation", low, high) if rises else ("greedy evaluation", high, low)
        episodes = [value for update, value in self._episodes if update >= start]
        half = len(episodes) // 2
        if half < EPISODES:
            return "returns", 0.0, 0.0
        return f"the mean of {half} training returns", fmean(episodes[:half]), fmean(episodes[half:])
