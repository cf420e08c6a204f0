"""The update: composition of the losses, whom each of them trains, and what an update changes."""

from __future__ import annotations

import functools
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dreamerjax.agent.learner import updates
from dreamerjax.agent.state import (
    Batch,
    Hyper,
    Trains,
    TrainState,
    acting_params,
    hyper_from_config,
    options_from_config,
    state_from_dict,
    state_to_dict,
)
from dreamerjax.agent.update import train_step
from dreamerjax.config.schema import BehaviorConfig, Config, FreeBits, LossConfig, TrainConfig
from dreamerjax.core.types import EnvSpec
from dreamerjax.storage import leaves
from tests.helpers import (
    CONTINUOUS,
    LENGTH,
    MIXED,
    SEQUENCES,
    VECTOR,
    assert_trees_close,
    fresh,
    hyper,
    largest,
    make_networks,
    random_batch,
    random_state,
    settings,
    stacked,
)

NETWORKS = make_networks(VECTOR)
STATE = random_state(NETWORKS)
PARTS = {"world_model": "model_lr", "actor": "actor_lr", "critic": "critic_lr"}
Step = Any


@pytest.fixture(scope="module")
def step() -> Step:
    """A compiled (hyper, state, batch) -> (state, metrics, latent) that fails if it is traced twice."""

    @jax.jit
    @chex.assert_max_traces(n=1)
    def update(numbers: Hyper, state: TrainState, batch: Batch) -> Any:
        return train_step(NETWORKS, settings(), numbers, state, batch)

    return update


@functools.cache
def step_of(trains: Trains) -> Step:
    """A compiled (hyper, state, batch) -> (state, metrics, latent) that trains parts alone."""
    return jax.jit(partial(train_step, NETWORKS, settings(trains=trains)))


def changes(new: TrainState, part: str) -> list[np.ndarray]:
    pairs = zip(jax.tree.leaves(new.params[part]), jax.tree.leaves(STATE.params[part]), strict=True)
    return [np.asarray(after) - np.asarray(before) for after, before in pairs]


def test_an_update_moves_every_tensor_by_its_parts_own_learning_rate(step: Step) -> None:
    """The first LaProp update is the sign of the gradient: every number moves by exactly the learning rate."""
    new, metrics, latent = step(hyper(), fresh(STATE), random_batch(NETWORKS))
    for part, rate in {"world_model": 1e-3, "actor": 2e-3, "critic": 3e-3}.items():
        for change in changes(new, part):
            moved = np.abs(change) > 0
            assert moved.any()
            np.testing.assert_allclose(np.abs(change[moved]), rate, rtol=2e-3)
    assert int(new.updates) == 1
    assert all(np.isfinite(value) for value in metrics.values())
    assert latent.deter.shape == (LENGTH, SEQUENCES, NETWORKS.rssm.deter)
    keys = [jax.random.key_data(state.key) for state in (STATE, new)]
    assert (keys[0] != keys[1]).any()


def test_the_losses_are_those_that_have_a_scale(step: Step) -> None:
    _, metrics, _ = step(hyper(), fresh(STATE), random_batch(NETWORKS))
    names = {name.removeprefix("loss/") for name in metrics if name.startswith("loss/")}
    assert names == set(hyper().scales)
    plain = partial(train_step, NETWORKS, settings())
    for scales in ({**hyper().scales, "typo": jnp.ones(())}, {"actor": jnp.ones(())}):
        with pytest.raises(ValueError, match=r"losses .* and scales .* differ"):
            jax.eval_shape(plain, hyper()._replace(scales=scales), fresh(STATE), random_batch(NETWORKS))


def test_no_change_of_a_number_compiles_anything(step: Step) -> None:
    """Of none of them, the scales included: the compiled update is traced once."""
    batch = random_batch(NETWORKS)
    numbers, structure = jax.tree.flatten(hyper())
    assert len(numbers) == len(Hyper._fields) - 1 + len(hyper().scales)
    step(hyper(), fresh(STATE), batch)
    compiled = step._cache_size()
    for index, number in enumerate(numbers):
        changed = [*numbers[:index], np.float32(0.9 * number + 0.01), *numbers[index + 1 :]]
        assert changed[index] != number
        step(jax.tree.unflatten(structure, changed), fresh(STATE), batch)
    assert step._cache_size() == compiled


