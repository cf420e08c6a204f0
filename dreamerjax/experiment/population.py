"""Runs of an experiment that one process trains together: they differ in the seed and in traced numbers alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dreamerjax.config.flat import flatten
from dreamerjax.config.keys import written
from dreamerjax.config.overrides import quoted
from dreamerjax.config.population import NAME, SEED, TRACED, shared
from dreamerjax.experiment.checks import composed
from dreamerjax.experiment.jobs import Job, Work
from dreamerjax.experiment.states import MISSING, ExperimentRun, runs, unchanged


@dataclass(frozen=True)
class PopulationJob(Work):
    """Several (arm, seed) of one experiment."""

    jobs: tuple[Job, ...]

    @property
    def name(self) -> str:
        return f"{self.jobs[0].name}_and_{len(self.jobs) - 1}_more"

    @property
    def directory(self) -> Path:
        """Of the experiment's runs."""
        return self.jobs[0].directory

    @property
    def log(self) -> Path:
        return self.directory / "logs" / f"{self.name}.log"

    def state(self) -> ExperimentRun:
        """Finished if all are; else as the first one that is not."""
        states = self._states()
        return next((state for state in states if state.state != "finished"), states[0])

    def command(self, state: ExperimentRun) -> list[str]:
        """Goes on with the runs that can be resumed; begins the others when there is none."""
        states = self._states()
        resumed = [str(one.path) for one in states if one.resumable and one.state != "finished"]
        missing = [job for job, one in zip(self.jobs, states, strict=True) if one.state != "finished" and not one.resumable]
        if resumed:
            return [*self.jobs[0].program, f"resume={','.join(resumed)}"]
        alone = missing[0].command(MISSING)
        return alone if len(missing) == 1 else [*alone, f"population.vary={_vary(missing)}"]

    def _states(self) -> list[ExperimentRun]:
        experiment, root = self.jobs[0].experiment, self.jobs[0].root
        found, keys = runs(experiment, root), [(job.arm.name, job.seed) for job in self.jobs]
        states = unchanged(experiment, {key: found[key] for key in keys})
        return [states[key] for key in keys]


def populations(todo: Sequence[Job], states: Mapping[tuple[str, int], ExperimentRun]) -> list[Job | PopulationJob]:
    """The same runs, as few processes as can train them: what begins and what goes on are apart, a script's run is alone."""
    groups: dict[str, list[Job]] = defaultdict(list)
    for job in todo:
        settings = shared(composed(job.experiment, job.arm))
        groups[job.name if job.arm.script else repr((states[job.arm.name, job.seed].resumable, settings))].append(job)
    return [PopulationJob(tuple(jobs)) if len(jobs) > 1 else jobs[0] for jobs in groups.values()]


def _vary(jobs: Sequence[Job]) -> str:
    settings = [flatten(composed(job.experiment, job.arm)) for job in jobs]
    values = {key: [written(setting[key]) for setting in settings] for key in TRACED}
    values = {key: words for key, words in values.items() if len(set(words)) > 1}
    values |= {SEED: [str(job.seed) for job in jobs], NAME: [quoted(job.name) for job in jobs]}
    lists = (f"{key}:[{','.join(words)}]" for key, words in values.items())
    return f"{{{','.join(lists)}}}"
