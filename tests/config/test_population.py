"""Members of a population: from the command line to configurations, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from dreamerjax.agent.state import hyper_from_config
from dreamerjax.config.cli import main
from dreamerjax.config.composition import config_from_settings, config_to_yaml, load_config, load_members
from dreamerjax.config.flat import flatten, walk
from dreamerjax.config.population import TRACED, require_one_program
from dreamerjax.config.schema import Config
from dreamerjax.core.errors import UserError

LEARNING_RATES = "population.vary.optim.actor_lr=[1e-4,3e-4]"


def members(*overrides: str) -> list[tuple[int, float]]:
    return [(config.train.seed, config.optim.actor_lr) for config in load_members(overrides)]


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        compose(overrides)
    return str(caught.value)


def compose(overrides: Sequence[str]) -> None:
    configs = load_members(overrides)
    require_one_program(configs, [config.run.name for config in configs])


def test_what_may_vary_is_what_the_update_traces() -> None:
    """Each number of the configuration is changed in turn: the traced ones, and they alone, change what the update takes."""
    config = Config()
    before, moved = jax.tree.leaves(hyper_from_config(config)), set()
    for entry in walk(config):
        if isinstance(entry.value, int | float) and not isinstance(entry.value, bool):
            section, _, name = entry.key.rpartition(".")
            owner: Any = config
            for part in filter(None, section.split(".")):
                owner = getattr(owner, part)
            setattr(owner, name, entry.value * 0.5 + 1)
            if not np.array_equal(before, jax.tree.leaves(hyper_from_config(config))):
                moved.add(entry.key)
            setattr(owner, name, entry.value)
    assert moved == set(TRACED)


def test_seeds_as_a_list_and_as_hydra_writes_it() -> None:
    base = Config().optim.actor_lr
    for written in ("0,3,1", "[0,3,1]"):
        assert members(f"population.seeds={written}") == [(0, base), (3, base), (1, base)]


@pytest.mark.parametrize("vary", [LEARNING_RATES, "population.vary={optim.actor_lr: [1e-4, 3e-4]}"])
def test_every_seed_with_every_setting(vary: str) -> None:
    assert members("population.seeds=5,6", vary) == [(5, 1e-4), (5, 3e-4), (6, 1e-4), (6, 3e-4)]
    assert members("train.seed=2", vary) == [(2, 1e-4), (2, 3e-4)]


def test_lists_stand_side_by_side() -> None:
    found = load_members([LEARNING_RATES, "population.vary.behavior.lambda=[0.9,0.8]", "population.vary.optim.warmup=[1e2,5]"])
    assert [(c.optim.actor_lr, c.behavior.lambda_, c.optim.warmup) for c in found] == [(1e-4, 0.9, 100), (3e-4, 0.8, 5)]


def test_a_member_is_configured_like_a_run_alone() -> None:
    _, member = load_members(["env.num_envs=2", "population.seeds=0,1"])
    assert member.run.name == "CartPole-v1_seed-1"
    alone = load_config(["env.num_envs=2", "train.seed=1", "run.name=CartPole-v1_seed-1"])
    assert config_to_yaml(member) == config_to_yaml(alone)


def test_names_tell_members_apart_or_are_given() -> None:
    assert [c.run.name for c in load_members(["run.name=x", "population.seeds=1,2", LEARNING_RATES])] == [
        f"x_actor_lr-{rate}_seed-{seed}" for seed in (1, 2) for rate in ("0.0001", "0.0003")
    ]
    given = load_members(["population.vary={train.seed:[1,2],run.name:[a,b]}"])
    assert [(c.train.seed, c.run.name) for c in given] == [(1, "a"), (2, "b")]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["population.seeds=3"], "population.seeds must be a list of whole numbers, not 3"),
        (["population.seeds=[3]"], "there is one member"),
        (["population.seeds=0,1,0"], "two members are the same: train.seed=0"),
        (["population.seeds=0,x"], "population.seeds must be a list of whole numbers"),
        (["population.seeds=0,-1"], "train.seed must be at least 0 and at most 2147483647, not -1"),
        (["population.vary.optim.actor_lr=[1e-4,1e-4]"], "two members are the same: optim.actor_lr=0.0001"),
        (["population.vary.optim.actor_lr=1e-4"], "optim.actor_lr needs a list of values, one for each member, not 0.0001"),
        (["population.vary.optim.actor_lr=[1e-4,-1]"], "optim.actor_lr must be at least 0, not -1"),
        (["population.vary.optim.actor_lr=[1e-4,x]"], "optim.actor_lr must be a number, not x"),
        ([LEARNING_RATES, "population.vary.optim.agc=[1,2,3]"], "equally long: optim.actor_lr has 2, optim.agc has 3"),
        (["population.vary.train.batch_size=[8,16]"], "train.batch_size is no traced number"),
        (
            ["population.vary.optim.lr=[8,16]"],
            "unknown key population.vary: optim.lr; did you mean optim.model_lr or optim.actor_lr",
        ),
        (["population.seeds=0,1", "population.vary.train.seed=[2,3]"], "train.seed stands in population.seeds already"),
        (["population.seeds=0,1", "jit=false"], "jit=false cannot train a population"),
        (["population.seeds=0,1", "profile=true"], "profile=true cannot trace the members"),
        (["population.seeds=0,1", "run.wandb=true"], "run.wandb=true cannot keep the members"),
        (
            ["optim.average_updates=10", "population.vary.behavior.anchor=[0,0.1]"],
            "behavior.anchor must be above 0 in all members of a population or in none: it is 0 in CartPole-v1_anchor-0 and",
        ),
        (["resume=runs/a,runs/a"], "runs/a stands there twice"),
    ],
)
def test_what_is_no_population_is_refused_in_one_line(overrides: list[str], words: str) -> None:
    assert words in refusal(*overrides)


@pytest.mark.parametrize("flags", [["-m", "train.batch_size=8,16"], ["--cfg", "job"]])
def test_flags_do_not_go_with_a_population(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(lambda config: 0, ["population.seeds=0,1", *flags], together=lambda configs: []) == 2
    assert capsys.readouterr().err == (
        "error: population.seeds=0,1 cannot be combined with flags: a sweep trains its runs one after the other\n"
    )


def test_what_trains_one_run_refuses_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(lambda config: 0, ["population.seeds=0,1"]) == 2
    assert capsys.readouterr().err.startswith(
        "error: population.* asks for several runs, which python -m dreamerjax.train alone"
    )


def test_a_run_that_goes_on_takes_no_new_members(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(config_to_yaml(Config()))
    (run / "meta.json").write_text('{"kind": "dreamerjax run"}')
    assert refusal(f"resume={run}", "population.seeds=0,1") == (
        "population.seeds= cannot be combined with resume=: it says how a run begins"
    )
    other = tmp_path / "other"
    other.mkdir()
    (other / "meta.json").write_text('{"kind": "dreamerjax run"}')
    (other / "config.yaml").write_text(config_to_yaml(config_from_settings({"train.batch_size": 4})))
    both = load_members([f"resume={run},{other}", "train.steps=7000", "optim.actor_lr=1e-4"])
    assert [(c.resume, c.train.steps, c.optim.actor_lr) for c in both] == [(str(run), 7000, 1e-4), (str(other), 7000, 1e-4)]
    with pytest.raises(UserError, match=r"train.batch_size is 8 in run and 4 in other"):
        require_one_program(both, ["run", "other"])


def test_members_have_no_population_of_their_own() -> None:
    for config in load_members(["population.seeds=0,1"]):
        assert {key: value for key, value in flatten(config).items() if key.startswith("population")} == {
            "population.seeds": []
        }