@pytest.mark.parametrize("name", ["decoder", "reward", "continue_", "dynamics", "representation", "actor", "critic"])
def test_a_scale_of_zero_takes_a_loss_away(step: Step, name: str) -> None:
    batch, base = random_batch(NETWORKS), hyper()
    part = name if name in PARTS else "world_model"
    norms = []
    for scale in (1.0, 0.0):
        scales = dict.fromkeys(base.scales, jnp.float32(0.0)) | {name: jnp.float32(scale)}
        new, metrics, _ = step(base._replace(scales=scales), fresh(STATE), batch)
        norms.append(float(metrics[f"gradient_norm/{part}"]))
        untouched = set(PARTS) - ({part} if scale else set())
        assert all(not change.any() for other in untouched for change in changes(new, other))
    assert norms[0] > 0
    assert norms[1] == 0


@pytest.mark.parametrize("part", list(PARTS))
def test_a_learning_rate_of_zero_freezes_exactly_that_part(step: Step, part: str) -> None:
    new, *_ = step(hyper(**{PARTS[part]: 0.0}), fresh(STATE), random_batch(NETWORKS))
    for other in PARTS:
        assert any(change.any() for change in changes(new, other)) == (other != part)


def test_warm_up_scales_the_first_update(step: Step) -> None:
    batch = random_batch(NETWORKS)
    full, *_ = step(hyper(warmup=1), fresh(STATE), batch)
    tenth, *_ = step(hyper(warmup=10), fresh(STATE), batch)
    for part in PARTS:
        for one, other in zip(changes(full, part), changes(tenth, part), strict=True):
            np.testing.assert_allclose(other, one / 10, rtol=0.02, atol=1e-7)


def test_each_part_warms_up_with_its_own_updates(step: Step) -> None:
    """An actor that begins late begins slowly, though the world model has made its updates."""
    batch, optimizer = random_batch(NETWORKS), STATE.optimizer
    clip, moments, rate = optimizer["world_model"]
    after_nine = {"world_model": (clip, moments, rate._replace(count=jnp.int32(9)))}
    ahead = fresh(STATE)._replace(optimizer=optimizer | after_nine)
    full, *_ = step(hyper(warmup=1), fresh(ahead), batch)
    warm, *_ = step(hyper(warmup=10), fresh(ahead), batch)
    for part in PARTS:
        share = 1.0 if part == "world_model" else 0.1
        for one, other in zip(changes(full, part), changes(warm, part), strict=True):
            np.testing.assert_allclose(other, share * one, rtol=0.02, atol=1e-7)


@pytest.mark.parametrize("trains", [Trains.model, Trains.behavior])
def test_what_is_not_trained_is_not_touched(trains: Trains) -> None:
    """Neither parameters nor optimiser, slow critic or return scale of the other part; all of its own do change."""
    new, metrics, _ = step_of(trains)(hyper(), fresh(STATE), random_batch(NETWORKS))
    for part in PARTS:
        changed = part in trains.value
        assert any(change.any() for change in changes(new, part)) == changed, part
        _, (_, second_moment, _, momentum, _), rate = new.optimizer[part]
        assert int(rate.count) == int(momentum.count) == int(changed), part
        for moment in (second_moment.nu, momentum.ema):
            assert any(np.any(leaf) for leaf in jax.tree.leaves(moment)) == changed, part
        assert (f"gradient_norm/{part}" in metrics) == changed
    behaves = trains is Trains.behavior
    assert (largest(jax.tree.map(jnp.subtract, new.slow_critic, STATE.slow_critic)) > 0) == behaves
    assert (float(new.return_scale.correction) > 0) == behaves
    assert int(new.updates) == 1
    assert "loss/dynamics" in metrics  # surprise is measured on a frozen model too
    assert ("loss/actor" in metrics) == behaves


def test_training_one_part_is_that_part_of_training_all(step: Step) -> None:
    """With the same noise, the world model learns the same with and without dreams (the critic's gradient aside)."""
    numbers = hyper()
    numbers = numbers._replace(scales=numbers.scales | {"replay_critic": np.float32(0.0)})
    whole, *_ = step(numbers, fresh(STATE), random_batch(NETWORKS))
    model, *_ = step_of(Trains.model)(numbers, fresh(STATE), random_batch(NETWORKS))
    for one, other in zip(changes(whole, "world_model"), changes(model, "world_model"), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-6)


