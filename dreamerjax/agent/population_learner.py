"""One update for all members of a population: `learner.updates` under `vmap`, inside the `pmap` over the devices.

Nothing here is safe for several threads at once: one member acts at a time, until it gives its turn away with `pass_on`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dreamerjax.agent.learner import (
    AXIS,
    first_replica,
    merge_latents,
    place,
    read_metrics,
    split_batches,
    to_host,
    updates,
    working_bytes,
)
from dreamerjax.agent.state import Batch, Hyper, Trains, TrainState, UpdateOptions, acting_params
from dreamerjax.core.errors import UserError
from dreamerjax.networks.build import Networks


class Program(NamedTuple):
    """What the compiled update is made of: the same for all members."""

    networks: Networks
    options: UpdateOptions
    devices: list[jax.Device]


class Request(NamedTuple):
    """K updates that a member wants, with batches [D, K, T, B/D, ...]."""

    hyper: Hyper
    batches: Batch
    trains: Trains


def stack_states(states: list[TrainState], devices: list[jax.Device]) -> TrainState:
    """The states of N members as one [D, N, ...], equal on each device."""
    return place(jax.tree.map(lambda *leaves: np.stack(leaves), *map(to_host, states)), devices)


def stack_requests(requests: list[Request]) -> tuple[Hyper, Batch]:
    """Numbers [N] and batches [D, N, K, T, B/D, ...], NumPy."""
    hyper = jax.tree.map(lambda *leaves: np.stack(leaves), *(request.hyper for request in requests))
    return hyper, jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *(request.batches for request in requests))


def compiled_population_updates(program: Program, trains: Trains, size: int) -> Any:
    """`updates` of `size` members over the devices; the states are donated.

    Takes numbers [N], states, batches and which members take part, bool [N]; the others' states stay as they are. Returns the
    states, and of each member what `updates` returns beside its state.
    """
    function = partial(updates, program.networks, replace(program.options, trains=trains), axis_name=AXIS)

    def one(hyper: Hyper, state: TrainState, batches: Batch, takes_part: jax.Array) -> tuple[TrainState, tuple[Any, ...]]:
        used = state._replace(key=jax.random.clone(state.key))  # of which nothing remains where the member takes no part
        new, *rest = function(hyper, used, batches)
        return jax.tree.map(partial(jnp.where, takes_part), new, state), tuple(rest)

    def all_members(hyper: Hyper, states: TrainState, batches: Batch, take_part: jax.Array) -> tuple[TrainState, list[Any]]:
        states, rest = jax.vmap(one)(hyper, states, batches, take_part)
        return states, [jax.tree.map(itemgetter(number), rest) for number in range(size)]

    axes: dict[str, Any] = {"in_axes": (None, 0, 0, None), "out_axes": (0, [(None, 0, None)] * size)}
    return jax.pmap(all_members, AXIS, **axes, donate_argnums=(1,), devices=program.devices)


@jax.jit
def _member(stacked: Any, number: jax.Array) -> Any:
    """What is of one member in a tree of [N, ...]."""
    return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, number, keepdims=False), stacked)


class PopulationLearner:
    """The training states of all members on their devices, and the compiled updates.

    It runs when each member that is present has handed over an update. Members whose updates train different parts are run
    one kind after the other, each time with the others' states as they are; so is the state of a member that has left.
    """

    def __init__(self, size: int, pass_on: Callable[[int], None]) -> None:
        """`pass_on(number)` lets the other members act, and returns when it is the turn of this one again."""
        self.pass_on = pass_on
        self.present = set(range(size))
        self.calls = 0  # of compiled updates
        self._working_bytes: dict[Trains, int] = {}  # of what is compiled
        self._size = size
        self._program: Program | None = None
        self._programs: dict[Trains, Any] = {}
        self._states: dict[int, TrainState] = {}  # as the members brought them
        self._stacked: TrainState | None = None  # [D, N, ...], from the first update on
        self._requests: dict[int, Request] = {}
        self._results: dict[int, Any] = {}

    def enter(self, number: int, state: TrainState, program: Program) -> MemberLearner:
        """Member `number` with its state, before its first update; again, with another state, to resume.

        Raises UserError if its environment has other spaces than those of the members before it.
        """
        if self._program is None:
            self._program = program
            self._programs = {trains: compiled_population_updates(program, trains, self._size) for trains in Trains}
        elif program.networks.spec != self._program.networks.spec:
            raise UserError("its environment has other spaces than those of the other members of the population")
        self._states[number] = state
        return MemberLearner(self, number, state, len(program.devices))

    def leave(self, number: int) -> None:
        """The others go on without this member. Harmless when repeated."""
        self.present.discard(number)
        self._requests.pop(number, None)

    def compile(self, request: Request) -> int:
        """Compile, once, what runs on such requests, whose numbers do not matter; changes nothing else.

        Returns:
            Bytes that the program works in, over all devices.
        """
        if request.trains in self._working_bytes:
            return self._working_bytes[request.trains]
        assert self._program is not None
        states = self._stack() if self._stacked is None else self._stacked
        hyper, batches = stack_requests([request] * self._size)
        program = self._programs[request.trains].lower(hyper, states, batches, np.ones(self._size, np.bool_)).compile()
        self._working_bytes[request.trains] = working_bytes(program, len(self._program.devices))
        return self._working_bytes[request.trains]

    def update(self, number: int, request: Request) -> Any:
        """What `updates` returns beside the state, once all members that are present have handed over an update."""
        self._requests[number] = request
        while number not in self._results:
            if self._requests.keys() >= self.present:
                self._run()
            else:
                self.pass_on(number)
        return self._results.pop(number)

    def state(self, number: int) -> TrainState:
        """The state of a member as one device has it."""
        if self._stacked is None:
            return self._states[number]
        state: TrainState = _member(first_replica(self._stacked), number)
        return state

    def averaged(self, number: int) -> dict[str, Any]:
        """`TrainState.averaged` of a member as one device has it."""
        if self._stacked is None:
            return self._states[number].averaged
        averaged: dict[str, Any] = _member(first_replica(self._stacked.averaged), number)
        return averaged

    def _stack(self) -> TrainState:
        """Of members that are not there yet, or will never be, another's state."""
        assert self._program is not None
        some = next(iter(self._states.values()))
        return stack_states([self._states.get(number, some) for number in range(self._size)], self._program.devices)

    def _run(self) -> None:
        if self._stacked is None:
            self._stacked = self._stack()
            self._states.clear()
        for trains in Trains:
            chosen = {number: request for number, request in self._requests.items() if request.trains is trains}
            if not chosen:
                continue
            some = next(iter(chosen.values()))
            hyper, batches = stack_requests([chosen.get(number, some) for number in range(self._size)])
            take_part = np.array([number in chosen for number in range(self._size)])
            self._stacked, results = self._programs[trains](hyper, self._stacked, batches, take_part)
            self._results |= {number: results[number] for number in chosen}
            self.calls += 1
        self._requests.clear()


