"""Random actions that are held: how often, how long, which, and that a saved state goes on."""

from __future__ import annotations

import numpy as np
import pytest

from dreamerjax.core.types import ActionSpec
from dreamerjax.data.exploration import Exploration, explored_share

CONTINUOUS, DISCRETE = ActionSpec(dimensions=2), ActionSpec(sizes=(3, 5))
ON = np.zeros(4, np.bool_)  # no episode begins


def explored(spec: ActionSpec, *, share: float, steps: int, longest: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """What is done [steps, 4, C] where the policy would do -7, which is never drawn, and whether it was held [steps, 4]."""
    exploration = Exploration(spec, 4, longest, np.random.default_rng(0))
    exploration.share = share
    policy = np.full((4, *spec.shape), -7, spec.dtype)
    done = np.stack([exploration(policy, ON) for _ in range(steps)])
    assert done.dtype == spec.dtype
    return done, (done != -7).all(-1)


def stretches(done: np.ndarray) -> list[int]:
    """Lengths of the runs of equal actions of one environment [steps, C], without the last."""
    changes = np.flatnonzero((done[1:] != done[:-1]).any(-1)) + 1
    return np.diff([0, *changes]).tolist()


@pytest.mark.parametrize(
    ("spread", "randomness", "share"),
    [
        (0.0, 1.0, 1.0),
        (0.25, 1.0, 0.75),
        (0.0, 0.95, 0.5),
        (0.5, 0.95, 0.25),
        (1.0, 1.0, 0.0),
        (30.0, 1.0, 0.0),
        (0.0, 0.9, 0.0),
        (0.0, 0.1, 0.0),
    ],
)
def test_what_is_explored_where_returns_hardly_differ_and_the_policy_has_no_preference(
    spread: float, randomness: float, share: float
) -> None:
    assert explored_share(spread, randomness) == pytest.approx(share)


def test_without_a_share_the_policy_acts_and_nothing_is_drawn() -> None:
    rng, actions = np.random.default_rng(0), np.ones((4, 2), np.float32)
    exploration, before = Exploration(CONTINUOUS, 4, 64, rng), rng.bit_generator.state
    assert all(exploration(actions, ON) is actions for _ in range(9))
    assert rng.bit_generator.state == before


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_its_share_of_the_steps_is_explored(share: float) -> None:
    _, held = explored(CONTINUOUS, share=share, steps=10_000)
    assert held.mean() == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize("spec", [CONTINUOUS, DISCRETE])
def test_every_action_is_held_as_often(spec: ActionSpec) -> None:
    done, _ = explored(spec, share=1.0, steps=6_000, longest=4)
    values, counts = np.unique(done.reshape(-1, 2), axis=0, return_counts=True)
    assert len(values) == (15 if spec.is_discrete else 4)
    np.testing.assert_allclose(counts / counts.sum(), 1 / len(values), atol=0.03)
    if not spec.is_discrete:
        assert set(np.abs(done).ravel()) == {1.0}


def test_as_much_time_goes_into_short_stretches_as_into_long_ones() -> None:
    done, _ = explored(ActionSpec(sizes=(1_000_000,)), share=1.0, steps=20_000)
    lengths = np.concatenate([stretches(done[:, stream]) for stream in range(4)])
    assert lengths.max() == 64
    time = [lengths[(lengths > low) & (lengths <= low + 16)].sum() for low in (0, 16, 32, 48)]
    np.testing.assert_allclose(time / lengths.sum(), 0.25, atol=0.04)


def test_a_stretch_ends_with_its_episode() -> None:
    exploration, policy = Exploration(DISCRETE, 400, 64, np.random.default_rng(0)), np.full((400, 2), -7, np.int32)
    exploration.share = 1.0
    assert (exploration(policy, np.zeros(400, np.bool_)) != -7).all()
    exploration.share = 0.0
    first = np.arange(400) < 200
    acts = (exploration(policy, first) == -7).all(-1)
    assert acts[:200].all()
    assert 0.1 < acts[200:].mean() < 0.4


def test_a_saved_state_goes_on() -> None:
    def make(seed: int) -> tuple[Exploration, np.random.Generator]:
        rng = np.random.default_rng(seed)
        return Exploration(CONTINUOUS, 4, 64, rng), rng

    (one, rng), policy = make(0), np.zeros((4, 2), np.float32)
    one.share = 0.7
    for _ in range(50):
        one(policy, ON)
    saved, drawn = {name: np.array(value) for name, value in one.state_dict().items()}, rng.bit_generator.state
    expected = [one(policy, ON) for _ in range(200)]
    other, rng = make(1)
    other.load_state_dict(saved)
    rng.bit_generator.state = drawn
    np.testing.assert_array_equal([other(policy, ON) for _ in range(200)], expected)
