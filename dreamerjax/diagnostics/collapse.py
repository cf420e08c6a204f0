"""The collapse watch: recognises in a run's metrics the failures that docs/findings_of_the_log.md tells of. No JAX in here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dreamerjax.diagnostics import detectors, evaluations, trends
from dreamerjax.diagnostics.detectors import Detector

CLEAR = 2 / 3  # a finding ends when its level is this low, so that it does not flicker around 1
SUSTAINED = 8  # logs in a row, 200 updates by default, before a condition seen in single logs counts
COMPARED = 2  # evaluations, or comparisons with reality, in a row: one may be of an agent that has just become better
GATES: dict[str, Callable[[Mapping[str, Any]], Any]] = {  # of pacing, and whether settings can turn them on
    "focus": lambda settings: settings["pacing.focus_threshold"],
    "camp": lambda settings: settings["pacing.camp_ratio"],
    "kl_pause": lambda settings: settings["pacing.kl_spike"] == "pause",
}


@dataclass(frozen=True)
class Finding:
    """A failure that begins to show."""

    name: str  # of the detector, see docs/metrics.md
    env_step: int  # of the record with which it begins
    update: int
    evidence: str  # one line with the numbers


@dataclass
class _Case:
    """A detector and what it found so far."""

    name: str
    read: Detector
    sustained: int = 1  # readings in a row before the condition counts
    streak: int = 0
    active: bool = False
    times: int = 0
    first_step: int = 0
    last_step: int = 0
    evidence: str = ""

    def observe(self, record: Mapping[str, float]) -> Finding | None:
        """Takes in a record; returns a finding if one begins with it."""
        reading = self.read(record)
        if reading is None:
            return None
        step = int(record["env_step"])
        self.streak = self.streak + 1 if reading.level >= 1 else 0
        if reading.level <= CLEAR:
            self.active = False
        if self.active and self.streak:
            self.last_step = step
        if self.active or self.streak < self.sustained:
            return None
        self.active, self.last_step, self.times = True, step, self.times + 1
        evidence = reading.evidence + (f", in {self.sustained} logs in a row" if self.sustained > 1 else "")
        if self.times == 1:
            self.first_step, self.evidence = step, evidence
        return Finding(self.name, step, int(record["update"]), evidence)


class CollapseWatch:
    """A fold over the lines of metrics.jsonl: the same records give the same findings, whenever they are fed.

    A finding begins when its condition comes true, lasts until the condition is clearly over, and may begin again. A
    metric that a record lacks, or that is not finite, does not count. Memory is bounded, whatever the run's length.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """`settings` are the run's configuration by dotted keys."""
        on_free_bits = detectors.dynamics_on_free_bits(settings["loss.free_nats"], settings["loss.free_bits"] == "clip")
        self._cases = [
            _Case("evaluation_falls_while_values_rise", evaluations.EvaluationFalls()),
            _Case("evaluations_oscillate", evaluations.EvaluationsOscillate()),
            _Case("worse_than_random", evaluations.WorseThanRandom(), COMPARED + 1),
            _Case("critic_saturates", evaluations.CriticSaturates()),
            _Case("actor_loss_climbs", trends.ActorLossClimbs()),
            _Case("kl_spike", trends.KLSpike()),
            _Case("kl_collapse", detectors.kl_collapse, SUSTAINED),
            _Case("latents_carry_nothing", detectors.latents_carry_nothing, SUSTAINED),
            _Case("entropy_collapses", detectors.entropy_collapses, SUSTAINED),
            _Case("continue_crash", detectors.continue_crash, SUSTAINED),
            _Case("dynamics_on_free_bits", on_free_bits, SUSTAINED),
            _Case("delusional_dreams", trends.DelusionalDreams()),
            _Case("critic_underestimates", detectors.critic_underestimates, COMPARED),
            _Case("dreams_end_early", detectors.dreams_end_early, COMPARED),
            _Case("open_loop_worse_than_no_change", detectors.open_loop_worse_than_no_change, COMPARED),
            _Case("replay_without_failures", trends.ReplayWithoutFailures()),
            *[_Case(f"{gate}_always_on", trends.GateAlwaysOn(gate)) for gate in GATES],
            *[_Case(f"{gate}_never_on", trends.GateNeverOn(gate)) for gate, is_set in GATES.items() if is_set(settings)],
        ]

    def observe(self, record: Mapping[str, float]) -> list[Finding]:
        """Takes in the next line of metrics.jsonl, with `env_step` and `update`; returns the findings that begin with it."""
        numbers = {name: value for name, value in record.items() if math.isfinite(value)}
        return [finding for case in self._cases if (finding := case.observe(numbers)) is not None]

    def summary(self) -> list[dict[str, Any]]:
        """What was found so far, in order of appearance, JSON-able.

        Each: `name`, `first_step` and `last_step` (environment steps at which the condition was first and last seen to
        hold), `times` (how often it began), `evidence` (of the first time), `active` (whether it still lasts).
        """
        keys = ("name", "first_step", "last_step", "times", "evidence", "active")
        found = sorted((case for case in self._cases if case.times), key=lambda case: case.first_step)
        return [{key: getattr(case, key) for key in keys} for case in found]
