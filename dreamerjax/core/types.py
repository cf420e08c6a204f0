"""What every room calls an array, and what an environment looks like to the agent: its observations and actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
Array = Any  # of JAX, or of NumPy on its way to the device


@dataclass(frozen=True)
class ObservationSpec:
    """One named observation.

    Vector: float32 of `shape` (size,). Discrete: int32 of shape (components,) with `classes` choices each, one-hot in the
    encoder. Image: uint8 of shape (height, width, channels).
    """

    shape: tuple[int, ...]
    classes: tuple[int, ...] = ()
    is_image: bool = False

    @property
    def is_discrete(self) -> bool:
        return bool(self.classes)

    @property
    def is_vector(self) -> bool:
        return not self.classes and not self.is_image

    @property
    def dtype(self) -> Any:
        return np.uint8 if self.is_image else np.int32 if self.classes else np.float32

    @property
    def encoded_size(self) -> int:
        """Width after one-hot encoding; of an image, the count of its numbers."""
        return sum(self.classes) if self.classes else int(np.prod(self.shape))


@dataclass(frozen=True)
class ActionSpec:
    """The agent's view of the action space.

    Discrete: `sizes` holds the number of choices of each component (one for Discrete, several for MultiDiscrete); an action
    is int32 (components,). Continuous: `sizes` is empty and an action is float32 (dimensions,); [-1, 1] spans the environment's
    bounds, and a value beyond counts as the bound, for the environment and for the model.
    """

    sizes: tuple[int, ...] = ()
    dimensions: int = 0

    @property
    def is_discrete(self) -> bool:
        return bool(self.sizes)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.sizes),) if self.sizes else (self.dimensions,)

    @property
    def dtype(self) -> Any:
        return np.int32 if self.sizes else np.float32

    @property
    def encoded_size(self) -> int:
        """A: the concatenated one-hots, or the dimensions."""
        return sum(self.sizes) if self.sizes else self.dimensions


@dataclass(frozen=True)
class EnvSpec:
    """What an environment looks like to the agent."""

    observations: dict[str, ObservationSpec]
    action: ActionSpec


# (observations {name: [n, ...]}, is_first [n]) -> (action [n, ...], latent fields {name: [n, ...]}, possibly none).
# The arrays passed in are not written to afterwards, so a device may go on reading them.
ActFunction = Callable[[Arrays, np.ndarray], tuple[Any, Mapping[str, Any]]]
