"""What a run amounts to, in words: whether it was good, whether it was over, and what to turn next. No JAX in here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from dreamerjax.core.formatting import number

GREEDY = "eval/greedy/return"
CONFIDENCE = 0.95
TREND_EVALUATIONS = 4  # the newest half of the evaluations, at least so many, says whether returns still rise
TREND_P = 0.05  # of a slope that chance would give
PROMISE_KEPT = 0.2  # how far the mean of dreams' returns may lie from the real one, as a share of it
OPEN_LOOP_LOST = 1.0  # standard deviations: predictions 15 steps ahead are no better than the episode's mean


@dataclass(frozen=True)
class Advice:
    """A setting to turn, as an override, and why."""

    override: str
    reason: str


@dataclass(frozen=True)
class RunVerdict:
    """What a run ends with, and its report begins with."""

    sentence: str
    advice: tuple[Advice, ...]  # at most two, the likeliest to help first

    def figures(self) -> dict[str, Any]:
        """As summary.json has it."""
        return {"verdict": self.sentence, "advice": [vars(advice) for advice in self.advice]}


def judge_run(
    records: Sequence[Mapping[str, float]],
    settings: Mapping[str, object],
    findings: Sequence[str],
    random: float | None = None,
    reference: float | None = None,
) -> RunVerdict:
    """The verdict on a run: lines of metrics.jsonl, its configuration by dotted keys, names of what the watch found.

    `random` is the random policy's mean return, `reference` what the environment's registration counts as solved, if known.
    """
    curve = [record for record in records if math.isfinite(record.get(f"{GREEDY}_mean", math.nan))]
    if not any(record.get("update", 0) > 0 for record in records):
        return RunVerdict("nothing was learned: no update was made", ())
    if not curve:
        return RunVerdict("it is not known how good it is: it was never evaluated", ())
    counted = settings.get("train.eval_episodes")
    episodes = counted if isinstance(counted, int) else 0
    last, interval = curve[-1][f"{GREEDY}_mean"], _interval(curve[-1], episodes)
    low, high = interval
    said = [f"{number(last)} [{number(low)}, {number(high)}] in the last evaluation"]
    if random is not None:
        beside = "better than" if low > random else "worse than" if high < random else "no better than"
        said.append(f"{beside} the random policy's {number(random)}")
    wanted = settings.get("train.stop_at_return")
    goal = wanted if isinstance(wanted, int | float) else reference
    solved = goal is not None and last >= goal
    judged = "" if goal is None else f"{'solved' if solved else 'not solved'} ({number(goal)} is wanted): "
    trend, best = _trend(curve), max(curve, key=lambda record: record[f"{GREEDY}_mean"])
    fell = _interval(best, episodes)[0] > high
    if fell:
        said.append(f"below its best, {number(best[f'{GREEDY}_mean'])} at step {best['env_step']:,.0f}")
    elif trend and not solved:
        said.append("still rising" if trend > 0 else "falling")
    found = [
        *findings,
        *_conditions(records, random, high, solved=solved, trend=trend, fell=fell),
    ]
    return RunVerdict(judged + ", ".join(said), tuple(_advice(found, settings)))


def _interval(record: Mapping[str, float], episodes: int) -> tuple[float, float]:
    """Of an evaluation's mean return, by Student's t."""
    mean, std = record[f"{GREEDY}_mean"], record.get(f"{GREEDY}_std", math.nan)
    if episodes < 2 or not math.isfinite(std):
        return mean, mean
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, episodes - 1)) * std / math.sqrt(episodes - 1)  # std divides by n
    return mean - half, mean + half


def _trend(curve: Sequence[Mapping[str, float]]) -> int:
    """1 if the newest half of the evaluations rises beyond chance, -1 if it falls, else 0."""
    newest = curve[-max(TREND_EVALUATIONS, math.ceil(len(curve) / 2)) :]
    values = np.array([record[f"{GREEDY}_mean"] for record in newest])
    if len(newest) < TREND_EVALUATIONS or np.ptp(values) == 0:
        return 0
    line = stats.linregress([record["env_step"] for record in newest], values)
    return int(np.sign(line.slope)) if line.pvalue < TREND_P else 0


def _conditions(
    records: Sequence[Mapping[str, float]], random: float | None, high: float, *, solved: bool, trend: int, fell: bool
) -> Iterator[str]:
    """What speaks for a setting beside the findings of the watch, by its name in SETTINGS."""
    if fell or trend < 0:
        yield "fell"
    if solved:
        return
    if trend > 0:
        yield "rising"
    compared = next((record for record in reversed(records) if "gap/open_loop_error" in record), {})
    # What nobody can predict, such as where the next target lies, is no fault of a model whose dreams promise what comes.
    sound = abs(compared.get("gap/return_ratio", 0.0) - 1.0) < PROMISE_KEPT
    if not sound and compared.get("gap/open_loop_error", 0.0) > OPEN_LOOP_LOST:
        yield "model_is_lost"
    if random is not None and high <= random + abs(random) / 2:
        yield "no_better_than_random"
    if not trend:
        yield "flat"


def to_go_on(outcome: str, settings: Mapping[str, object]) -> str:
    """The override without which a resumed run would end at once, as it came to its end; empty where it was broken off."""
    if outcome == "solved":
        return "train.stop_at_return=null"
    length = "train.updates" if settings.get("train.updates") else "train.steps"
    doubled = _doubled(settings.get(length))
    return f"{length}={doubled}" if outcome == "finished" and doubled else ""


def _times(factor: float) -> Callable[[object], str | None]:
    return lambda value: f"{float(f'{factor * value:.3g}'):g}" if isinstance(value, int | float) else None


def _power(exponent: float) -> Callable[[object], str | None]:
    return lambda value: f"{value**exponent:.3g}" if isinstance(value, int | float) else None


def _fixed(new: str) -> Callable[[object], str | None]:
    return lambda _: new


def _doubled(value: object) -> str | None:
    return str(2 * value) if isinstance(value, int) else None


# What to turn, the likeliest first, by finding or condition: the key, its new value from the present one, and why. The reasons
# for findings are those of docs/metrics.md.
SETTINGS: dict[str, tuple[tuple[str, Callable[[object], str | None], str], ...]] = {
    "dynamics_on_free_bits": (
        ("loss.free_nats", _times(0.1), "the prior gets no gradient below the free nats"),
        ("loss.free_bits", _fixed("straight_through"), "the prior gets no gradient below the free nats"),
    ),
    "kl_collapse": (("loss.scales.representation", _times(0.1), "the latents carry nothing"),),
    "latents_carry_nothing": (("loss.scales.representation", _times(0.1), "the latents carry nothing"),),
    "continue_crash": (("loss.free_nats", _times(0.1), "dreams end too early: the prior does not learn"),),
    "critic_saturates": (("optim.critic_lr", _times(0.5), "the critic is stuck"),),
    "entropy_collapses": (
        ("behavior.entropy", _times(3), "the policy explores no more"),
        ("optim.actor_lr", _times(0.5), "the policy explores no more"),
    ),
    "actor_loss_climbs": (("optim.actor_lr", _times(0.5), "the actor is pushed away from a good policy"),),
    "evaluation_falls_while_values_rise": (("optim.actor_lr", _times(0.5), "the actor exploits its model"),),
    "delusional_dreams": (("optim.actor_lr", _times(0.5), "dreams promise more than follows"),),
    "kl_spike": (("optim.model_lr", _times(0.5), "prior and posterior drifted apart"),),
    "critic_underestimates": (("behavior.slow_regularizer", _times(0.1), "the critic lags behind what the policy gets"),),
    "worse_than_random": (("behavior.entropy", _times(3), "the policy is worse than chance"),),
    "evaluations_oscillate": (("optim.actor_lr", _times(0.5), "what was learned is lost again and again"),),
    "dreams_end_early": (("loss.free_nats", _times(0.1), "dreams end sooner than episodes: the prior does not learn"),),
    "open_loop_worse_than_no_change": (("size", _fixed("size1m"), "the model predicts worse than that nothing changes"),),
    "replay_without_failures": (("replay.capacity", _doubled, "the replay holds no failure any more"),),
    "focus_always_on": (("pacing.focus_threshold", _times(2), "the actor and critic are hardly trained"),),
    "camp_always_on": (("pacing.camp_ratio", _power(2), "the actor and critic are hardly trained"),),
    "kl_pause_always_on": (("pacing.kl_spike_factor", _power(2), "the actor and critic are hardly trained"),),
    "focus_never_on": (("pacing.focus_threshold", _times(0.5), "the gate does nothing"),),
    "camp_never_on": (("pacing.camp_ratio", _power(0.5), "the gate does nothing"),),
    "kl_pause_never_on": (("pacing.kl_spike_factor", _power(0.5), "the gate does nothing"),),
    "fell": (("optim.actor_lr", _times(0.5), "it lost what it had learned"),),
    "rising": (("train.steps", _doubled, "it was still learning; resume it"),),
    "model_is_lost": (("size", _fixed("size1m"), "the model predicts no better than the mean, 15 steps ahead"),),
    "no_better_than_random": (
        ("train.steps", _doubled, "it has found no reward to follow yet; resume it"),
        ("behavior.entropy", _times(3), "it has found no reward to follow"),
    ),
    "flat": (
        ("train.train_ratio", _times(2), "more updates from the same steps"),
        ("train.steps", _doubled, "it had not come to an end"),
    ),
}


def _advice(found: Sequence[str], settings: Mapping[str, object]) -> Iterator[Advice]:
    """Two settings, each of another key, for the first two things found that have one."""
    keys: set[str] = set()
    for name in found:
        for key, new, reason in SETTINGS.get(name, ()):
            value = new(settings.get(key))  # None: a damaged config.yaml has no number there
            if len(keys) < 2 and key not in keys and value is not None:
                keys.add(key)
                yield Advice(f"{key}={value}", reason)
