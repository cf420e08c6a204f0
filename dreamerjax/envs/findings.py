"""What is wrong with an environment, in words: from what a random policy met in it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from gymnasium.envs.registration import EnvSpec as Registration

from dreamerjax.config.schema import ModelConfig
from dreamerjax.core.types import EnvSpec
from dreamerjax.envs.descriptions import FAINT
from dreamerjax.envs.random_rollouts import Alone, Together

FAR = 100.0  # in size; the agent sees symlog, in which 100 and 101 are 0.01 apart
STILL = 0.1  # range of a component whose part in the decoder's loss, squared errors of symlog, is next to nothing
SMALL_RETURN = 0.1  # behavior.return_norm scales returns down to a spread of 1, never up
LARGE = 1e4  # a reward in size; training goes on, for returns are scaled
SLOW = 100.0  # environment steps a second
ADVICE = "draw from self.np_random, which super().reset(seed=seed) seeds, and share nothing between environments"


def problems(registered: Registration, model: ModelConfig, alone: Alone, together: Together) -> Iterator[str]:
    """What would break training or mislead it."""
    if fault := alone.fault or together.fault:
        yield f"training would end with: {fault}"
    for found, count in alone.outside.items():
        if found.kind != "precision":
            yield f"observation {found.name!r} {found.words} ({count:,} of {alone.observations:,} observations)"
    if alone.complete and not alone.returns and registered.max_episode_steps is None:
        yield (
            f"no episode ended within {alone.steps:,} steps and there is no time limit: an evaluation would cut every episode; "
            "set env.time_limit"
        )
    limits = np.array([model.bins.low, model.bins.high])
    low, high = np.sign(limits) * np.expm1(np.abs(limits))
    values = [*alone.rewards, *alone.returns]
    if values and not low <= min(values) <= max(values) <= high:
        yield (
            f"rewards and returns are {min(values):.4g} to {max(values):.4g}, but model.bins holds {low:.4g} to {high:.4g}: "
            "scale the rewards down"
        )
    if together.reset_differs and not registered.nondeterministic:
        yield f"reset ignores its seed: {together.reset_differs}; {ADVICE}"
    elif together.play_differs and not registered.nondeterministic:
        yield f"not deterministic: {together.play_differs}, so a run cannot be repeated or resumed exactly; {ADVICE}"


def remarks(registered: Registration, model: ModelConfig, spec: EnvSpec, alone: Alone, together: Together) -> Iterator[str]:
    """What training survives, but the environment's author should know."""
    for found in alone.outside:
        if found.kind == "precision":
            yield f"observation {found.name!r} {found.words}: it is converted"
    if not alone.fault and not alone.returns and (registered.max_episode_steps is not None or not alone.complete):
        yield f"no episode ended within {alone.steps:,} steps"
    if alone.fault or together.fault:  # the rest may look different once that is mended
        return
    yield from _ends(alone)
    yield from _rewards(alone)
    yield from _components(model, spec, alone)
    yield from _repetitions(registered, together)


def _ends(alone: Alone) -> Iterator[str]:
    length = alone.lengths[0] if alone.lengths else 0
    if len(alone.lengths) > 1 and length > 1 and all(alone.terminated) and set(alone.lengths) == {length}:
        yield (
            f"every episode is terminated at step {length}: if that is a time limit, return truncated instead, or the agent "
            "learns that nothing is to be had after it"
        )


def _rewards(alone: Alone) -> Iterator[str]:
    if not any(alone.rewards):
        yield f"no reward but 0 in {alone.steps:,} random steps: a first one is found by luck alone"
    elif (most := max(map(abs, alone.rewards))) > LARGE:
        yield f"rewards reach {most:.4g} in size: scale them to about 1, for small differences vanish in symlog beside them"
    elif len(alone.returns) > 1 and len(set(alone.returns)) == 1:
        yield f"every episode has the same return, {alone.returns[0]:.4g}: nothing tells a good one from a bad one yet"
    elif alone.returns and max(map(abs, alone.returns)) < SMALL_RETURN:
        yield (
            f"returns are at most {max(map(abs, alone.returns)):.4g} in size and are not scaled up: the smaller, the more the "
            "entropy bonus weighs, so scale the rewards up"
        )


def _components(model: ModelConfig, spec: EnvSpec, alone: Alone) -> Iterator[str]:
    for name, low in alone.low.items():
        high = alone.high[name]
        if spec.observations[name].is_image:
            if (low == high).all():
                yield f"image {name!r} never changed"
            if high.max() < FAINT:
                yield f"image {name!r} showed only values of 0 to {high.max()}, where 255 is white: it is nearly black"
            continue
        if (constant := low == high).any():
            yield f"observation {name!r}: {_listed(constant)} never changed"
        if spec.observations[name].is_discrete:
            continue
        if not model.standardize and (still := ~constant & (high - low < STILL)).any():
            yield (
                f"observation {name!r}: {_listed(still)} moved by less than {STILL:g}: errors in that hardly weigh in the "
                "model's loss; scale it up, or model.standardize=true"
            )
        if (far := np.maximum(-low, high) > FAR).any():
            yield f"observation {name!r}: {_listed(far)} reached a size above {FAR:g}; scale it to about 1"


def _repetitions(registered: Registration, together: Together) -> Iterator[str]:
    differs = together.reset_differs or together.play_differs
    if differs and registered.nondeterministic:
        yield f"not deterministic, as it is registered: {differs}, so a run cannot be repeated or resumed exactly"
    if not differs and not together.seed_matters:
        yield "another seed leads to the same episode: either the beginning is fixed, or reset ignores its seed"
    if together.steps_per_second < SLOW:
        yield (
            f"{together.steps_per_second:.3g} steps/s: training will mostly wait for the environment "
            "(env.vectorization=subprocess and a larger env.num_envs use more cores)"
        )


def _listed(mask: np.ndarray, limit: int = 8) -> str:
    """The chosen components in words."""
    chosen = mask.nonzero()[0].tolist()
    more = f" and {len(chosen) - limit} more" if len(chosen) > limit else ""
    return f"component{'s' * (len(chosen) > 1)} {', '.join(map(str, chosen[:limit]))}{more}"
