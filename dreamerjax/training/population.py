"""Several runs in one process: each is trained by the loop of a run alone, and one compiled update serves all of them.

Each has a thread, but only one acts at a time: it gives its turn away where it waits for the update that all share. So what
belongs to the process as a whole, environments and the folder that they work in, is used as by one run, in an order that
the members' steps alone decide.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import jax

from dreamerjax.agent.population_learner import MemberLearner, PopulationLearner, Program
from dreamerjax.agent.state import TrainState, options_from_config
from dreamerjax.config.cli import Result
from dreamerjax.config.composition import run_name
from dreamerjax.config.population import require_one_program
from dreamerjax.config.schema import Config
from dreamerjax.core.console import say
from dreamerjax.core.errors import Interrupt, UserError
from dreamerjax.core.stopping import LOOK, Stop, Stopped, stop_on_signals
from dreamerjax.storage.progress import PLAIN_SECONDS, SharedStream
from dreamerjax.training import summary
from dreamerjax.training.world import World

Conduct = Callable[..., Path]  # `train.conduct`


class PopulationStop(Stop):
    """Asked for by signals, for all members."""

    def __init__(self) -> None:
        super().__init__(at_once=True)
        self.members: list[MemberStop] = []
        self.interrupt: Interrupt | None = None  # by a second signal

    def __call__(self, number: int, frame: FrameType | None) -> None:
        try:
            super().__call__(number, frame)
        except Interrupt as interrupt:  # the thread that this is called in trains nothing
            self.interrupt = interrupt
        for member in self.members:
            member.signal, member.requested = self.signal, self.requested


class MemberStop(Stop):
    """Of one member, whose thread no signal interrupts: it ends at its next look."""

    def __init__(self, population: PopulationStop) -> None:
        self._population = population
        super().__init__(at_once=True)
        population.members.append(self)

    @property
    def at_once(self) -> bool:
        """While it holds for every member there is nothing to save."""
        return self._at_once

    @at_once.setter
    def at_once(self, value: bool) -> None:
        self._at_once = value
        if not value:
            self._population.at_once = False

    def look(self) -> None:
        """Raise Stopped if the run is to end, Interrupt if at once."""
        if self._population.interrupt is not None:
            raise self._population.interrupt
        super().look()


class Turns:
    """Whose turn it is among the members' threads: round and round, without those that have ended."""

    def __init__(self, size: int) -> None:
        self._gates = [threading.Semaphore(0) for _ in range(size)]
        self._present = set(range(size))

    def begin(self) -> None:
        """The first member's."""
        self._gates[0].release()

    def wait(self, number: int) -> None:
        """Until it is the turn of this member."""
        self._gates[number].acquire()

    def pass_on(self, number: int) -> None:
        """Let every other member act; returns when it is the turn of this one again."""
        self._next(number)
        self.wait(number)

    def leave(self, number: int) -> None:
        """The others go on without this member."""
        self._present.remove(number)
        self._next(number)

    def _next(self, number: int) -> None:
        if self._present:
            size = len(self._gates)
            self._gates[min(self._present, key=lambda other: (other - number - 1) % size)].release()


class Population:
    """The members of a population, while they are trained."""

    def __init__(self, configs: Sequence[Config], conduct: Conduct) -> None:
        self.stop = PopulationStop()
        self.threads = [
            threading.Thread(target=self._train, args=(number,), name=_name(config)) for number, config in enumerate(configs)
        ]
        self.results: list[Result] = [Result(0) for _ in configs]
        self.faults: list[BaseException] = []  # of the program
        self._configs, self._conduct = configs, conduct
        self._stops = [MemberStop(self.stop) for _ in configs]
        self._turns = Turns(len(configs))
        self._learner = PopulationLearner(len(configs), self._turns.pass_on)

    def train(self) -> None:
        """Until every member has ended; now and then one line says how far they are."""
        for thread in self.threads:
            thread.start()
        self._turns.begin()
        told, calls = time.monotonic(), 0
        for thread in self.threads:
            while thread.is_alive():
                thread.join(LOOK)
                seconds, made = time.monotonic() - told, self._learner.calls - calls
                if made and seconds >= PLAIN_SECONDS:
                    told, calls, present = told + seconds, calls + made, len(self._learner.present)
                    say(f"{present} of {len(self.threads)} members | {calls:,} calls of their update, {made / seconds:.1f}/s")

    def _train(self, number: int) -> None:
        """What the thread of a member does: the whole of its run."""
        self._turns.wait(number)
        stop = self._stops[number]

        def learner_of(world: World, state: TrainState) -> MemberLearner:
            program = Program(world.networks, options_from_config(world.config), world.devices)
            return self._learner.enter(number, state, program)

        try:
            stop.look()
            path = self._conduct(self._configs[number], stop, learner_of=learner_of)
            self.results[number] = Result(stop.exit_code, summary.brief(path))
        except UserError as error:
            say(f"error: {self.threads[number].name}: {error}", sys.stderr)
            row = {} if error.run is None else summary.brief(error.run)
            self._broke_off(number, error.exit_code, row | {"ended": f"error: {error}"})
        except (Stopped, Interrupt):
            self._broke_off(number, stop.exit_code, {"ended": "interrupted"})
        except BaseException as fault:
            self.faults.append(fault)
        finally:
            self._learner.leave(number)
            self._turns.leave(number)

    def _broke_off(self, number: int, code: int, row: dict[str, str]) -> None:
        self.results[number] = Result(code, row | {"run": self.threads[number].name})


def train_together(configs: Sequence[Config], conduct: Conduct) -> list[Result]:
    """Train the members of a population, each as `conduct` does with its configuration alone; what each ended with.

    Raises:
        UserError: they cannot share a compiled update.
        Interrupt: by a second signal.
    """
    require_one_program(configs, [_name(config) for config in configs])
    population = Population(configs, conduct)
    try:
        with _named_lines(population.threads), stop_on_signals(population.stop):
            population.train()
    finally:
        jax.clear_caches()
    if population.stop.interrupt is not None:
        raise population.stop.interrupt
    if population.faults:
        raise population.faults[0]
    return population.results


def _name(config: Config) -> str:
    return Path(config.resume).name if config.resume else run_name(config)


@contextmanager
def _named_lines(threads: Sequence[threading.Thread]) -> Iterator[None]:
    """Each line on standard output meanwhile begins with the name of the member whose thread prints it."""

    def name() -> str:
        thread = threading.current_thread()
        return f"{thread.name} | " if thread in threads else ""

    ours = sys.stdout
    sys.stdout = None if ours is None else SharedStream(ours, name)
    try:
        yield
    finally:
        sys.stdout = ours
