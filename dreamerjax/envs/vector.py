"""Several environments side by side, in this process or in one subprocess each, and masked resets and steps of them."""

from __future__ import annotations

import math
import multiprocessing.connection
import os
import sys
import time
import types
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from multiprocessing.util import Finalize
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.vector.async_vector_env import AsyncState, _async_worker

from dreamerjax.config.schema import EnvConfig, Vectorization
from dreamerjax.core.child_process import deaf, die_with_parent, kill, signals_blocked
from dreamerjax.core.errors import EnvironmentFault, UserError, warn_once
from dreamerjax.core.stopping import Stop, Stopped
from dreamerjax.core.types import Arrays
from dreamerjax.envs.adapter import Adapter
from dreamerjax.envs.boundary import construction
from dreamerjax.envs.factory import Source, find_registration, make_env
from dreamerjax.envs.surroundings import foreign

MEANWHILE = 0.3  # seconds by which a signal may reach a process of the environment before it reaches this one
HANGING = 3.0  # seconds for which a step is waited for once the run is to end
CLOSING = 10.0  # seconds that an environment has to close


def make_vector_env(config: EnvConfig, num_envs: int, source: Source | None = None, stop: Stop | None = None) -> Envs:
    """`num_envs` environments without automatic reset: whoever steps them resets with `options={"reset_mask": mask}`.

    The arrays of observations that `step` and `reset` return are reused by the next call. A `source` takes the place of the id.
    When `stop` says that the run is to end, subprocesses that do not return are not waited for.

    Raises UserError as `make_env` does.
    """
    source = source or find_registration(config.id)
    streams: list[int | None] = [None] if num_envs == 1 else list(range(num_envs))
    if config.vectorization is Vectorization.subprocess:
        workers = [partial(_worker_env, config, source, os.getpid(), stream) for stream in streams]
        with construction(config.id):
            return SubprocessVectorEnv(workers, config.id, stop or Stop())
    with ExitStack() as made:
        envs: list[Adapter] = []
        for stream in streams:
            try:
                envs.append(made.enter_context(closing(make_env(config, None, source, stream))))
            except UserError as error:
                hint = "; if it can exist only once, set env.num_envs=1" if envs else ""
                raise UserError(f"{error}{hint}") from error
        _require_same_spaces(config.id, envs)
        with construction(config.id):
            itself = [partial(lambda made: made, env) for env in envs]
            vector = SyncVectorEnv(itself, copy=False, autoreset_mode=AutoresetMode.DISABLED)
        made.pop_all()
    return vector


def _require_same_spaces(env_id: str, envs: list[Adapter]) -> None:
    for kind in ("observation_space", "action_space"):
        spaces = [getattr(env, kind) for env in envs]
        for stream, space in enumerate(spaces):
            if space != spaces[0]:
                words = kind.replace("_", " ")
                raise UserError(f"env.id={env_id}: instances differ: stream {stream} has {words} {space}, stream 0 {spaces[0]}")


