"""What makes two runs one family."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dreamerjax.config.schema import (
    BinsConfig,
    BinSpacing,
    ComputeDtype,
    Config,
    EnvConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
)
from dreamerjax.core.errors import UserError
from dreamerjax.core.types import ActionSpec, EnvSpec, ObservationSpec
from dreamerjax.storage.compatibility import fingerprint, require_same

SPEC = EnvSpec({"state": ObservationSpec((4,)), "kind": ObservationSpec((1,), (3,))}, ActionSpec(sizes=(2,)))
BASE = fingerprint(Config(), SPEC)


def test_survives_json() -> None:
    assert json.loads(json.dumps(BASE)) == BASE
    assert BASE["env.id"] == "CartPole-v1"
    assert BASE["model.bins.spacing"] == "symexp"
    assert BASE["observations.kind.classes"] == [3]


def test_a_key_that_came_later_had_its_default() -> None:
    before = {key: value for key, value in BASE.items() if key != "model.ensemble"}
    require_same(before, BASE, "a run")
    with pytest.raises(UserError, match=r"model\.ensemble is 1 there and 4 here"):
        require_same(before, fingerprint(Config(model=ModelConfig(ensemble=4)), SPEC), "a run")


def test_training_dynamics_stay_out() -> None:
    other = Config(train=TrainConfig(seed=5, batch_size=3), optim=OptimConfig(model_lr=1.0), env=EnvConfig(num_envs=9))
    assert fingerprint(other, SPEC) == BASE


def test_what_products_are_computed_in_stays_out() -> None:
    """The parameters are float32 in any case, so a checkpoint of one is one of the other."""
    assert fingerprint(Config(model=ModelConfig(compute_dtype=ComputeDtype.bfloat16)), SPEC) == BASE


@pytest.mark.parametrize(
    ("config", "spec", "key"),
    [
        (Config(model=ModelConfig(deter=32)), SPEC, "model.deter"),
        (Config(model=ModelConfig(bins=BinsConfig(spacing=BinSpacing.symlog))), SPEC, "model.bins.spacing"),
        (Config(env=EnvConfig(kwargs={"sutton_barto_reward": True})), SPEC, "env.kwargs.sutton_barto_reward"),
        (Config(env=EnvConfig(action_repeat=2)), SPEC, "env.action_repeat"),
        (Config(), replace(SPEC, action=ActionSpec(sizes=(3,))), "action.sizes"),
        (Config(), replace(SPEC, observations={"state": ObservationSpec((4,))}), "observations.kind.classes"),
    ],
)
def test_what_fixes_the_model_is_named(config: Config, spec: EnvSpec, key: str) -> None:
    with pytest.raises(UserError, match=key.replace(".", r"\.")) as caught:
        require_same(BASE, fingerprint(config, spec), "runs/one")
    assert str(caught.value).startswith("runs/one is of another model family: ")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_one_family() -> None:
    require_same(BASE, dict(BASE), "runs/one")
