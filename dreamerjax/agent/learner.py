"""Devices: the only module that knows how many there are.

`jax.pmap` maps `update.train_step` over the devices of all processes: the batch is split along B, the state is replicated.
Each process gives the sequences of its own devices, and all call the update at the same time. On CPU the "devices" are
virtual ones, one per core, which is what puts all cores to work.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dreamerjax.agent.state import Batch, Hyper, Metrics, Params, Trains, TrainState, UpdateOptions, acting_params
from dreamerjax.agent.update import train_step
from dreamerjax.agent.world_model import Latent, class_indices
from dreamerjax.core.errors import UserError
from dreamerjax.networks.build import Networks

AXIS = "devices"


def choose_devices(count: int, batch_size: int) -> list[jax.Device]:
    """The devices to train on, `count` in each process; for a `count` of 0 as many as all have and the batch divides over.

    Raises UserError when JAX finds none, there are fewer than asked for, or the batch does not divide.
    """
    try:
        local = jax.local_devices()
        theirs = [[device for device in jax.devices() if device.process_index == i] for i in range(jax.process_count())]
    except RuntimeError as error:
        asked = os.environ.get("JAX_PLATFORMS")
        raise UserError(f"{f'JAX_PLATFORMS={asked}' if asked else 'JAX'}: no device can be used: {error}") from error
    most, processes = min(map(len, theirs)), len(theirs)
    if count > most:
        where = f" in process {[len(found) for found in theirs].index(most)}" if processes > 1 else ""
        raise UserError(f"parallel.devices={count}, but JAX sees {most} ({local[0].platform}){where}; use 0 to {most}")
    counts = [count] if count else range(1, most + 1)
    dividing = [n for n in counts if batch_size % (n * processes) == 0]
    if not dividing:
        where = f" in each of {processes} processes" if processes > 1 else ""
        raise UserError(f"train.batch_size={batch_size} does not divide over parallel.devices={counts[0]}{where}")
    return [device for found in theirs for device in found[: dividing[-1]]]


def to_host(state: TrainState) -> TrainState:
    """A state as NumPy, the key as its raw numbers."""
    raw: TrainState = jax.device_get(state._replace(key=jax.random.key_data(state.key)))
    return raw


def place(raw: TrainState, devices: list[jax.Device]) -> TrainState:
    """What `to_host` made, with a leading device axis of equal copies, one on each device: nothing is compiled for it."""
    copies = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (len(devices), *np.shape(leaf))), raw)
    sharding = NamedSharding(Mesh(np.array(devices), (AXIS,)), PartitionSpec(AXIS))
    placed: TrainState = jax.device_put(copies, sharding)
    return placed._replace(key=jax.random.wrap_key_data(placed.key))


def replicate(state: TrainState, devices: list[jax.Device]) -> TrainState:
    """A leading device axis with equal copies, one on each device."""
    return place(to_host(state), devices)


def first_replica(state: Any) -> Any:
    """A state, or a part of one, of the first device, without the device axis; no gathering over devices."""
    return _without_first_axis(jax.tree.map(lambda leaf: leaf.addressable_shards[0].data, state))


@jax.jit
def _without_first_axis(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], tree)


def split_batches(batches: Batch, devices: int) -> Batch:
    """[K, T, B, ...] to [D, K, T, B/D, ...] (context: [K, B, ...] to [D, K, B/D, ...]); NumPy in, NumPy views out."""

    def split(leaf: np.ndarray, axis: int) -> np.ndarray:
        shape = (*leaf.shape[:axis], devices, leaf.shape[axis] // devices, *leaf.shape[axis + 1 :])
        return np.moveaxis(leaf.reshape(shape), axis, 0)

    parts = {
        name: jax.tree.map(partial(split, axis=1 if name.startswith("context") else 2), part)
        for name, part in batches._asdict().items()
    }
    return Batch(**parts)


def merge_latents(latents: Any) -> Any:
    """[D, K, T, B/D, ...] back to NumPy [K, T, B, ...]."""

    def merge(leaf: Any) -> np.ndarray:
        array = np.moveaxis(np.asarray(leaf), 0, 2)
        return array.reshape(*array.shape[:2], -1, *array.shape[4:])

    return jax.tree.map(merge, latents)


def read_metrics(metrics: dict[str, Any]) -> dict[str, np.ndarray]:
    """The metrics of an update as NumPy {name: [K]}; waits for the device."""
    return {name: np.asarray(values) for name, values in jax.device_get(metrics).items()}


def working_bytes(program: Any, devices: int) -> int:
    """Bytes that a compiled program works in, over so many devices."""
    return int(program.memory_analysis().temp_size_in_bytes) * devices


def updates(
    networks: Networks,
    options: UpdateOptions,
    hyper: Hyper,
    state: TrainState,
    batches: Batch,
    *,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics, Latent, dict[str, Params]]:
    """`train_step` in one `lax.scan` over batches [K, T, B, ...].

    Returns the state, the metrics of each update [K], the latents [K, T, B, ...] with class indices in place of one-hots, and
    a copy of the acting parameters (the state's own buffers may be donated to the next call).
    """
    chex.assert_rank([batches.reward, batches.action], [3, 4], custom_message="batches [K, T, B, ...]")

    def step(carry: TrainState, batch: Batch) -> tuple[TrainState, tuple[Metrics, Latent]]:
        new, metrics, latent = train_step(networks, options, hyper, carry, batch, axis_name=axis_name)
        return new, (metrics, Latent(latent.deter, class_indices(networks, latent)))

    state, (metrics, latents) = jax.lax.scan(step, state, batches)
    return state, metrics, latents, jax.tree.map(jnp.copy, acting_params(state.newest))


def compiled_updates(networks: Networks, options: UpdateOptions, devices: list[jax.Device]) -> Any:
    """`updates` over the devices, which share state and batches by their leading axis; the state is donated."""
    function = partial(updates, networks, options, axis_name=AXIS)
    axes: dict[str, Any] = {"in_axes": (None, 0, 0), "out_axes": (0, None, 0, None)}
    return jax.pmap(function, AXIS, **axes, donate_argnums=(1,), devices=devices)


class Learner:
    """The training state on this process's devices, and the compiled update over those of all processes.

    `acting` are the parameters after the last call: their buffers are never donated, so that a policy may use them while
    the next update runs.
    """

    def __init__(
        self,
        networks: Networks,
        options: UpdateOptions,
        state: TrainState,
        devices: list[jax.Device],
        *,
        jit: bool,
    ) -> None:
        local = [device for device in devices if device.process_index == jax.process_index()]
        self._devices = local if jit else local[:1]
        self.acting = jax.tree.map(np.asarray, acting_params(state.newest))
        self._jit = jit
        self._state = replicate(state, local) if jit else state

        # Each is compiled when it is first called: a run that always trains everything has one program.
        choices = {trains: replace(options, trains=trains) for trains in Trains}
        self._programs: dict[Trains, Any] = {
            trains: compiled_updates(networks, chosen, devices) if jit else partial(updates, networks, chosen)
            for trains, chosen in choices.items()
        }
        self.compiled: set[Trains] = set()  # by `compile`

    def compile(self, hyper: Hyper, batches: Batch, trains: Trains) -> int:
        """Compile what `update` runs on such batches, whose numbers do not matter; changes nothing else.

        Returns:
            Bytes that the program works in, over all devices.
        """
        program = self._programs[trains].lower(hyper, self._state, split_batches(batches, len(self._devices))).compile()
        self.compiled.add(trains)
        return working_bytes(program, len(self._devices))

    def update(self, hyper: Hyper, batches: Batch, trains: Trains = Trains.everything) -> tuple[dict[str, Any], Any]:
        """Run K updates on this process's NumPy batches [K, T, B, ...]: device metrics {name: [K]}, latents for `latents`.

        Returns at once; reading the results waits for the device.
        """
        if self._jit:
            batches = split_batches(batches, len(self._devices))
        self._state, metrics, latents, acting = self._programs[trains](hyper, self._state, batches)
        self.acting = jax.tree.map(lambda leaf: leaf.addressable_shards[0].data, acting) if self._jit else acting
        return metrics, latents

    def metrics(self, metrics: dict[str, Any]) -> dict[str, np.ndarray]:
        """The metrics of an update as NumPy {name: [K]}; waits for the device."""
        return read_metrics(metrics)

    def latents(self, latents: Any) -> Any:
        """The refreshed latents of an update as NumPy [K, T, B, ...]."""
        return merge_latents(latents) if self._jit else jax.tree.map(np.asarray, latents)

    def state(self) -> TrainState:
        """The state as one device has it."""
        return first_replica(self._state) if self._jit else self._state

    def averaged(self) -> dict[str, Any]:
        """`TrainState.averaged` as one device has it: what is evaluated."""
        return first_replica(self._state.averaged) if self._jit else self._state.averaged

    def replicas(self) -> TrainState:
        """The raw state, device axis included: for checking that the copies agree."""
        return self._state
