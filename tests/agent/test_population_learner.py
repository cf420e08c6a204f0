"""Members that share one update learn what each would learn alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import pytest

from dreamerjax.agent.learner import Learner
from dreamerjax.agent.population_learner import MemberLearner, PopulationLearner, Program
from dreamerjax.agent.state import Batch, Hyper, Trains, TrainState
from dreamerjax.core.errors import UserError
from tests.helpers import (
    CONTINUOUS,
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

SIZE, UPDATES = 3, 2
NETWORKS = make_networks(VECTOR)
STATES = [random_state(NETWORKS, seed) for seed in range(SIZE)]
NUMBERS = [hyper(model_lr=1e-4, actor_lr=1e-4 * rate, critic_lr=1e-4) for rate in (1, 2, 4)]
BATCHES = [stacked(*(random_batch(NETWORKS, seed=10 * number + k) for k in range(UPDATES))) for number in range(SIZE + 4)]


class Together:
    """Members that act in turn, without threads: a member that waits lets the next one act."""

    def __init__(self, devices: int) -> None:
        self.population = PopulationLearner(SIZE, self._pass_on)
        self.program = Program(NETWORKS, settings(), jax.local_devices()[:devices])
        self.members = [self.enter(number, fresh(state)) for number, state in enumerate(STATES)]

    def enter(self, number: int, state: TrainState) -> MemberLearner:
        return self.population.enter(number, state, self.program)

    def update(self, requests: Mapping[int, tuple[Hyper, Batch, Trains]]) -> dict[int, tuple[Any, Any]]:
        """What each member's update returned."""
        self._waiting, self._results = dict(requests), dict[int, tuple[Any, Any]]()
        self._pass_on(-1)
        return {number: self._results[number] for number in requests}

    def _pass_on(self, _: int) -> None:
        if self._waiting:
            number = next(iter(self._waiting))
            self._results[number] = self.members[number].update(*self._waiting.pop(number))


def alone(number: int, devices: int) -> Learner:
    return Learner(NETWORKS, settings(), fresh(STATES[number]), jax.local_devices()[:devices], jit=True)


def assert_same(member: MemberLearner, learner: Learner) -> None:
    """Parameters, optimiser, statistics, keys: all that is trained, and what acts and is evaluated."""
    assert_trees_close(member.state(), learner.state(), rtol=1e-4, atol=1e-5)
    assert_trees_close(member.averaged(), learner.averaged(), rtol=1e-4, atol=1e-5)
    assert_trees_close(member.acting, learner.acting, rtol=1e-4, atol=1e-5)


def test_two_hundred_updates_are_those_of_learners_alone() -> None:
    """Each member with its own numbers, on its own batches, over two devices."""
    together, learners = Together(2), [alone(number, 2) for number in range(SIZE)]
    for call in range(200 // UPDATES):
        batches = [BATCHES[(number + call) % len(BATCHES)] for number in range(SIZE)]
        results = together.update({n: (NUMBERS[n], batches[n], Trains.everything) for n in range(SIZE)})
        for number, learner in enumerate(learners):
            metrics, latents = learner.update(NUMBERS[number], batches[number])
            member, (own, own_latents) = together.members[number], results[number]
            assert_trees_close(member.metrics(own), learner.metrics(metrics), rtol=1e-3, atol=1e-4)
            assert_trees_close(member.latents(own_latents), learner.latents(latents), rtol=1e-3, atol=1e-4)
    for member, learner in zip(together.members, learners, strict=True):
        assert_same(member, learner)
    assert together.population.calls == 100


@pytest.mark.usefixtures("own_programs")
def test_members_that_train_different_parts_or_leave_disturb_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Nor is anything compiled anew when they do."""
    together, learners = Together(1), [alone(number, 1) for number in range(SIZE)]
    kinds = [Trains.model, Trains.everything, Trains.model]
    rounds = [(0, 1, 2), (0, 2), (2,)]  # who is still there
    for present in rounds:
        for number in together.population.present - set(present):
            together.population.leave(number)
        with jax.log_compiles(present != rounds[0]):
            together.update({n: (NUMBERS[n], BATCHES[n], kinds[n]) for n in present})
        for number in present:
            learners[number].update(NUMBERS[number], BATCHES[number], kinds[number])
    assert together.population.calls == 4
    for number, learner in enumerate(learners):
        assert int(together.members[number].state().updates) == UPDATES * sum(number in present for present in rounds)
        assert_same(together.members[number], learner)
    assert not [message for message in caplog.messages if "XLA compilation" in message]


def test_a_member_may_bring_another_state_before_its_first_update() -> None:
    together = Together(1)
    together.members[1] = together.enter(1, fresh(random_state(NETWORKS, 7)))
    assert_trees_close(together.members[1].averaged(), random_state(NETWORKS, 7).averaged, rtol=0)
    together.update({n: (NUMBERS[n], BATCHES[n], Trains.everything) for n in range(SIZE)})
    learner = Learner(NETWORKS, settings(), fresh(random_state(NETWORKS, 7)), jax.local_devices()[:1], jit=True)
    learner.update(NUMBERS[1], BATCHES[1])
    assert_same(together.members[1], learner)


def test_compiling_changes_nothing_and_serves_every_member(caplog: pytest.LogCaptureFixture) -> None:
    together = Together(1)
    needed = together.members[0].compile(NUMBERS[0], BATCHES[0], Trains.everything)
    with jax.log_compiles():
        assert together.members[2].compile(NUMBERS[2], BATCHES[2], Trains.everything) == needed > 0
    assert not caplog.messages
    assert [member.compiled for member in together.members] == [{Trains.everything}, set(), {Trains.everything}]
    for number, state in enumerate(STATES):
        assert_trees_close(together.members[number].state(), fresh(state), rtol=0)


def test_environments_of_other_spaces_are_refused() -> None:
    together = Together(1)
    networks = make_networks(CONTINUOUS)
    with pytest.raises(UserError, match="other spaces"):
        together.population.enter(1, random_state(networks), Program(networks, settings(), jax.local_devices()[:1]))
