"""What the next iteration of the loop does: pure functions of step counts, metrics and the configuration.

`plan` says what the next update trains; `observe` takes over what it measured. Their state is part of every checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from dreamerjax.agent.state import Trains
from dreamerjax.config.schema import BehaviorConfig, Config, Mode, PacingConfig, Schedule, SpikeAction, TrainConfig

TOTAL = "wm/surprise/total_log_ratio"
KL = "wm/surprise/kl_dyn_log_ratio"
READY = "wm/surprise/ready"


@dataclass(frozen=True)
class PacingState:
    """What pacing remembers between two updates."""

    behavior_updates: int = 0  # of actor and critic
    model_updates: int = 0
    extra_updates: int = 0  # in camps: not owed by the train ratio
    since_behavior: int = 0  # updates of the world model since the last one of actor and critic
    behavior_step: int = 0  # environment step of the last update of actor and critic
    surprises: tuple[float, ...] = ()  # of the last updates
    kl_surprises: tuple[float, ...] = ()
    ratio: int = 0  # the adaptive ratio; 0: not yet begun
    log_surprises: tuple[float, ...] = ()  # since the last log
    surprised_logs: int = 0  # in a row
    focus: int = 0  # updates of the present focus so far; 0: none
    focus_spent: bool = False  # the last focus lasted to its maximum, and the surprise has not been below the release since
    camp: int = 0  # updates left in the training camp
    camp_turn: int = 0  # extra updates left before the next one that the train ratio owes
    kl_pause: int = 0  # updates left of the pause after a KL spike
    stop: bool = False  # a KL spike ends the run


@dataclass(frozen=True)
class Plan:
    """What the next update trains, and how much."""

    trains: Trains
    lr_scale: float  # of actor and critic
    entropy: float  # coefficient
    ratio: int  # world-model updates per update of actor and critic
    extra: bool  # a camp's update, on top of what the train ratio owes
    focus: bool
    camp: bool
    kl_pause: bool

    def metrics(self) -> dict[str, float]:
        """Everything decided, by metric name."""
        values = {
            "model": Trains.behavior is not self.trains,
            "behavior": Trains.model is not self.trains,
            "lr_scale": self.lr_scale,
            "entropy": self.entropy,
            "ratio": self.ratio,
            "focus": self.focus,
            "camp": self.camp,
            "kl_pause": self.kl_pause,
        }
        return {f"pacing/{name}": float(value) for name, value in values.items()}


def plan(config: Config, state: PacingState, env_steps: int, best_return: float | None) -> Plan:
    """What the next update trains, from what is known now. `best_return` is that of the greedy evaluations so far."""
    pacing = config.pacing
    ratio = (state.ratio or pacing.wm_ac_ratio_max) if pacing.adaptive_ratio else pacing.wm_ac_ratio
    gates = {"focus": state.focus > 0, "camp": state.camp > 0, "kl_pause": state.kl_pause > 0}
    waits = (
        state.model_updates < pacing.model_warmup
        or state.since_behavior + 1 < ratio
        or (state.behavior_updates > 0 and env_steps - state.behavior_step < pacing.ac_throttle)
    )
    solved = pacing.freeze_at_return is not None and best_return is not None and best_return >= pacing.freeze_at_return
    if config.mode is Mode.bootstrap:
        trains = Trains.model
    elif config.freeze_world_model or solved:
        trains = Trains.behavior
    else:
        trains = Trains.model if waits or any(gates.values()) else Trains.everything
    return Plan(
        trains=trains,
        lr_scale=lr_scale(pacing, state),
        entropy=entropy_coefficient(config.behavior, state.behavior_updates),
        ratio=ratio,
        extra=state.camp_turn > 0,
        **gates,
    )


def observe(
    config: Config, state: PacingState, made: Plan, metrics: Mapping[str, float], *, env_steps: int, updates: int
) -> PacingState:
    """Take over one update that was made as planned at `env_steps`, the `updates`-th: its surprise moves the gates.

    `metrics` must hold the surprise of the update (`diagnostics.surprise`); until that is ready no gate moves.
    """
    pacing = config.pacing
    trained_behavior = made.trains is not Trains.model
    state = replace(
        state,
        model_updates=state.model_updates + (made.trains is not Trains.behavior),
        behavior_updates=state.behavior_updates + trained_behavior,
        since_behavior=0 if trained_behavior else state.since_behavior + 1,
        behavior_step=env_steps if trained_behavior else state.behavior_step,
        extra_updates=state.extra_updates + made.extra,
        camp=max(0, state.camp - 1),
        kl_pause=max(0, state.kl_pause - 1),
        ratio=state.ratio or (pacing.wm_ac_ratio_max if pacing.adaptive_ratio else 0),
    )
    turn = state.camp_turn - 1 if made.extra else pacing.camp_extra  # extra updates before the next one that is owed
    state = replace(state, camp_turn=turn if state.camp else 0)
    if not metrics[READY]:
        return state
    state = replace(
        state,
        surprises=(*state.surprises, metrics[TOTAL])[-pacing.surprise_window :],
        kl_surprises=(*state.kl_surprises, metrics[KL])[-pacing.surprise_window :],
        log_surprises=(*state.log_surprises, metrics[TOTAL]),
    )
    if updates % config.train.log_every == 0:
        state = _at_log(pacing, state)
    return _kl_spike(pacing, _focus(pacing, state))


def surprise(state: PacingState) -> float:
    """Mean log-ratio of the last updates; 0 before there are any."""
    return sum(state.surprises) / len(state.surprises) if state.surprises else 0.0


def lr_scale(config: PacingConfig, state: PacingState) -> float:
    """What the rates of actor and critic are multiplied by: exp(-sharpness max(0, surprise)), or 1 if that is off."""
    return math.exp(-config.surprise_sharpness * max(0.0, surprise(state))) if config.surprise_scale_ac_lr else 1.0


def entropy_coefficient(config: BehaviorConfig, behavior_updates: int) -> float:
    """The entropy coefficient after so many updates of the actor."""
    progress = min(1.0, behavior_updates / config.entropy_updates)
    share = {
        Schedule.constant: 0.0,
        Schedule.linear: progress,
        Schedule.cosine: (1.0 - math.cos(math.pi * progress)) / 2,
    }[config.entropy_schedule]
    return (1.0 - share) * config.entropy + share * config.entropy_end


def _focus(config: PacingConfig, state: PacingState) -> PacingState:
    """World-model focus: from the threshold until the release, at most `focus_max` updates (findings_of_the_log.md#01-18b)."""
    if not config.focus_threshold:
        return state
    level = surprise(state)
    if level < config.focus_threshold * config.focus_release:
        return replace(state, focus=0, focus_spent=False)
    if state.focus >= config.focus_max:
        return replace(state, focus=0, focus_spent=True)
    if state.focus or (level > config.focus_threshold and not state.focus_spent):
        return replace(state, focus=state.focus + 1)
    return state


def _at_log(config: PacingConfig, state: PacingState) -> PacingState:
    """Once per log: the adaptive ratio takes a step, and a camp begins after enough surprised logs in a row."""
    level = sum(state.log_surprises) / len(state.log_surprises)
    state = replace(state, log_surprises=())
    if config.adaptive_ratio:
        step = (level > config.adaptive_threshold) - (level < 0)
        state = replace(state, ratio=min(config.wm_ac_ratio_max, max(config.wm_ac_ratio, state.ratio + step)))
    if not config.camp_ratio or state.camp:
        return state
    streak = state.surprised_logs + 1 if level > math.log(config.camp_ratio) else 0
    if streak < config.camp_logs:
        return replace(state, surprised_logs=streak)
    return replace(state, surprised_logs=0, camp=config.camp_updates, camp_turn=config.camp_extra)


def _kl_spike(config: PacingConfig, state: PacingState) -> PacingState:
    """Pause the actor-critic or end the run when the KL of the last updates is far above its average."""
    if config.kl_spike is SpikeAction.ignore or state.kl_pause or len(state.kl_surprises) < config.surprise_window:
        return state
    if sum(state.kl_surprises) / len(state.kl_surprises) <= math.log(config.kl_spike_factor):
        return state
    if config.kl_spike is SpikeAction.stop:
        return replace(state, stop=True)
    return replace(state, kl_pause=config.kl_pause)


def crossed(before: int, now: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, now]; never for an `every` of 0."""
    return every > 0 and now // every > before // every


def processes(config: Config) -> int:
    """How many processes train together."""
    return max(1, config.parallel.processes)


def all_streams(config: Config) -> int:
    """Environments that are stepped side by side, those of all processes together."""
    return config.env.num_envs * processes(config)


def update_rate(config: TrainConfig) -> float:
    """Updates per environment step: the train ratio over the steps that one update replays."""
    return config.train_ratio / (config.batch_size * config.batch_length)


def last_step(config: TrainConfig) -> int:
    """Environment step at which the run ends; about so if it ends after a number of updates."""
    return config.random_steps + math.ceil(config.updates / update_rate(config)) if config.updates else config.steps


def obstacles(config: Config) -> Iterator[str]:
    """Why the run will learn nothing, or never be solved, as far as the configuration tells; each names the key to change."""
    train, streams = config.train, all_streams(config)
    steps = last_step(train)
    each = -(-steps // streams)
    if steps <= train.random_steps:
        yield f"no update will be made: train.steps={steps} end with the train.random_steps={train.random_steps}"
    elif each < train.batch_length:
        yield (
            f"no update will be made: {steps} steps are {each} in each of {streams} environments "
            f"(env.num_envs={config.env.num_envs}), and a sequence needs train.batch_length={train.batch_length}"
        )
    elif (steps - train.random_steps) * update_rate(train) < train.updates_per_call:
        yield (
            f"no update will be made: in the {steps - train.random_steps} steps after train.random_steps, "
            f"train.train_ratio={train.train_ratio:g} does not owe train.updates_per_call={train.updates_per_call}"
        )
    if config.replay.capacity < (batch := train.batch_size * train.batch_length):
        yield f"replay.capacity={config.replay.capacity} is less than a batch, train.batch_size * train.batch_length = {batch}"
    if train.stop_at_return is not None and not train.eval_every:
        yield f"train.stop_at_return={train.stop_at_return:g} cannot be reached: train.eval_every=0 makes no evaluation"


def ended(config: TrainConfig, env_steps: int, updates: int) -> bool:
    """Whether the run is over."""
    return updates >= config.updates if config.updates else env_steps >= config.steps


def updates_due(config: TrainConfig, env_steps: int, updates: int) -> int:
    """Updates that the train ratio owes for the environment steps since the random ones; below 0 if none.

    `updates` are those made on its account: without the extra ones of training camps.
    """
    return math.floor((env_steps - config.random_steps) * update_rate(config)) - updates


def steps_until_event(config: TrainConfig, env_steps: int, updates: int) -> int:
    """Environment steps until the next update is due, or until an evaluation, a checkpoint, or the end, if sooner.

    0 if an update is due already. While the random policy acts, its end is an event too. `updates` as for `updates_due`.
    """
    if env_steps >= config.random_steps and updates_due(config, env_steps, updates) >= config.updates_per_call:
        return 0
    events = [(env_steps // n + 1) * n for n in (config.eval_every, config.checkpoint_every) if n]
    events += [] if config.updates else [config.steps]
    events += [config.random_steps] if env_steps < config.random_steps else []
    events.append(config.random_steps + math.ceil((updates + config.updates_per_call) / update_rate(config)))
    return max(1, min(events) - env_steps)
