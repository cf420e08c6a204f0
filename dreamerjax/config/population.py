"""Several runs of one configuration: which numbers tell the members of a population apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dreamerjax.config.flat import flatten, key_types, walk
from dreamerjax.config.keys import written
from dreamerjax.config.overrides import unknown_key
from dreamerjax.config.schema import Config, PopulationConfig
from dreamerjax.core.errors import UserError

SEED, NAME, ANCHOR = "train.seed", "run.name", "behavior.anchor"
BEHAVIOR = (
    "gamma",
    "lambda_",
    "entropy",
    "continuous_entropy",
    "pessimism",
    "anchor",
    "slow_rate",
    "slow_regularizer",
    "return_norm_rate",
)
# What the compiled update takes as a number: of all else that shapes it, the members of a population have the same.
TRACED = (
    *(entry.key for entry in walk(Config) if entry.key.startswith(("optim.", "loss.scales."))),
    "loss.free_nats",
    *(f"behavior.{name}" for name in BEHAVIOR),
)


def is_population(config: Config) -> bool:
    """Whether it asks for several runs."""
    return config.population != PopulationConfig()


def require_alone(config: Config) -> None:
    """Raise UserError where only one run can be trained and several are asked for."""
    if is_population(config):
        raise UserError("population.* asks for several runs, which python -m dreamerjax.train alone can train, without flags")


def settings(population: PopulationConfig) -> list[dict[str, Any]]:
    """Of each member the keys and values that tell it from the others.

    The values of `vary` are taken side by side, and all of them with every seed.

    Raises UserError: fewer than two members, or two that are equal; a key that may not differ; lists of unequal lengths.
    """
    varied = {_full(key): values for key, values in flatten(population.vary).items()}
    for key, values in varied.items():
        if not isinstance(values, Sequence) or isinstance(values, str):
            raise UserError(f"population.vary: {key} needs a list of values, one for each member, not {written(values)}")
    lengths = {key: len(values) for key, values in varied.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise UserError(f"population.vary: the lists must be equally long: {told}")
    if population.seeds and SEED in varied:
        raise UserError(f"population.vary: {SEED} stands in population.seeds already: leave one of them out")
    points = [dict(zip(varied, values, strict=True)) for values in zip(*varied.values(), strict=True)] if varied else [{}]
    seeds = [{SEED: seed} for seed in population.seeds] or [{}]
    members = [point | seed for seed in seeds for point in points]
    if len(members) < 2:
        raise UserError("population: there is one member; give two seeds or more (population.seeds=0,1), or train it alone")
    told_apart = [{key: value for key, value in member.items() if key != NAME} for member in members]
    for number, member in enumerate(told_apart):
        if member in told_apart[:number]:
            same = ", ".join(f"{key}={written(value)}" for key, value in member.items())
            raise UserError(f"population: two members are the same: {same}")
    return members


def require_one_program(configs: Sequence[Config], names: Sequence[str]) -> None:
    """Raise UserError unless one compiled update can train all of these; `names` says how each of them is called."""
    if not configs[0].jit:
        raise UserError("jit=false cannot train a population, whose update is one compiled program: debug a member alone")
    if configs[0].profile:
        raise UserError("profile=true cannot trace the members of a population apart: profile one alone")
    if any(config.run.wandb for config in configs):
        raise UserError("run.wandb=true cannot keep the members of a population apart: a process has one run there")
    if configs[0].parallel.processes > 1 or configs[0].parallel.coordinator is not None:
        raise UserError("a population is trained in one process: parallel.processes=1, and no parallel.coordinator")
    first = shared(configs[0])
    for config, name in zip(configs, names, strict=True):
        for key, value in shared(config).items():
            if value != first.get(key):
                if key == ANCHOR:
                    anchors = (configs[0].behavior.anchor, config.behavior.anchor)
                    told = f"it is {anchors[0]:g} in {names[0]} and {anchors[1]:g} in {name}"
                    raise UserError(f"{ANCHOR} must be above 0 in all members of a population or in none: {told}")
                raise UserError(
                    f"the members of a population may differ in {SEED}, run.* and traced numbers only: {key} is "
                    f"{written(first.get(key))} in {names[0]} and {written(value)} in {name}"
                )


def shared(config: Config) -> dict[str, Any]:
    """What all members of a population must have in common, by key; of `behavior.anchor`, whether there is one."""
    own = (SEED, "resume", *TRACED)
    common = {key: value for key, value in flatten(config).items() if key not in own and not key.startswith("run.")}
    return common | {ANCHOR: config.behavior.anchor > 0}


def _full(key: str) -> str:
    """The key as the schema has it. Raises UserError unless it is one that members may differ in."""
    key = f"{key}_" if f"{key}_" in key_types(Config) else key
    if key not in key_types(Config):
        raise unknown_key(f"population.vary: {key}", key_types(Config))
    if key not in (SEED, NAME, *TRACED):
        short = ", ".join(sorted(name for name in TRACED if not name.startswith(("optim.", "loss.scales."))))
        raise UserError(
            f"population.vary: {key} is no traced number, so members cannot differ in it; those are optim.*, loss.scales.*, "
            f"{short}; and {SEED}"
        )
    return key
