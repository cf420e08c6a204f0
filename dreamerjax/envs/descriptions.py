"""What the agent will see of an environment and do in it, in words, with remarks where that is probably not meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from dreamerjax.core.types import ActionSpec, EnvSpec, ObservationSpec
from dreamerjax.envs.spaces import Leaf, is_image

SHOWN = 8  # components that are listed one by one
FAINT = 16  # an image whose values stay below this is nearly black
PICTURE = 16  # a vector made of two or more axes at least this long looks like a picture
CHANNELS = (1, 3, 4)
FAR = 1e4  # bounds of an action


def describe_observation(entry: ObservationSpec) -> str:
    """Its shape, dtype and classes in words."""
    if entry.is_image:
        return f"image, uint8 {entry.shape}"
    if not entry.is_discrete:
        return f"float32 {entry.shape}"
    return f"int32 {entry.shape}, {_counts(entry.classes)} classes, one-hot in {entry.encoded_size} numbers"


def describe_action(action: ActionSpec) -> str:
    """Its kind and encoded size in words."""
    if not action.is_discrete:
        return f"continuous, float32 {action.shape}, -1 to 1 between the environment's bounds"
    return f"discrete, int32 {action.shape}, {_counts(action.sizes)} choices, one-hot in {action.encoded_size} numbers"


def summary(spec: EnvSpec) -> str:
    """All of it in one line."""
    seen = "; ".join(f"{name} ({describe_observation(entry)})" for name, entry in spec.observations.items())
    return f"the agent sees {seen}; acts: {describe_action(spec.action)}"


def remarks(leaves: Sequence[Leaf], action: gym.Space[Any]) -> Iterator[str]:
    """What the spaces alone show to be probably not meant."""
    for leaf in leaves:
        if is_image(leaf.space):
            yield from _of_image(leaf)
        elif isinstance(leaf.space, gym.spaces.Box) and sum(side >= PICTURE for side in leaf.space.shape) > 1:
            yield (
                f"observation {leaf.name!r}, {leaf.space.dtype} {leaf.space.shape}, is taken for a vector of "
                f"{leaf.spec.encoded_size:,} numbers: a picture must be uint8"
            )
        elif leaf.spec.classes and max(leaf.spec.classes) == 1:
            yield f"observation {leaf.name!r} can have one value only"
    if isinstance(action, gym.spaces.Box) and (far := float(np.abs([action.low, action.high]).max())) > FAR:
        yield f"the action's bounds reach {far:.4g} in size: what the agent does is stretched to all of that"
    if isinstance(action, gym.spaces.Discrete) and action.n == 1:
        yield "there is only one action: nothing can be learned about what to do"


def _of_image(leaf: Leaf) -> Iterator[str]:
    assert isinstance(leaf.space, gym.spaces.Box)
    (height, width, *rest), shown, most = leaf.space.shape, leaf.spec.shape, int(leaf.space.high.max())
    if most < FAINT:
        yield (
            f"image {leaf.name!r} has values of only 0 to {most}, where 255 is white: it is nearly black; if it is no picture "
            "(a board, say), declare floats or MultiBinary"
        )
    if rest and rest[0] not in CHANNELS and height in CHANNELS:
        yield f"image {leaf.name!r} of shape {leaf.space.shape} may have its channels first: they come last"
    elif rest and rest[0] > max(CHANNELS):
        yield f"image {leaf.name!r} has {rest[0]} channels"
    if height < shown[0] or width < shown[1]:
        yield f"image {leaf.name!r} is enlarged from {height} x {width} to {shown[0]} x {shown[1]} (env.image_size)"


def _counts(numbers: Sequence[int]) -> str:
    """`3` or `2 + 4`; many as `4 + 4 + ... (20)`."""
    if len(numbers) <= SHOWN:
        return " + ".join(map(str, numbers))
    return f"{' + '.join(map(str, numbers[:2]))} + ... ({len(numbers)} components)"