def test_the_slow_critic_follows_the_critic(step: Step) -> None:
    for rate in (0.02, 1.0):
        new, *_ = step(hyper(slow_rate=rate), fresh(STATE), random_batch(NETWORKS))
        expected = jax.tree.map(
            lambda slow, fast, rate=rate: (1 - rate) * np.float64(slow) + rate * np.float64(fast),
            STATE.slow_critic,
            new.params["critic"],
        )
        assert_trees_close(new.slow_critic, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("longest", "updates", "expected"),
    [(100, 0, 1.0), (100, 4, 0.5), (100, 400, 1 / 101), (100, 10_000, 1 / 101), (0, 10_000, 1.0)],
)
def test_the_average_grows_with_the_run_up_to_a_length(step: Step, longest: int, updates: int, expected: float) -> None:
    before = fresh(STATE)._replace(updates=jnp.int32(updates))
    new, *_ = step(hyper(average_updates=longest), before, random_batch(NETWORKS))
    mean = jax.tree.map(
        lambda old, now: (1 - expected) * np.float64(old) + expected * np.float64(now), STATE.average, new.params
    )
    assert_trees_close(new.average, mean, rtol=1e-5, atol=1e-7)


def test_the_same_key_gives_the_same_update_bit_for_bit(step: Step) -> None:
    batch = random_batch(NETWORKS)
    first, again = (step(hyper(), fresh(STATE), batch) for _ in range(2))
    assert_trees_close(first, again, rtol=0.0)
    other, *_ = step(hyper(), STATE._replace(key=jax.random.key(99)), batch)
    assert any((np.asarray(a) != np.asarray(b)).any()
               for a, b in zip(jax.tree.leaves(first[0].params), jax.tree.leaves(other.params), strict=True))  # fmt: skip


def test_three_updates_in_one_call_are_three_calls(step: Step) -> None:
    batches = [random_batch(NETWORKS, seed=seed) for seed in range(3)]
    many = jax.jit(partial(updates, NETWORKS, settings()))
    final, metrics, latents, acting = many(hyper(), fresh(STATE), stacked(*batches))
    state = fresh(STATE)
    for index, batch in enumerate(batches):
        state, expected, latent = step(hyper(), state, batch)
        for name, value in expected.items():
            np.testing.assert_allclose(metrics[name][index], value, rtol=2e-3, atol=1e-4, err_msg=name)
        np.testing.assert_allclose(latents.deter[index], latent.deter, rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(latents.stoch[index], np.argmax(latent.stoch, axis=-1))
    assert latents.stoch.dtype == jnp.uint8
    assert int(final.updates) == 3
    assert_trees_close(final.params, state.params, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(jax.random.key_data(final.key), jax.random.key_data(state.key))
    assert_trees_close(acting, acting_params(final.newest), rtol=0.0)


@pytest.mark.parametrize("spec", [CONTINUOUS, MIXED], ids=["continuous", "multi-discrete"])
def test_other_spaces_train_too(spec: EnvSpec) -> None:
    networks = make_networks(spec)
    state = random_state(networks)
    many = jax.jit(partial(updates, networks, settings()))
    final, metrics, _, _ = many(hyper(), fresh(state), stacked(*(random_batch(networks, seed=seed) for seed in (0, 1))))
    for name, values in metrics.items():
        assert np.isfinite(values).all(), name
    for before, after in zip(jax.tree.leaves(state.params), jax.tree.leaves(final.params), strict=True):
        assert np.isfinite(after).all()
        assert (np.asarray(before) != np.asarray(after)).any()


def test_configuration_becomes_numbers_and_choices() -> None:
    behavior = BehaviorConfig(horizon=7, starts=32, gamma=0.99, lambda_=0.9, return_norm=False)
    config = Config(
        train=TrainConfig(batch_size=16),
        behavior=behavior,
        loss=LossConfig(free_nats=0.5, free_bits=FreeBits.straight_through),
    )
    numbers = hyper_from_config(config)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(numbers))
    assert float(numbers.gamma) == pytest.approx(0.99)
    assert float(numbers.free_nats) == pytest.approx(0.5)
    assert float(numbers.scales["replay_critic"]) == pytest.approx(1.0)
    chosen = options_from_config(config)
    assert (chosen.horizon, chosen.starts_per_sequence) == (7, 2)
    assert (chosen.straight_through, chosen.return_norm) == (True, False)


def test_a_training_state_comes_back_from_the_leaves_of_a_checkpoint() -> None:
    """With the links of the optimiser's chain, those that have no state too."""
    state = STATE._replace(optimizer=jax.tree.map(lambda leaf: leaf + 3, STATE.optimizer))
    back = state_from_dict(leaves.unflatten(leaves.flatten(state_to_dict(state))), STATE)
    chex.assert_trees_all_equal_structs(back, state)
    assert_trees_close(back, state, rtol=0)
