"""Where a run is, next to what the collector counts: part of every checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dreamerjax.config.schema import TrainConfig
from dreamerjax.diagnostics.surprise import SurpriseState
from dreamerjax.training import update_schedule
from dreamerjax.training.update_schedule import PacingState


def pace_of(config: TrainConfig) -> tuple[int, float]:
    """What decides how many updates are owed at an environment step."""
    return config.random_steps, update_schedule.update_rate(config)


@dataclass
class Counters:
    """Where a run is, next to what the collector counts."""

    updates: int = 0
    pacing: PacingState = field(default_factory=PacingState)
    surprise: SurpriseState = field(default_factory=SurpriseState)
    last_step: int | None = None  # of the last evaluation
    last_return: float | None = None
    last_sampled_return: float | None = None
    best_step: int | None = None
    best_return: float | None = None  # of the greedy evaluations
    solved_step: int | None = None  # first evaluation that reached train.stop_at_return
    solved_seconds: float | None = None
    evaluation_due: bool = False  # one was given up, or has not ended yet
    examined_step: int = 0  # of the last comparison of dreams with reality
    baseline_return: float | None = None  # mean episode return of the random policy
    baseline_returns: list[float] = field(default_factory=list)
    metric_sums: dict[str, tuple[float, int]] = field(default_factory=dict)  # and counts, since the last log
    metric_count: int = 0  # updates since the last log
    pace: tuple[int, float] | None = None  # (random steps, updates per environment step) that the updates so far were made at
    credit: int = 0  # updates of an earlier train ratio, beyond what the present one would have owed until then
    fault: str | None = None  # an error in the middle of a tick, after which this state was saved
    seconds: float = 0.0  # spent in earlier processes of this run

    def improves(self, env_step: int, greedy: float, sampled: float) -> bool:
        """Take over an evaluation's mean returns; whether the greedy one is the best so far."""
        self.last_step, self.last_return, self.last_sampled_return = env_step, greedy, sampled
        if self.best_return is not None and greedy <= self.best_return:
            return False
        self.best_step, self.best_return = env_step, greedy
        return True

    @property
    def owed_updates(self) -> int:
        """Updates made on the train ratio's account, as if it had always been the present one."""
        return self.updates - self.pacing.extra_updates - self.credit

    def keep_pace(self, config: TrainConfig, env_steps: int) -> None:
        """After a change of the pace, the new one counts from this environment step on: no debt, no burst."""
        if self.pace is not None and self.pace != pace_of(config):
            due = max(0, update_schedule.updates_due(config, env_steps, 0))
            self.credit = self.updates - self.pacing.extra_updates - due
        self.pace = pace_of(config)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Counters:
        """The inverse of `dataclasses.asdict` and JSON."""
        tuples = {key: tuple(value) for key, value in saved["pacing"].items() if isinstance(value, list)}
        nested = {
            "pacing": PacingState(**{**saved["pacing"], **tuples}),
            "surprise": SurpriseState(**saved["surprise"]),
            "pace": tuple(saved["pace"]) if saved.get("pace") else None,
            "metric_sums": {key: tuple(value) for key, value in saved["metric_sums"].items()},
        }
        return cls(**{**saved, **nested})
