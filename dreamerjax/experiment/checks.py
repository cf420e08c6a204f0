"""What makes an experiment one that can answer its question: checked before anything runs."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from typing import Any

from dreamerjax.config.composition import load_config
from dreamerjax.config.flat import flatten
from dreamerjax.config.schema import Config
from dreamerjax.config.validation import unknown_metric
from dreamerjax.core.errors import UserError
from dreamerjax.core.formatting import differences
from dreamerjax.experiment.design import Arm, Budget, Experiment, Gate, Statistic

FEWEST_SEEDS = 3
BUDGET_KEYS = ("train.steps", "train.updates", "train.stop_at_return")
RUNNER_KEYS = ("train.seed", "run.root", "run.name", "run.hypothesis", "run.primary_metric", "resume")
_NO_CHANGE = re.compile(r"run\..*|resume")


def composed(experiment: Experiment, arm: Arm) -> Config:
    """The configuration of an arm, without its seed and its place. Not to be changed: it is shared."""
    return _compose((*experiment.common, *arm.overrides))


@lru_cache(maxsize=1024)
def _compose(overrides: tuple[str, ...]) -> Config:
    return load_config(overrides)


def check_experiment(experiment: Experiment, file: Path) -> None:
    """Refuse what cannot answer the question. Raises UserError: one line with the file, the key and what would be valid."""
    try:
        _check_numbers(experiment)
        _check_metric(experiment)
        settings = {arm: _settings(experiment, arm) for arm in experiment.arms}
        for arm, setting in settings.items():
            _check_setting(experiment, arm, setting)
        for one, other in combinations(settings, 2):
            keys = [key for key in differences(settings[one], settings[other]) if not _NO_CHANGE.fullmatch(key)]
            _check_pair(experiment, one, other, keys)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def _check_numbers(experiment: Experiment) -> None:
    seeds, names = experiment.seeds, [arm.name for arm in experiment.arms]
    if len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise UserError(f"seeds must be different numbers of at least 0, not {list(seeds)}")
    if len(seeds) < FEWEST_SEEDS and not experiment.pilot:
        raise UserError(f"seeds must be at least {FEWEST_SEEDS}, not {len(seeds)}; fewer need pilot: true")
    if len(names) < 2:
        raise UserError(f"arms must be at least 2, not {len(names)}: a hypothesis compares")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"sweep makes two arms of the name {twice[0]}: write their values in a way that tells them apart")
    if not 0.5 <= experiment.rule.confidence < 1:
        raise UserError(f"rule.confidence must be at least 0.5 and below 1, not {experiment.rule.confidence:g}")
    if experiment.hypothesis.by < 0:
        raise UserError(f"hypothesis.by must be at least 0, not {experiment.hypothesis.by:g}: `higher` says the direction")


def _check_metric(experiment: Experiment) -> None:
    metric = experiment.metric
    if metric.at <= 0:
        raise UserError(f"metric.at must be above 0, not {metric.at}")
    if not 0 <= metric.start < metric.at:
        raise UserError(f"metric.start must be at least 0 and below metric.at ({metric.at}), not {metric.start}")
    if (metric.threshold is not None) != (metric.statistic in (Statistic.time_to, Statistic.kept)):
        needs = "is missing" if metric.threshold is None else f"has no meaning ({metric.threshold:g})"
        raise UserError(f"metric.threshold {needs} with statistic {metric.statistic.name}; time_to and kept have one, no other")
    if unknown := unknown_metric(metric.name):
        raise UserError(f"metric.name {unknown}")


def _settings(experiment: Experiment, arm: Arm) -> dict[str, Any]:
    """What an arm is: its configuration and its script, by key."""
    for override in (*experiment.common, *arm.overrides):
        key = override.lstrip("+~").partition("=")[0]
        if key in RUNNER_KEYS or override.startswith("-"):
            raise UserError(f"arm {arm.name}: {override} cannot be an override here: each run is given its own")
    if arm.script is not None and not (experiment.directory / arm.script).is_file():
        raise UserError(f"arm {arm.name}: script {arm.script} does not exist in {experiment.directory}")
    try:
        return {**flatten(composed(experiment, arm)), "script": arm.script}
    except UserError as error:
        raise UserError(f"arm {arm.name}: {error}") from error


def _check_setting(experiment: Experiment, arm: Arm, setting: dict[str, Any]) -> None:
    name, metric, every = arm.name, experiment.metric, setting["train.eval_every"]
    if setting["train.stop_at_return"] is not None:
        raise UserError(f"arm {name}: train.stop_at_return must be null: a run that stops early has another budget")
    if metric.budget is Budget.env_steps and setting["train.steps"] < metric.at:
        raise UserError(f"arm {name}: train.steps ({setting['train.steps']}) must be at least metric.at ({metric.at})")
    if not metric.name.startswith("eval/"):
        return
    if every == 0:
        raise UserError(f"arm {name}: train.eval_every is 0, so there is no {metric.name}: it must be at least 1")
    if metric.budget is Budget.env_steps and every > metric.at:
        raise UserError(f"arm {name}: train.eval_every ({every}) must be at most metric.at ({metric.at})")


def _written(one: Arm, other: Arm) -> set[str]:
    """The keys and groups whose values two arms write differently: another size is one change, however many keys it sets."""
    pairs = {tuple(override.lstrip("+").partition("=")[::2]) for override in one.overrides}
    others = {tuple(override.lstrip("+").partition("=")[::2]) for override in other.overrides}
    return {key for key, _ in pairs ^ others}


def _check_pair(experiment: Experiment, one: Arm, other: Arm, keys: list[str]) -> None:
    """Two arms, which differ in `keys`: one model family, one budget and, if one of them is a control, one change."""
    arms, names = f"arms {one.name} and {other.name}", {one.name, other.name}
    if not keys:
        raise UserError(f"{arms} are the same")
    if unequal := [key for key in keys if key in BUDGET_KEYS]:
        raise UserError(f"{arms} have unequal budgets: {', '.join(unequal)} must be the same in all arms")
    family = [key for key in keys if re.match(r"model\.|env\.(id$|kwargs\b|action_repeat$)", key)]
    if family and experiment.gate is not Gate.architecture:
        raise UserError(f"{arms} are different model families: {_few(family)}; that needs gate: architecture")
    compared = names & set(experiment.hypothesis.contrast.control or names)  # two treatments may each change something else
    if compared and len(keys) > 1 and _written(one, other) != {"size"} and not experiment.factorial:
        raise UserError(f"{arms} differ in {len(keys)} keys: {_few(keys)}; change one, or say factorial: true")


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
