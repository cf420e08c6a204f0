"""One training in several processes: how they join, agree, and end together.

The processes step their environments and call the device in the same order. What only one of them knows (that it is to
stop, what an evaluation gave, which checkpoints it has) goes over the key-value store of JAX's coordination service before
anything is decided from it. The devices average gradients among themselves and know nothing of this (`agent.learner`).

JAX has no public name for that store; `jax._src.distributed` is what orbax uses too.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

import jax

from dreamerjax.config.flat import flatten
from dreamerjax.config.keys import written
from dreamerjax.config.schema import Config
from dreamerjax.core.console import say
from dreamerjax.core.errors import UserError
from dreamerjax.core.last_words import end_with
from dreamerjax.core.rendezvous import Place, meet
from dreamerjax.core.run_directory import package_versions
from dreamerjax.core.stopping import Stop, Stopped, end_process, leave_at_once

T = TypeVar("T")
BEAT = 0.5  # seconds between two signs of life
SILENCE = 30.0  # seconds without one after which a process is taken for dead
GRACE = 10.0  # seconds after which a process that is to end, and does not, is ended
REASON = 2.5  # seconds in which a process may find by itself the error that another one tells of
CONNECT = 60  # seconds for JAX's own connection, when all processes are known to be there
ASK = 1_000  # milliseconds between two looks at whether another process has ended
PLACE = ("parallel.coordinator", "parallel.process")  # what differs between the processes
FIRST_GONE = "process 0 has ended, or cannot be reached"
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")


class Group:
    """The processes of one training, as each of them has it. This one has no other: everything is agreed at once."""

    rank = 0
    size = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that evaluates and writes the run directory."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """Every process's JSON-able value, in the order of their numbers. All call this, in the same order as `lead`."""
        return [value]

    def lead(self, work: Callable[[], T]) -> T:
        """What `work` gives in the first process, JSON-able; the others wait. Raises Stopped in all if it does there."""
        return work()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """An error inside the block that comes of another process's end becomes a UserError that says so."""
        yield

    def close(self, error: BaseException | None) -> None:
        """This process has ended its part: well, or with an error, which ends the others."""


ALONE = Group()


class Hosts(Group):
    """Several processes. Two threads look after them: one gives and takes signs of life, the other measures the silence."""

    def __init__(self, place: Place, stop: Stop) -> None:
        """For a process that JAX has connected. `stop` is asked for in every process when it is in one."""
        from jax._src import distributed

        self.rank, self.size = place.process, place.processes
        self._client: Any = distributed.global_state.client
        self._stop = stop
        self._count = itertools.count()
        self._ended: str | None = None  # how this process did, once it has; empty: well
        self._lost: str | None = None  # why the others cannot go on
        self._own_fault: Exception | None = None  # that nobody else's end explains
        self._closed = threading.Event()
        self._heard = dict.fromkeys(range(self.size), time.monotonic())
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._give_signs, self._watch)]
        for thread in self._threads:
            thread.start()

    def gather(self, value: T) -> list[T]:
        number = next(self._count)
        self._put(number, self.rank, value)
        values = [self._take(number, rank) for rank in range(self.size)]
        if number > 1:  # everybody has read what was put before the last time
            self._client.key_value_delete(_key(number - 2, self.rank))
        return values

    def lead(self, work: Callable[[], T]) -> T:
        number = next(self._count)
        result: T
        if self.first:
            try:
                result = work()
            except Stopped:
                self._put(number, 0, {"stopped": True})
                raise
            self._put(number, 0, {"stopped": False, "result": result})
        else:
            told = self._take(number, 0)
            if told["stopped"]:
                raise Stopped
            result = told["result"]
        return result

    @contextmanager
    def explained(self) -> Iterator[None]:
        try:
            yield
        except (UserError, Stopped):
            raise
        except Exception as error:
            deadline = time.monotonic() + SILENCE + GRACE
            while self._lost is None and error is not self._own_fault and time.monotonic() < deadline:
                time.sleep(BEAT)
            if self._lost is None:
                self._own_fault = error
                raise
            raise UserError(self._lost, exit_code=1) from error

    def close(self, error: BaseException | None) -> None:
        self._ended = "" if error is None else str(error) or type(error).__name__
        self._closed.set()
        for thread in self._threads:
            thread.join(GRACE)
        if error is None:
            return
        leave_at_once()  # JAX's own farewell would wait for all processes
        if self.first:
            time.sleep(REASON + 2 * BEAT)  # what the others are told with ends with this process

    def _put(self, number: int, rank: int, value: Any) -> None:
        self._client.key_value_set(_key(number, rank), json.dumps(value))

    def _take(self, number: int, rank: int) -> Any:
        """Wait for what another process puts there. Raises UserError if it has ended."""
        while self._lost is None:
            with suppress(jax.errors.JaxRuntimeError):  # not yet, or never: then a thread says why
                return json.loads(self._client.blocking_key_value_get(_key(number, rank), ASK))
        raise UserError(self._lost, exit_code=1)

    def _give_signs(self) -> None:
        """Until the end: tell how this process is, hear how the others are."""
        beats, last, suspect = 0, dict[int, str](), 0.0
        while True:
            closing = self._closed.is_set()
            signs = {"beat": beats, "stop": self._stop.requested, "signal": self._stop.signal, "ended": self._ended}
            try:
                self._client.key_value_set(f"signs/{self.rank}", json.dumps(signs), allow_overwrite=True)
                heard = {int(key.rpartition("/")[2]): text for key, text in self._client.key_value_dir_get("signs/")}
            except Exception:
                if not closing:
                    self._lose(FIRST_GONE)
                return
            now = time.monotonic()
            for rank, text in heard.items():
                told = json.loads(text)
                if last.get(rank) != text or told["ended"] is not None:
                    self._heard[rank], last[rank] = now, text
                if told["stop"] and not self._stop.requested:
                    self._stop.tell(told["signal"])
                if told["ended"] and rank != self.rank:
                    suspect = suspect or now
                    if now - suspect > REASON and not closing:
                        self._lose(f"process {rank} has ended: {told['ended']}")
                        return
            self._heard[self.rank] = now
            if closing:
                return
            beats += 1
            self._closed.wait(BEAT)

    def _watch(self) -> None:
        """Until the end: whose last sign is too long ago; and that this process ends then."""
        while self._lost is None:
            if self._closed.wait(BEAT):
                return
            now, own = time.monotonic(), self._heard[self.rank]
            if now - own > SILENCE:
                self._lose(f"process 0 cannot be reached since {SILENCE:.0f} s")
            for rank, heard in self._heard.items():
                if own - heard > SILENCE:
                    self._lose(f"process {rank} of {self.size} was killed, or cannot be reached since {SILENCE:.0f} s")
        # The first process has something to write. Where it is the one that has gone, JAX ends the others by itself.
        if self._closed.wait(GRACE if self.first else 0.0):
            return
        say(f"error: {self._lost}", sys.stderr)
        end_process(1)

    def _lose(self, why: str) -> None:
        self._lost = self._lost or why