class SubprocessVectorEnv(AsyncVectorEnv[Arrays, np.ndarray]):
    """Environments in processes of their own, started afresh: forking would copy the locks of JAX's threads.

    An error in a worker, or its death, is raised as one EnvironmentFault; the other workers are then ended too. Signals that
    reach the whole group are for this process alone. A worker that does not return is killed once the run is to end.
    """

    def __init__(self, factories: list[Any], name: str, stop: Stop) -> None:
        self._name, self._stop = name, stop
        self.processes = []
        try:
            with _without_main_module(), self._deaths(), signals_blocked():
                super().__init__(factories, copy=False, context="spawn", autoreset_mode=AutoresetMode.DISABLED, worker=_worker)
        except BaseException:
            _kill(self.processes)
            raise

    def _check_spaces(self) -> None:
        # Where nobody closes this, multiprocessing would wait at the program's end for workers that ignore its SIGTERM.
        self._at_exit = Finalize(self, _kill, [self.processes], exitpriority=1)
        try:
            with signals_blocked(False):
                super()._check_spaces()
        except RuntimeError as error:
            self._end()
            raise UserError(f"env.id={self._name}: instances differ in their spaces: {error}") from error

    def step(self, actions: np.ndarray) -> Any:
        with self._deaths():
            return super().step(actions)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> Any:
        with self._deaths():
            return super().reset(seed=seed, options=options)

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        with self._deaths():
            return super().call(name, *args, **kwargs)

    def set_attr(self, name: str, values: Any) -> None:
        with self._deaths():
            super().set_attr(name, values)

    def _poll_pipe_envs(self, timeout: float | None = None) -> bool:
        """Wait for the answers of all workers. Raises Stopped if the run is to end and they do not come."""
        if timeout is not None:
            return super()._poll_pipe_envs(timeout)
        waiting, deadline = set(self.parent_pipes), math.inf
        while waiting := waiting - set(multiprocessing.connection.wait(waiting, 1.0)):
            if self._stop.requested and deadline == math.inf:
                deadline = time.monotonic() + HANGING
            elif time.monotonic() > deadline:
                streams = ", ".join(str(i) for i, pipe in enumerate(self.parent_pipes) if pipe in waiting)
                self._end()
                raise Stopped(f"environment {self._name}, stream {streams}, did not return when the run was to end")
        return True

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Workers that wait for a command close their environments; after CLOSING seconds, or at once, they are killed."""
        if not terminate and self._state is AsyncState.DEFAULT:
            with suppress(EOFError, OSError):
                for pipe in self.parent_pipes:
                    pipe.send(("close", None))
            deadline = time.monotonic() + (HANGING if self._stop.requested else CLOSING)
            for process in self.processes:
                process.join(max(0.0, deadline - time.monotonic()))
            if any(process.is_alive() for process in self.processes):
                warn_once(f"environment {self._name} did not close in time: its process was killed")
        _kill(self.processes)
        for pipe in self.parent_pipes:
            pipe.close()
        for process in self.processes:
            process.join()

    @contextmanager
    def _deaths(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, OSError) as error:
            ending = multiprocessing.connection.wait([process.sentinel for process in self.processes], timeout=30.0)
            for process in self.processes:
                if process.sentinel in ending:  # it closed its files: its exit code comes a moment later
                    process.join(timeout=30.0)
            ended = [(i, process.exitcode) for i, process in enumerate(self.processes) if not process.is_alive()]
            codes = ", ".join(f"stream {i} exit code {code}" for i, code in ended) or str(error)
            self._end()
            raise EnvironmentFault(f"a subprocess of environment {self._name} died: {codes}") from error

    def _raise_if_errors(self, successes: Iterable[bool]) -> None:
        if all(successes):
            return
        index, error_type, error, trace = self.error_queue.get()
        self._end()
        if not isinstance(error, UserError):
            message = f"environment {self._name}, stream {index}, raised {error_type.__name__}: {error}"
            error = EnvironmentFault(message)
        error.add_note(trace)
        raise error

    def _end(self) -> None:
        self._state = AsyncState.DEFAULT
        self.close(terminate=True)


def _kill(processes: Iterable[Any]) -> None:
    for process in processes:
        if process.is_alive():
            kill(process.pid)


Envs = SyncVectorEnv[Arrays, np.ndarray] | SubprocessVectorEnv


class Stepper:
    """A vector environment whose results are copied.

    `env_step` is the number of environment steps before the call; faults name it, as a step of `during`. A fault while the
    run is to end raises Stopped: what ends the run may have ended a process of the environment too.
    """

    def __init__(self, envs: Envs, during: str = "environment", stop: Stop | None = None) -> None:
        self.envs, self._during, self._stop = envs, during, stop or Stop()

    def reset(self, mask: np.ndarray, seeds: list[int], env_step: int) -> Arrays:
        """Begin the next episode of the streams in `mask`; observations [n, ...] of all.

        Raises EnvironmentFault.
        """
        chosen: list[int | None] = [seed if masked else None for seed, masked in zip(seeds, mask, strict=True)]
        with self._faults_name(env_step):
            observations, _ = self.envs.reset(seed=chosen, options={"reset_mask": mask.copy()})
        return _copied(observations)

    def step(self, action: np.ndarray, env_step: int) -> tuple[Arrays, np.ndarray, np.ndarray, np.ndarray]:
        """Observations [n, ...], reward float64 [n], terminated [n] and truncated [n] after actions [n, ...].

        Raises EnvironmentFault.
        """
        with self._faults_name(env_step):
            observations, reward, terminated, truncated, _ = self.envs.step(action)
        return _copied(observations), reward, terminated, truncated

    @contextmanager
    def _faults_name(self, env_step: int) -> Iterator[None]:
        try:
            with foreign():
                yield
        except EnvironmentFault as fault:
            text = f"after {self._during} step {env_step}: {fault}"
            if self._stop.within(MEANWHILE):
                raise Stopped(text) from fault
            fault.args = (text,)
            raise


def _copied(observations: Arrays) -> Arrays:
    return {name: values.copy() for name, values in observations.items()}


def _worker(index: int, make: Any, pipe: Any, *rest: Any) -> None:
    """Gymnasium's worker, which also hands on what is raised while the environment is made."""
    errors = rest[2]
    deaf()
    try:
        env = make()
    except UserError as error:
        errors.put((index, type(error), error, ""))
        pipe.recv()
        pipe.send((None, False))
        return
    deaf()  # whatever the environment has changed
    _async_worker(index, lambda: env, pipe, *rest)


def _worker_env(config: EnvConfig, source: Source, owner: int, stream: int | None) -> gym.Env[Any, Any]:
    """An environment, and in a worker process first what makes it a good child of process `owner`.

    Warnings come from the parent at construction and from the first stream later, not from all. The vector environment also
    calls this in the parent, to learn the spaces.
    """
    if os.getpid() == owner:
        with signals_blocked(False):
            return make_env(config, source=source)
    die_with_parent(owner)  # elsewhere than on Linux, a worker ends at its next step, when its pipe is closed
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        env = make_env(config, None, source, stream)
    if stream:
        warnings.simplefilter("ignore")
    return env


@contextmanager
def _without_main_module() -> Iterator[None]:
    """Let workers start without importing the main program again, which the spawn method does otherwise.

    That would cost each worker the import of JAX, and a script without a `__main__` guard would run again in it.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
