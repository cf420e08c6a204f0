"""Names of other implementations and of people: each means keys that exist, and the answer to it names them."""

from __future__ import annotations

import pytest

from dreamerjax.config.composition import config_groups, load_config
from dreamerjax.config.flat import key_types, walk
from dreamerjax.config.overrides import unknown_key
from dreamerjax.config.schema import Config
from dreamerjax.config.synonyms import SYNONYMS, is_environment_id
from dreamerjax.core.errors import UserError

GROUPS = {group.word.strip("+=") for group in config_groups()}
KEYS = {entry.key for entry in walk(Config) if entry.about}


def test_each_means_what_exists() -> None:
    assert {key for keys in SYNONYMS.values() for key in keys} <= KEYS | GROUPS


def test_none_is_a_key_itself() -> None:
    taken = KEYS | {key.rpartition(".")[2] for key in KEYS} | GROUPS
    assert not taken & SYNONYMS.keys()
    assert all(name == name.lower().replace("-", "_") for name in SYNONYMS)


@pytest.mark.parametrize("name", SYNONYMS)
def test_each_is_answered_with_its_keys(name: str) -> None:
    for spelling in (name, name.upper(), name.replace("_", "-")):
        wanted = f"unknown key {spelling}; did you mean {' or '.join(SYNONYMS[name])}?"
        assert str(unknown_key(spelling, key_types(Config), GROUPS)) == wanted


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("learning_rate", "optim.model_lr or optim.actor_lr or optim.critic_lr"),
        ("learnin_rate", "optim.model_lr or optim.actor_lr or optim.critic_lr"),
        ("agent.opt.lr", "optim.model_lr or optim.actor_lr or optim.critic_lr"),
        ("logdir", "run.root"),
        ("name", "run.name"),
        ("exp_name", "run.name"),
        ("batch_length", "train.batch_length"),
        ("seq_len", "train.batch_length"),
        ("batch_size", "train.batch_size"),
        ("total_timesteps", "train.steps"),
        ("run.steps", "train.steps"),
        ("seed", "train.seed"),
        ("gamma", "behavior.gamma"),
        ("discount", "behavior.gamma"),
        ("imag_horizon", "behavior.horizon"),
        ("env.amount", "env.num_envs"),
        ("replay.size", "replay.capacity"),
        ("train_ratio", "train.train_ratio"),
        ("platform", "parallel.devices"),
        ("entropy_coef", "behavior.entropy"),
        ("kl_free", "loss.free_nats"),
        ("model.lambda", "behavior.lambda_"),
    ],
)
def test_the_nearest_in_meaning_is_named(typed: str, meant: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config([f"{typed}=1"])
    assert str(caught.value) == f"unknown key {typed}; did you mean {meant}?"


def test_a_synonym_of_keys_that_a_command_lacks_is_not_offered() -> None:
    assert str(unknown_key("logdir", {"root": str, "seed": int})) == "unknown key logdir; top-level keys: root, seed"


@pytest.mark.parametrize("text", ["CartPole-v1", "dmc/walker_walk", "ale_py:ALE/Pong-v5", "my.module:Thing-v0", "mine:Thing"])
def test_an_environment_as_an_option(text: str) -> None:
    assert is_environment_id(text)
    with pytest.raises(UserError) as caught:
        load_config([f"env={text}"])
    assert str(caught.value).startswith(f"env={text}: no such option; did you mean env.id={text}? valid: acrobot, ")


def test_what_is_no_environment() -> None:
    assert not any(map(is_environment_id, ["cartpole_state", "cartpole-state", "small", ""]))
