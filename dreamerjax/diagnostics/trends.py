"""Detectors of the collapse watch that set a metric beside its own past, in windows of training logs.

`#01-20a` and the like: docs/findings_of_the_log.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from statistics import fmean, median

from dreamerjax.diagnostics.detectors import Reading, Record
from dreamerjax.diagnostics.evaluations import Baseline

ACTOR_LOGS = 20  # the loss' level is a median of 500 updates: it climbed for 8,000 (#01-20a)
ACTOR_CLIMB, ACTOR_FLOOR = 2.5, 0.05  # 0.1 to 0.3 (#01-19a); 0.036, then 0.107 (#01-20a); steady: up to 0.007 (#01-20b, c)
KL_SPIKE, KL_FLOOR = 3.0, 0.01  # nats; 0.004 to 0.017 is a factor of 4 (#01-20a); below the floor lies noise
KL_LOGS, KL_BEFORE, KL_BEFORE_LEAST = 4, 200, 20  # 5,000 updates before: the spike took 1,500 to build up (#01-20a)
RETURN_EXCESS = (
    0.5  # of the real return, or of 1 where that is smaller: dream values tripled while episodes got 40% shorter (#01-17c)
)
GATE_SHARE, GATE_LOGS = 0.5, 40  # always on: 1,000 updates without an actor-critic (#01-18b)
IDLE_LOGS = 200  # 5,000 updates: none of the gates came on in 17,200 (#01-18a)
REPLAY_LOGS = 40  # 1,000 updates without an end; one log alone may have none by chance


class ActorLossClimbs:
    """The actor is pushed away from a policy that was good: a leading sign of the collapse (#01-19a, #01-20a).

    Nothing is read before an evaluation was clearly better than the baseline: the loss rises from 0 as learning begins.
    """

    def __init__(self) -> None:
        self._baseline = Baseline()
        self._learned = False
        self._losses: deque[float] = deque(maxlen=ACTOR_LOGS)
        self._lowest: tuple[float, int] | None = None  # (level, environment step)

    def __call__(self, record: Record) -> Reading | None:
        self._baseline.observe(record)
        if "eval/greedy/return_mean" in record:
            self._learned |= self._baseline.gain(record["eval/greedy/return_mean"]) > 0
        if "loss/actor" not in record or not self._learned:
            return None
        self._losses.append(record["loss/actor"])
        if len(self._losses) < ACTOR_LOGS:
            return None
        level = median(self._losses)
        if self._lowest is None or level < self._lowest[0]:
            self._lowest = level, int(record["env_step"])
        lowest, step = self._lowest
        threshold = max(ACTOR_CLIMB * lowest, lowest + ACTOR_FLOOR, ACTOR_FLOOR)
        evidence = f"the actor's loss rose from {lowest:.3g} (step {step:,}) to {level:.3g}, medians of {ACTOR_LOGS} logs"
        return Reading(level / threshold, evidence)


class KLSpike:
    """Prior and posterior drift apart: dreams no longer follow the world (#01-20a)."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=KL_LOGS + KL_BEFORE)

    def __call__(self, record: Record) -> Reading | None:
        if "model/kl" not in record:
            return None
        self._values.append(record["model/kl"])
        if len(self._values) < KL_LOGS + KL_BEFORE_LEAST:
            return None
        values: Sequence[float] = list(self._values)
        recent, before = median(values[-KL_LOGS:]), median(values[:-KL_LOGS])
        evidence = f"the KL is {recent:.2g} nats, {recent / max(before, 1e-9):.1f} times its median of the logs before"
        return Reading(min(recent / max(KL_SPIKE * before, 1e-9), recent / KL_FLOOR), f"{evidence}, {before:.2g}")


class DelusionalDreams:
    """Dreams promise more than the same policy really gets, often long after the KL collapsed."""

    def __init__(self) -> None:
        self._kl: deque[float] = deque(maxlen=KL_BEFORE)

    def __call__(self, record: Record) -> Reading | None:
        if "model/kl" in record:
            self._kl.append(record["model/kl"])
        imagined, real = record.get("gap/return_imagined"), record.get("gap/return_real")
        if imagined is None or real is None:
            return None
        excess = (imagined - real) / max(1.0, abs(real))  # a ratio would say nothing of negative returns
        kl = f"; the KL is {self._kl[-1]:.2g} nats, its median {median(self._kl):.2g}" if self._kl else ""
        return Reading(excess / RETURN_EXCESS, f"dreams promise a return of {imagined:.4g} where {real:.4g} follows{kl}")


class ReplayWithoutFailures:
    """Batches hold no end of an episode any more, though episodes did end: the continue head forgets what a failure is."""

    def __init__(self) -> None:
        self._ended = False
        self._without: deque[bool] = deque(maxlen=REPLAY_LOGS)

    def __call__(self, record: Record) -> Reading | None:
        rate = record.get("batch/terminal_rate")
        if rate is None:
            return None
        self._ended |= rate > 0
        self._without.append(self._ended and rate == 0)
        evidence = f"no end of an episode in the batches of {REPLAY_LOGS} logs, where earlier ones had some"
        return Reading(sum(self._without) / REPLAY_LOGS, evidence)


class GateAlwaysOn:
    """A gate of pacing hardly ever ends: actor and critic do not learn (#01-18b)."""

    def __init__(self, gate: str) -> None:
        """Of `pacing/<gate>`."""
        self._name, self._on = gate, deque[float](maxlen=GATE_LOGS)

    def __call__(self, record: Record) -> Reading | None:
        if f"pacing/{self._name}" not in record:
            return None
        self._on.append(record[f"pacing/{self._name}"])
        if len(self._on) < GATE_LOGS:
            return None
        share = fmean(self._on)
        return Reading(share / GATE_SHARE, f"pacing/{self._name} was on for {share:.0%} of the last {GATE_LOGS} logs")


class GateNeverOn:
    """A gate that is set has never come on, so that the run is one without it (#01-18a)."""

    def __init__(self, gate: str) -> None:
        """Of `pacing/<gate>`, which the run's settings can turn on."""
        self._name, self._logs, self._came_on = gate, 0, False
        self._surprise = f"wm/surprise/{'kl_dyn' if gate == 'kl_pause' else 'total'}_log_ratio"
        self._most = 0.0

    def __call__(self, record: Record) -> Reading | None:
        if f"pacing/{self._name}" not in record:
            return None
        self._logs += 1
        self._came_on |= record[f"pacing/{self._name}"] > 0
        self._most = max(self._most, record.get(self._surprise, 0.0))
        evidence = f"pacing/{self._name} was never on in {self._logs} logs; {self._surprise} was at most {self._most:.3g}"
        return Reading(0.0 if self._came_on else self._logs / IDLE_LOGS, evidence)
