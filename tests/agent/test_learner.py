"""One device and two make the same agent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import chex
import jax
import numpy as np
import pytest

from dreamerjax.agent.learner import Learner, choose_devices, first_replica, merge_latents, replicate, split_batches
from dreamerjax.agent.state import Batch, acting_params
from dreamerjax.agent.world_model import Latent
from dreamerjax.core.errors import UserError
from tests.helpers import (
    LENGTH,
    SEQUENCES,
    VECTOR,
    assert_trees_close,
    fresh,
    hyper,
    make_networks,
    random_batch,
    random_state,
    settings,
    stacked,
)

NETWORKS = make_networks(VECTOR)
STATE = random_state(NETWORKS)
CALLS, UPDATES = 3, 2
NUMBERS = hyper(model_lr=1e-4, actor_lr=1e-4, critic_lr=1e-4)


def learner(devices: int, *, jit: bool = True) -> Learner:
    return Learner(NETWORKS, settings(), fresh(STATE), jax.local_devices()[:devices], jit=jit)


def make_batches(call: int) -> Batch:
    return stacked(*(random_batch(NETWORKS, seed=10 * call + k) for k in range(UPDATES)))


class Trained:
    """A learner after a few calls, and what each of them returned."""

    def __init__(self, devices: int) -> None:
        self.learner = learner(devices)
        self.metrics: list[dict[str, np.ndarray]] = []
        self.latents: list[Latent] = []
        self.acting: list[Any] = []
        for call in range(CALLS):
            metrics, latents = self.learner.update(NUMBERS, make_batches(call))
            self.metrics.append({name: np.asarray(value) for name, value in metrics.items()})
            self.latents.append(self.learner.latents(latents))
            self.acting.append(self.learner.acting)


@pytest.fixture(scope="module")
def one() -> Trained:
    return Trained(1)


@pytest.fixture(scope="module")
def two() -> Trained:
    return Trained(2)


def test_two_devices_report_what_one_does(one: Trained, two: Trained) -> None:
    for single, double in zip(one.metrics, two.metrics, strict=True):
        assert single.keys() == double.keys()
        for name in single:
            assert single[name].shape == (UPDATES,)
            np.testing.assert_allclose(double[name], single[name], rtol=2e-3, atol=1e-4, err_msg=name)


def test_two_devices_make_the_parameters_that_one_does(one: Trained, two: Trained) -> None:
    """Every number moved by about 6e-4 at most; a gradient near zero may round to the other sign."""
    single, double = one.learner.state(), two.learner.state()
    pairs = zip(jax.tree.leaves(single.params), jax.tree.leaves(double.params), strict=True)
    differences = np.concatenate([np.abs(np.asarray(a) - np.asarray(b)).ravel() for a, b in pairs])
    assert np.mean(differences > 1e-6) < 0.01
    assert differences.max() < 1e-4
    assert_trees_close(double.return_scale, single.return_scale, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(jax.random.key_data(double.key), jax.random.key_data(single.key))
    assert int(double.updates) == CALLS * UPDATES


def test_two_devices_return_the_latents_of_the_whole_batch(one: Trained, two: Trained) -> None:
    for single, double in zip(one.latents, two.latents, strict=True):
        assert double.deter.shape == (UPDATES, LENGTH, SEQUENCES, NETWORKS.rssm.deter)
        assert double.stoch.shape == (UPDATES, LENGTH, SEQUENCES, NETWORKS.rssm.groups)
        np.testing.assert_allclose(double.deter, single.deter, rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(double.stoch, single.stoch)


def test_the_copies_on_the_devices_are_bit_for_bit_the_same(two: Trained) -> None:
    replicas = two.learner.replicas()
    for leaf in jax.tree.leaves(replicas._replace(key=jax.random.key_data(replicas.key))):
        first, second = (np.asarray(shard.data) for shard in leaf.addressable_shards)
        np.testing.assert_array_equal(first, second)


def test_a_policy_keeps_the_parameters_it_was_given(one: Trained, two: Trained) -> None:
    """The next update must not overwrite them."""
    for trained in (one, two):
        assert_trees_close(trained.acting[-1], acting_params(trained.learner.state().newest), rtol=0.0)
        first, last = (jax.tree.leaves(acting["actor"]) for acting in (trained.acting[0], trained.acting[-1]))
        assert any((np.asarray(a) != np.asarray(b)).any() for a, b in zip(first, last, strict=True))


def test_batches_are_split_along_the_sequences_and_joined_again() -> None:
    batches = stacked(random_batch(NETWORKS, seed=0), random_batch(NETWORKS, seed=1), random_batch(NETWORKS, seed=2))
    split = split_batches(batches, 2)
    half = SEQUENCES // 2
    assert split.reward.shape == (2, 3, LENGTH, half)
    assert split.context_deter.shape == (2, 3, half, NETWORKS.rssm.deter)
    np.testing.assert_array_equal(split.reward[1, 2], batches.reward[2, :, half:])
    np.testing.assert_array_equal(split.observations["state"][0, 1], batches.observations["state"][1, :, :half])
    np.testing.assert_array_equal(split.context_action[1, 0], batches.context_action[0, half:])
    sequences = {name: getattr(split, name) for name in ("observations", "action", "reward", "is_last")}
    for name, merged in merge_latents(sequences).items():
        chex.assert_trees_all_equal(merged, getattr(batches, name))


def test_replicate_and_first_replica_are_inverse() -> None:
    devices = jax.local_devices()[:2]
    replicated = replicate(STATE, devices)
    kernel = replicated.params["actor"]["out"]["dense"]["kernel"]
    assert {shard.device for shard in kernel.addressable_shards} == set(devices)
    assert_trees_close(first_replica(replicated), STATE, rtol=0.0)


def test_without_jit_an_update_is_the_same(one: Trained) -> None:
    with jax.disable_jit():
        eager = learner(1, jit=False)
        metrics, latents = eager.update(NUMBERS, jax.tree.map(lambda leaf: leaf[:1], make_batches(0)))
        assert int(eager.state().updates) == 1
    np.testing.assert_allclose(eager.latents(latents).deter[0], one.latents[0].deter[0], rtol=1e-3, atol=1e-4)
    for name, value in one.metrics[0].items():
        np.testing.assert_allclose(metrics[name][0], value[0], rtol=2e-3, atol=1e-4, err_msg=name)


def test_devices_are_chosen_so_that_the_batch_divides() -> None:
    local = jax.local_devices()
    assert len(local) == 2
    assert choose_devices(0, 16) == local
    assert choose_devices(0, 3) == local[:1]
    assert choose_devices(1, 3) == local[:1]
    assert choose_devices(2, 4) == local
    with pytest.raises(UserError, match=r"parallel\.devices=3, but JAX sees 2 \(cpu\); use 0 to 2"):
        choose_devices(3, 6)
    with pytest.raises(UserError, match=r"train\.batch_size=3 does not divide over parallel\.devices=2"):
        choose_devices(2, 3)


def test_devices_of_several_processes_are_chosen_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three devices in one process, two in the other: each gives as many, in the order of the processes."""
    places = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    devices = [SimpleNamespace(process_index=process, platform="gpu", number=number) for process, number in places]
    monkeypatch.setattr(jax, "devices", lambda: devices)
    monkeypatch.setattr(jax, "local_devices", lambda: devices[:3])
    monkeypatch.setattr(jax, "process_count", lambda: 2)

    def chosen(count: int, batch_size: int) -> list[tuple[int, int]]:
        return [(device.process_index, cast(Any, device).number) for device in choose_devices(count, batch_size)]

    assert chosen(0, 8) == chosen(2, 4) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert chosen(0, 6) == chosen(1, 8) == [(0, 0), (1, 0)]
    with pytest.raises(UserError, match=r"parallel\.devices=3, but JAX sees 2 \(gpu\) in process 1; use 0 to 2"):
        choose_devices(3, 12)
    with pytest.raises(UserError, match=r"train\.batch_size=6 does not divide over parallel\.devices=2 in each of 2 processes"):
        choose_devices(2, 6)
