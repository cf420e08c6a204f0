"""Which configuration values make sense: each number in the range that its key states, and the conditions between keys."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from dreamerjax.config.flat import walk
from dreamerjax.config.schema import BinSpacing, Config, Mode
from dreamerjax.core.errors import UserError

LARGEST = 3.4e38  # float32
IMAGE_UNIT = 16  # the convolutions halve an image four times
METRICS = (
    "eval/greedy/",
    "eval/sampled/",
    "episode/",
    "baseline/",
    "loss/",
    "model/",
    "actor/",
    "dream/",
    "critic/",
    "wm/surprise/",
    "gap/",
    "explore/",
    "pacing/",
    "gradient_norm/",
)


def unknown_metric(name: str) -> str:
    """What is wrong with the name of a metric; empty if it can be one."""
    if any(name.startswith(family) and name != family for family in METRICS):
        return ""
    return f"is no known metric: {name}; valid (see docs/metrics.md): {', '.join(f'{family}...' for family in METRICS)}"


def _architecture(config: Config) -> Iterator[str]:
    model = config.model
    if model.deter % model.blocks:
        near = model.deter - model.deter % model.blocks
        choices = f"{near} or {near + model.blocks}" if near else f"{model.blocks}"
        yield f"model.deter must be divisible by model.blocks ({model.blocks}): {choices}, not {model.deter}"
    if model.min_std >= model.max_std:
        yield f"model.min_std ({model.min_std:g}) must be below model.max_std ({model.max_std:g})"
    bins = model.bins
    if bins.low >= bins.high:
        yield f"model.bins.low ({bins.low:g}) must be below model.bins.high ({bins.high:g})"
    if bins.spacing is BinSpacing.symexp and bins.low == -bins.high and bins.count % 2 == 0:
        yield f"model.bins.count must be odd for a symmetric range (0 is a bin): {bins.count + 1}, not {bins.count}"


def _environment(config: Config) -> Iterator[str]:
    for entry in walk(config.env.kwargs, "env.kwargs."):
        if isinstance(entry.value, float) and not math.isfinite(entry.value):
            yield f"{entry.key} must be finite, not {entry.value}"


def _images(config: Config) -> Iterator[str]:
    size, crop = config.env.image_size, config.env.crop
    if len(size) != 2 or any(side < IMAGE_UNIT or side % IMAGE_UNIT for side in size):
        yield f"env.image_size must be [height, width], both multiples of {IMAGE_UNIT}, not {list(size)}"
    if len(crop) != 4 or not (0 <= crop[0] < crop[1] <= 1 and 0 <= crop[2] < crop[3] <= 1):
        yield (
            "env.crop must be [top, bottom, left, right] with 0 <= top < bottom <= 1 and 0 <= left < right <= 1, "
            f"not {list(crop)}"
        )


def _data(config: Config) -> Iterator[str]:
    train = config.train
    steps = train.batch_size * train.batch_length
    if config.behavior.starts > steps:
        yield (
            f"behavior.starts must be at most train.batch_size * train.batch_length = {steps} (0: all of them), "
            f"not {config.behavior.starts}"
        )
    if config.behavior.starts % train.batch_size:
        near = max(train.batch_size, config.behavior.starts // train.batch_size * train.batch_size)
        yield (
            f"behavior.starts must be divisible by train.batch_size ({train.batch_size}), so that each sequence gives as "
            f"many: {near}, not {config.behavior.starts}"
        )
    smallest = config.env.num_envs * (train.batch_length + 1)
    if config.replay.capacity < smallest:
        yield (
            f"replay.capacity must be at least env.num_envs * (train.batch_length + 1) = {smallest}, "
            f"not {config.replay.capacity}"
        )
    devices = config.parallel.devices
    if devices and train.batch_size % devices:
        yield f"train.batch_size ({train.batch_size}) must be divisible by parallel.devices ({devices})"


def _behavior(config: Config) -> Iterator[str]:
    behavior = config.behavior
    if behavior.pessimism and config.model.ensemble == 1:
        yield f"behavior.pessimism={behavior.pessimism:g} needs several heads that can disagree: model.ensemble=4, not 1"
    if behavior.anchor and not config.optim.average_updates:
        yield f"behavior.anchor={behavior.anchor:g} needs an averaged policy to stay near: optim.average_updates=1000, not 0"


def _modes(config: Config) -> Iterator[str]:
    mode = config.mode
    if mode is Mode.dreamer and config.from_ is None:
        yield "mode=dreamer needs a run whose world model it uses: from=runs/<id>"
    if mode is Mode.full and config.from_ is not None:
        yield f"from={config.from_} needs mode=dreamer (its world model) or mode=bootstrap (its policy)"
    for key in ("freeze_world_model", "reset_actor_critic"):
        if getattr(config, key) and mode is not Mode.dreamer:
            yield f"{key}=true needs mode=dreamer, not mode={mode.name}"


def _pacing(config: Config) -> Iterator[str]:
    pacing, calls = config.pacing, config.train.updates_per_call
    if pacing.adaptive_ratio and pacing.wm_ac_ratio > pacing.wm_ac_ratio_max:
        yield f"pacing.wm_ac_ratio ({pacing.wm_ac_ratio}) must be at most pacing.wm_ac_ratio_max ({pacing.wm_ac_ratio_max})"
    if 0 < pacing.camp_ratio <= 1:
        yield f"pacing.camp_ratio must be above 1 (a loss over its average), or 0 for no camps, not {pacing.camp_ratio:g}"
    if config.train.updates % calls:
        near = -(-config.train.updates // calls) * calls
        yield f"train.updates must be divisible by train.updates_per_call ({calls}): {near}, not {config.train.updates}"
    by_update = {
        "pacing.wm_ac_ratio": pacing.wm_ac_ratio > 1,
        "pacing.adaptive_ratio": pacing.adaptive_ratio,
        "pacing.camp_ratio": pacing.camp_ratio > 0,
    }
    for key, used in by_update.items():
        if used and calls > 1:
            yield f"{key} decides update by update and needs train.updates_per_call=1, not {calls}"


def _names(config: Config) -> Iterator[str]:
    if unknown := unknown_metric(config.run.primary_metric):
        yield f"run.primary_metric {unknown}"
    for key, value in (("env.id", config.env.id), ("run.root", config.run.root)):
        if not value.strip():
            yield f"{key} must not be empty"
    if not re.fullmatch(r"([\w-][\w.-]*)?", config.run.name):
        yield f"run.name must be letters, digits, '_', '-' or '.', since it names a directory, not {config.run.name!r}"


def check_ranges(section: Any) -> None:
    """Raise UserError for the first number of a (nested) dataclass that is outside the range which its key states."""
    for entry in walk(section):
        if entry.range is None or entry.value is None:
            continue
        if entry.value not in entry.range:
            raise UserError(f"{entry.key} must be {entry.range}, not {entry.value:.10g}")
        if abs(entry.value) > LARGEST:
            raise UserError(f"{entry.key} must be a number that float32 can hold, not {entry.value:.10g}")


def validate(config: Config) -> None:
    """Check every number's range and the conditions between keys.

    Raises UserError: the first value that is impossible, with what would be valid.
    """
    check_ranges(config)
    for check in (_architecture, _environment, _images, _data, _behavior, _modes, _pacing, _names):
        for message in check(config):
            raise UserError(message)