def _key(number: int, rank: int) -> str:
    return f"said/{number}/{rank}"


@contextmanager
def joined(config: Config, stop: Stop) -> Iterator[tuple[Group, Config]]:
    """`join` for the duration of the block, in which other processes' ends are `explained`."""
    group, common = join(config, stop)
    with ExitStack() as at_end:
        at_end.push(lambda kind, error, trace: group.close(error))
        with group.explained():
            yield group, common


def join(config: Config, stop: Stop) -> tuple[Group, Config]:
    """Connect with the other processes, if there are any; call it before JAX's first use.

    Returns them, and the configuration that all have in common: with the number of processes, without this one's place.

    Raises UserError: the place of this process is not clear, the others do not come, or are set otherwise.
    """
    place, by_slurm = _place(config)
    if place is None:
        return ALONE, config
    common = replace(config, parallel=replace(config.parallel, processes=place.processes, coordinator=None, process=None))
    if not config.jit:
        raise UserError(f"jit=false runs in one process, not in parallel.processes={place.processes}")
    if config.train.batch_size % place.processes:
        raise UserError(f"train.batch_size={config.train.batch_size} does not divide over parallel.processes={place.processes}")
    if jax.distributed.is_initialized():
        raise UserError("a program makes one training over several processes; run each task of a sweep by itself")
    wishes = {key: written(value) for key, value in flatten(common).items() if key not in PLACE}
    meet(place, wishes | {f"the version of {name}": version for name, version in package_versions().items()})
    end_with(f"error: {FIRST_GONE}")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from us
    try:
        jax.distributed.initialize(
            place.address,
            place.processes,
            place.process,
            cluster_detection_method="slurm" if by_slurm else "deactivate",
            initialization_timeout=CONNECT,
        )
    except RuntimeError as error:
        raise UserError(f"parallel.coordinator={place.address}: {error}", exit_code=1) from error
    return Hosts(place, stop), common


def _place(config: Config) -> tuple[Place | None, bool]:
    """This process's place among the others, None if there are none; whether Slurm knows it."""
    given = config.parallel
    tasks = int(os.environ["SLURM_NTASKS"]) if all(name in os.environ for name in SLURM) else 1
    processes = given.processes or (1 if given.coordinator else tasks)
    numbers = f"0 to {processes - 1}"
    if given.process is not None and given.process >= processes:
        raise UserError(f"parallel.process must be {numbers} (parallel.processes={processes}), not {given.process}")
    if processes == 1:
        if given.coordinator and not given.processes:
            raise UserError(f"parallel.coordinator={given.coordinator} needs parallel.processes: how many there are")
        return None, False
    if given.coordinator is None and given.process is None and tasks > 1:
        if tasks != processes:
            raise UserError(f"parallel.processes={processes}, but Slurm has started {tasks}")
        from jax._src.clusters import ClusterEnv  # reads Slurm's environment

        found: Any = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, "slurm", CONNECT)
        address, _, number, _ = found
        return _parsed(address, processes, number), True
    if given.coordinator is None or given.process is None:
        raise UserError(
            f"parallel.processes={processes} needs parallel.coordinator=HOST:PORT, where process 0 listens, and "
            f"parallel.process={numbers}, the number of this one; under srun neither"
        )
    return _parsed(given.coordinator, processes, given.process), False


def _parsed(address: str, processes: int, process: int) -> Place:
    found = re.fullmatch(r"\[?([^\s\]]+)\]?:(\d+)", address)
    if found is None or not 0 < int(found[2]) < 2**16:
        raise UserError(f"parallel.coordinator must be HOST:PORT, such as 10.0.0.1:5000, not {address!r}")
    return Place(found[1], int(found[2]), processes, process)
