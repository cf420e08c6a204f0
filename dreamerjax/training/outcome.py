"""Deciding: whether a run is over, and how it ended. What is said about it stands in `reporting` and `summary`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dreamerjax.diagnostics.verdict import RunVerdict
from dreamerjax.training import update_schedule
from dreamerjax.training.run_state import RunState


class Outcome(StrEnum):
    """How a run ended."""

    finished = "finished"  # all steps, or all updates, are made
    solved = "solved"  # a greedy evaluation reached `train.stop_at_return`
    stopped = "stopped"  # by a KL spike
    interrupted = "interrupted"  # by a signal or a callback
    failed = "failed"


@dataclass
class Ending:
    """How far a run got and what ended it; `close` has to know, whatever that was."""

    outcome: Outcome | None = None
    began: bool = False  # whether there is anything to save: not before a resumed run is restored
    error: BaseException | None = None
    verdict: RunVerdict | None = None  # on a run that has evaluations, from its summary on

    def failed(self, error: BaseException) -> None:
        """An exception ended the run, however far it was; Ctrl-C twice is no fault."""
        self.error = error
        self.outcome = Outcome.interrupted if isinstance(error, KeyboardInterrupt) else Outcome.failed


def decide(run: RunState) -> Outcome | None:
    """How the run is over now; None if it goes on."""
    if update_schedule.ended(run.config.train, run.env_steps, run.counters.updates):
        return Outcome.solved if run.solved else Outcome.finished
    if run.solved:
        return Outcome.solved
    if run.counters.pacing.stop:
        return Outcome.stopped
    return Outcome.interrupted if run.stop.requested else None