class MemberLearner:
    """A member's place in a `PopulationLearner`: to its run it is what a `Learner` is."""

    def __init__(self, population: PopulationLearner, number: int, state: TrainState, devices: int) -> None:
        self.acting = jax.tree.map(np.asarray, acting_params(state.newest))
        self.compiled: set[Trains] = set()  # by `compile`
        self._population, self._number, self._devices = population, number, devices

    def compile(self, hyper: Hyper, batches: Batch, trains: Trains) -> int:
        """As `Learner.compile`, for all members: it takes long for the first of them."""
        needed = self._population.compile(self._request(hyper, batches, trains))
        self.compiled.add(trains)
        return needed

    def update(self, hyper: Hyper, batches: Batch, trains: Trains = Trains.everything) -> tuple[dict[str, Any], Any]:
        """As `Learner.update`, when all members have come so far."""
        request = self._request(hyper, batches, trains)
        metrics, latents, acting = self._population.update(self._number, request)
        self.acting = jax.tree.map(lambda leaf: leaf.addressable_shards[0].data, acting)
        return metrics, latents

    def metrics(self, metrics: dict[str, Any]) -> dict[str, np.ndarray]:
        """As `Learner.metrics`; while the device works, the other members may step their environments."""
        self._population.pass_on(self._number)
        return read_metrics(metrics)

    def latents(self, latents: Any) -> Any:
        """As `Learner.latents`."""
        return merge_latents(latents)

    def state(self) -> TrainState:
        """As `Learner.state`."""
        return self._population.state(self._number)

    def averaged(self) -> dict[str, Any]:
        """As `Learner.averaged`."""
        return self._population.averaged(self._number)

    def _request(self, hyper: Hyper, batches: Batch, trains: Trains) -> Request:
        return Request(hyper, split_batches(batches, self._devices), trains)
