"""Readings of the collapse watch that need one record alone. Thresholds stand here, with where they come from.

`#01-20a` and the like: docs/findings_of_the_log.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Record = Mapping[str, float]

KL_NOTHING = 5e-4  # nats; the latents that collapsed went from 0.0025 to 0.0001 (#01-17c), healthy ones had 0.001 (#01-15b)
POSTERIOR_RANDOMNESS = 0.96  # 0.97 to 0.98 with a representation weight of 0.99, over KLs at rest on the free nats;
# sound runs begin at 0.94 and fall to about 0.5 (experiments/representation_unimix)
RANDOMNESS = 0.02  # of the entropy's range: about 0 was a collapse (#01-05b); ln 2 times 0.38 was merely low (#01-15b)
CONTINUE_SHARE = 0.5  # of what the batch implies; 0.001 where about 0.9 was true (#01-15a)
FRESH_UPDATES = 200  # until then dreams are of a model that has not learned: its continue head starts from a coin toss
FREE_BITS_TOLERANCE = 1e-4  # relative: the loss sat on exactly 1.0 (#01-15a); a mean with one step above lies further off
RETURN_SHORTFALL = 0.5  # of the real return, or of 1 where that is smaller: 14 where 38 followed is 63% (#01-15b)
CONTINUE_BIAS = 0.25  # probability: 0.001 went on after 3 steps where nearly all did (#01-15a); sound runs: within 0.1
MUCH_CHANGES = 1.0  # standard deviations of an episode, in 15 steps


@dataclass(frozen=True)
class Reading:
    """What a detector sees at a record that concerns it."""

    level: float  # 1 or more: the condition holds; how far below 1: how far it is from holding
    evidence: str  # one line with the numbers


Detector = Callable[[Record], Reading | None]


def kl_collapse(record: Record) -> Reading | None:
    """The KL is about 0: the latents carry nothing that the prior does not know (#01-17c)."""
    kl = record.get("model/kl")
    if kl is None:
        return None
    entropy = record.get("model/posterior_entropy")
    beside = "" if entropy is None else f", the posterior's entropy {entropy:.3g}"
    return Reading(KL_NOTHING / max(kl, 1e-9), f"the KL is {kl:.2g} nats, below {KL_NOTHING:g}{beside}")


def latents_carry_nothing(record: Record) -> Reading | None:
    """The posterior is nearly uniform: it says nothing about what was observed, whatever the KL (#01-17d)."""
    randomness = record.get("model/posterior_randomness")
    if randomness is None:
        return None
    evidence = f"the posterior's randomness is {randomness:.1%} (uniform is 100%), above {POSTERIOR_RANDOMNESS:.0%}"
    kl = record.get("model/kl")
    beside = "" if kl is None else f", over a KL of {kl:.2g} nats"
    return Reading((1 - POSTERIOR_RANDOMNESS) / max(1 - randomness, 1e-9), evidence + beside)


def entropy_collapses(record: Record) -> Reading | None:
    """The policy is nearly deterministic: it explores no more and the actor's gradient vanishes (#01-05b, #01-15b)."""
    randomness = record.get("actor/randomness")
    if randomness is None:
        return None
    evidence = f"the policy's randomness is {randomness:.2%} (uniform is 100%), below {RANDOMNESS:.0%}"
    return Reading(RANDOMNESS / max(randomness, 1e-9), evidence)


def continue_crash(record: Record) -> Reading | None:
    """Dreams end far sooner than replayed episodes do: the continue head sees inputs it was not trained on (#01-15a)."""
    dreamed, rate = record.get("dream/continue_3"), record.get("batch/terminal_rate")
    if dreamed is None or rate is None or record["update"] < FRESH_UPDATES:
        return None
    implied = (1 - rate) ** 3
    evidence = f"{dreamed:.3g} of dreams go on after 3 steps; {rate:.2%} terminal steps in the batch imply {implied:.3g}"
    return Reading(CONTINUE_SHARE * implied / max(dreamed, 1e-9), evidence)


def dynamics_on_free_bits(free_nats: float, clip: bool) -> Detector:
    """The reader for a run with this threshold in nats: the prior gets no gradient while the loss sits on it (#01-15a)."""

    def read(record: Record) -> Reading | None:
        loss, kl = record.get("loss/dynamics"), record.get("model/kl")
        if loss is None or kl is None:
            return None
        holds = clip and kl < free_nats and abs(loss - free_nats) <= FREE_BITS_TOLERANCE * free_nats
        return Reading(float(holds), f"the dynamics loss is {loss:.4g}, the free nats, over a KL of {kl:.3g}: no gradient")

    return read


def critic_underestimates(record: Record) -> Reading | None:
    """Dreams promise far less than the same policy really gets: the critic lags behind it (#01-15b)."""
    imagined, real = record.get("gap/return_imagined"), record.get("gap/return_real")
    if imagined is None or real is None or record["update"] < FRESH_UPDATES:
        return None
    shortfall = (real - imagined) / max(1.0, abs(real))
    return Reading(shortfall / RETURN_SHORTFALL, f"dreams promise a return of {imagined:.4g} where {real:.4g} follows")


def dreams_end_early(record: Record) -> Reading | None:
    """Imagined episodes are over while real ones, from the same states under the same policy, go on (#01-15a)."""
    prefix = "gap/continue_bias/"
    biases = {name.removeprefix(prefix): bias for name, bias in record.items() if name.startswith(prefix)}
    if not biases or record["update"] < FRESH_UPDATES:
        return None
    step = min(biases, key=lambda name: biases[name])
    evidence = f"{-biases[step]:.0%} fewer dreams than real episodes go on after step {int(step)}"
    return Reading(-biases[step] / CONTINUE_BIAS, evidence)


def open_loop_worse_than_no_change(record: Record) -> Reading | None:
    """The model predicts observations worse than saying that nothing changes would, though much does change.

    Where a policy holds everything still, saying so is hard to beat: a sound run that had solved CartPole was at 1.7 and 0.8.
    """
    error, unchanged = record.get("gap/open_loop_error"), record.get("gap/open_loop_unchanged")
    if error is None or unchanged is None or record["update"] < FRESH_UPDATES:
        return None
    evidence = f"the open loop is {error:.3g} standard deviations off, the last observation {unchanged:.3g}"
    return Reading(error / unchanged if unchanged >= MUCH_CHANGES else 0.0, evidence)
