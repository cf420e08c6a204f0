"""Which configuration values make sense: a range for every number, and the conditions that tie keys together."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from dreamerjax.config.schema import BinSpacing, Config, Mode
from dreamerjax.core.errors import UserError


@dataclass(frozen=True)
class Range:
    """An interval of finite numbers; `open_low` and `open_high` exclude an end."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return math.isfinite(value) and above and below

    def __str__(self) -> str:
        low = f"{'above' if self.open_low else 'at least'} {self.low:.10g}" if math.isfinite(self.low) else ""
        high = f"{'below' if self.open_high else 'at most'} {self.high:.10g}" if math.isfinite(self.high) else ""
        return " and ".join(part for part in (low, high) if part) or "a finite number"


_COUNT = Range(1)
_NOT_NEGATIVE = Range(0)
_POSITIVE = Range(0, open_low=True)
_PROBABILITY = Range(0, 1)
_PROPORTION = Range(0, 1, open_low=True)
_BELOW_ONE = Range(0, 1, open_high=True)
_SYMLOG_UNITS = Range(-80, 80)  # symexp of more overflows float32

IMAGE_UNIT = 16  # the convolutions halve an image four times

RANGES: dict[str, Range] = {
    "env.num_envs": _COUNT,
    "env.action_repeat": _COUNT,
    "env.time_limit": _NOT_NEGATIVE,
    "env.frame_stack": _COUNT,
    "model.deter": _COUNT,
    "model.hidden": _COUNT,
    "model.groups": _COUNT,
    "model.classes": Range(2),
    "model.units": _COUNT,
    "model.cnn_depth": _COUNT,
    "model.blocks": _COUNT,
    "model.unimix": _BELOW_ONE,
    "model.encoder_layers": _COUNT,
    "model.decoder_layers": _COUNT,
    "model.prior_layers": _COUNT,
    "model.posterior_layers": _COUNT,
    "model.reward_layers": _COUNT,
    "model.continue_layers": _COUNT,
    "model.actor_layers": _COUNT,
    "model.critic_layers": _COUNT,
    "model.min_std": _POSITIVE,
    "model.max_std": _POSITIVE,
    "model.bins.count": Range(3),
    "model.bins.low": _SYMLOG_UNITS,
    "model.bins.high": _SYMLOG_UNITS,
    "train.seed": Range(0, 2**31 - 1),
    "train.steps": _COUNT,
    "train.updates": _NOT_NEGATIVE,
    "train.train_ratio": _POSITIVE,
    "train.batch_size": _COUNT,
    "train.batch_length": Range(2),
    "train.updates_per_call": _COUNT,
    "train.random_steps": _NOT_NEGATIVE,
    "train.eval_every": _NOT_NEGATIVE,
    "train.eval_episodes": _COUNT,
    "train.stop_at_return": Range(),
    "train.checkpoint_every": _COUNT,
    "train.log_every": _COUNT,
    "loss.free_nats": _NOT_NEGATIVE,
    "loss.scales.decoder": _NOT_NEGATIVE,
    "loss.scales.reward": _NOT_NEGATIVE,
    "loss.scales.continue_": _NOT_NEGATIVE,
    "loss.scales.dynamics": _NOT_NEGATIVE,
    "loss.scales.representation": _NOT_NEGATIVE,
    "loss.scales.actor": _NOT_NEGATIVE,
    "loss.scales.critic": _NOT_NEGATIVE,
    "loss.scales.replay_critic": _NOT_NEGATIVE,
    "behavior.horizon": _COUNT,
    "behavior.starts": _NOT_NEGATIVE,
    "behavior.gamma": _PROPORTION,
    "behavior.lambda_": _PROBABILITY,
    "behavior.entropy": _NOT_NEGATIVE,
    "behavior.entropy_end": _NOT_NEGATIVE,
    "behavior.entropy_updates": _COUNT,
    "behavior.slow_rate": _PROPORTION,
    "behavior.slow_regularizer": _NOT_NEGATIVE,
    "behavior.return_norm_rate": _PROPORTION,
    "optim.model_lr": _NOT_NEGATIVE,
    "optim.actor_lr": _NOT_NEGATIVE,
    "optim.critic_lr": _NOT_NEGATIVE,
    "optim.warmup": _NOT_NEGATIVE,
    "optim.agc": _POSITIVE,
    "optim.beta1": _BELOW_ONE,
    "optim.beta2": _BELOW_ONE,
    "optim.eps": _POSITIVE,
    "optim.average_updates": _NOT_NEGATIVE,
    "pacing.model_warmup": _NOT_NEGATIVE,
    "pacing.wm_ac_ratio": _COUNT,
    "pacing.wm_ac_ratio_max": _COUNT,
    "pacing.adaptive_threshold": _NOT_NEGATIVE,
    "pacing.ac_throttle": _NOT_NEGATIVE,
    "pacing.surprise_window": _COUNT,
    "pacing.surprise_sharpness": _NOT_NEGATIVE,
    "pacing.focus_threshold": _NOT_NEGATIVE,
    "pacing.focus_release": _PROBABILITY,
    "pacing.focus_max": _COUNT,
    "pacing.camp_ratio": _NOT_NEGATIVE,
    "pacing.camp_logs": _COUNT,
    "pacing.camp_updates": _COUNT,
    "pacing.camp_extra": _NOT_NEGATIVE,
    "pacing.kl_spike_factor": Range(1, open_low=True),
    "pacing.kl_pause": _COUNT,
    "pacing.freeze_at_return": Range(),
    "monitor.surprise_beta": _BELOW_ONE,
    "monitor.dreams_every": _NOT_NEGATIVE,
    "replay.capacity": _COUNT,
    "parallel.devices": _NOT_NEGATIVE,
    "run.checkpoints_to_keep": _COUNT,
    "profile_start": _NOT_NEGATIVE,
    "profile_updates": _COUNT,
}


def numbers(section: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Each number in a (nested) dataclass with its dotted key; booleans are no numbers."""
    for item in fields(section):
        value = getattr(section, item.name)
        if is_dataclass(value):
            yield from numbers(value, f"{prefix}{item.name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + item.name, value


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
    for key, value in (("env.id", config.env.id), ("run.root", config.run.root)):
        if not value.strip():
            yield f"{key} must not be empty"
    if not re.fullmatch(r"[\w-][\w.-]*", config.run.name):
        yield f"run.name must be letters, digits, '_', '-' or '.', since it names a directory, not {config.run.name!r}"


def validate(config: Config) -> None:
    """Check every number's range and the conditions between keys.

    Raises:
        UserError: the first value that is impossible, with what would be valid.
    """
    for key, value in numbers(config):
        if key in RANGES and value not in RANGES[key]:
            raise UserError(f"{key} must be {RANGES[key]}, not {value:.10g}")
    for check in (_architecture, _images, _data, _modes, _pacing, _names):
        for message in check(config):
            raise UserError(message)
