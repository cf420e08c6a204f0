"""Gymnasium spaces as specs, and the conversions between the two."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from dreamerjax.core.errors import UserError
from dreamerjax.core.types import ActionSpec, EnvSpec, ObservationSpec
from dreamerjax.envs.boundary import NotAcceptedError, as_array, described
from dreamerjax.envs.image_view import ImageView

BARE_NAME, BARE_IMAGE = "state", "image"
# Names of the other fields of a replay record; an observation of such a name is called "observation.<name>" instead.
RESERVED = frozenset({"action", "reward", "is_first", "is_last", "is_terminal", "deter", "stoch"})
OBSERVATIONS_SUPPORTED = (
    "Box of numbers, Box of uint8 as an image [height, width] or [height, width, channels], Discrete, MultiDiscrete, "
    "MultiBinary, and Dict or Tuple of these, nested or not"
)
FEW = 16  # with fewer rows than this and more channels, an image is taken for one with its channels first
MOST = 2**16  # numbers of one observation or action as the networks see it: a layer for more takes gigabytes
SHOWN = 8  # numbers of an observation that a message shows
AS_THEY_ARE = ImageView()
ACTIONS_SUPPORTED = "Discrete, MultiDiscrete, and Box of floats with finite bounds low < high"


@dataclass(frozen=True)
class Leaf:
    """One observation inside an environment's own: where it is, what it becomes, and how."""

    name: str
    path: tuple[Hashable, ...]
    space: gym.Space[Any]
    spec: ObservationSpec
    convert: Callable[[Any], np.ndarray]  # to a copy; raises NotAcceptedError for what cannot be taken for a value of the space

    def inside(self, observation: Any) -> Any:
        """This observation's part of the environment's own; raises NotAcceptedError if it is not there."""
        for depth, key in enumerate(self.path):
            try:
                observation = observation[key]
            except (LookupError, TypeError, AttributeError):
                where = f"observation {'.'.join(map(str, self.path[:depth]))!r}" if depth else "observation"
                has = f"the keys {list(observation)}" if isinstance(observation, Mapping) else described(observation)
                raise NotAcceptedError(f"{where} must hold {key!r}, is {has}") from None
        return observation


def leaves(space: gym.Space[Any], view: ImageView = AS_THEY_ARE) -> list[Leaf]:
    """Every observation in the space under its flat name. An image is converted to one frame of its spec's view.

    Raises UserError for a space that is not supported and for two observations of the same flat name.
    """
    found: dict[str, Leaf] = {}
    for path, inner in _walk(space, ()):
        name = ".".join(str(key) for key in path) or (BARE_IMAGE if is_image(inner) else BARE_NAME)
        name = f"observation.{name}" if name in RESERVED else name
        if name in found:
            raise UserError(f"two observations of the environment are both named {name!r} when flattened: rename one")
        spec, convert = _observation(name, inner, view)
        if not spec.is_image:
            _require_small(f"observation {name!r}: {inner}", spec)
        found[name] = Leaf(name, path, inner, spec, convert)
    if not found:
        raise UserError(f"observation space {space} holds no observation; supported: {OBSERVATIONS_SUPPORTED}")
    return list(found.values())


def env_spec(observation_space: gym.Space[Any], action_space: gym.Space[Any], view: ImageView = AS_THEY_ARE) -> EnvSpec:
    """The agent's view of an environment.

    Observations: a Box of uint8 with two or three axes is an image, of which `view` is shown; any other Box is flattened
    to a float32 vector; Discrete, MultiDiscrete and MultiBinary become int32 components counted from zero; nested names
    are joined by "."; a bare space is named "state" or "image". Actions: see ActionSpec.
    An already adapted environment (`make_env`) gives the same spec as the original one.

    Raises UserError naming the key and the space if one is not supported.
    """
    return EnvSpec({leaf.name: leaf.spec for leaf in leaves(observation_space, view)}, action_spec(action_space))


def observation_space(spec: EnvSpec) -> gym.spaces.Dict:
    """The space of the flat named arrays."""
    spaces: dict[str, gym.Space[Any]] = {
        name: gym.spaces.MultiDiscrete(np.array(entry.classes), dtype=np.int32)
        if entry.is_discrete
        else gym.spaces.Box(0, 255, entry.shape, np.uint8)
        if entry.is_image
        else gym.spaces.Box(-np.inf, np.inf, entry.shape, np.float32)
        for name, entry in spec.observations.items()
    }
    return gym.spaces.Dict(spaces)


def action_space(spec: ActionSpec) -> gym.Space[Any]:
    """The space of the agent's actions: int32 components or float32 within [-1, 1]."""
    if spec.is_discrete:
        return gym.spaces.MultiDiscrete(np.array(spec.sizes), dtype=np.int32)
    return gym.spaces.Box(-1.0, 1.0, spec.shape, np.float32)


def action_spec(space: gym.Space[Any]) -> ActionSpec:
    """The agent's view of an action space. Raises UserError if it is not supported or too large."""
    spec = _action_spec(space)
    _require_small(f"action space {space}", spec)
    return spec


def _require_small(what: str, spec: ObservationSpec | ActionSpec) -> None:
    if spec.encoded_size > MOST:
        one_hot = ", one-hot" if spec.is_discrete else ""
        raise UserError(f"{what} is {spec.encoded_size} numbers{one_hot}; at most {MOST} are supported")


def _action_spec(space: gym.Space[Any]) -> ActionSpec:
    if isinstance(space, gym.spaces.Discrete):
        return ActionSpec(sizes=(int(space.n),))
    if isinstance(space, gym.spaces.MultiDiscrete):
        return ActionSpec(sizes=tuple(int(size) for size in space.nvec.reshape(-1)))
    if isinstance(space, gym.spaces.Box) and np.issubdtype(space.dtype, np.floating) and space.low.size:
        low, high = space.low, space.high
        if bool((np.isfinite(low) & np.isfinite(high) & (low < high)).all()):
            return ActionSpec(dimensions=low.size)
    raise UserError(f"action space {space} is not supported; supported: {ACTIONS_SUPPORTED}")


def action_converter(space: gym.Space[Any]) -> Callable[[np.ndarray], Any]:
    """From the agent's action to the environment's own: offsets, shapes and bounds put back.

    A continuous action beyond [-1, 1] is clipped to it.
    """
    if isinstance(space, gym.spaces.Discrete):
        start = int(space.start)
        return lambda action: int(action[0]) + start
    if isinstance(space, gym.spaces.MultiDiscrete):
        nvec, starts, dtype = space.nvec, space.start, space.dtype
        return lambda action: (action.reshape(nvec.shape) + starts).astype(dtype)
    assert isinstance(space, gym.spaces.Box)
    shape, dtype = space.shape, space.dtype
    low, high = space.low, space.high
    middle, half = _middle_and_half(low, high)

    def rescale(action: np.ndarray) -> np.ndarray:
        inside = np.minimum(np.maximum(action, -1.0), 1.0).reshape(shape)
        return np.minimum(np.maximum(middle + half * inside, low), high).astype(dtype, copy=False)

    return rescale


def actions_of(space: gym.Space[Any], actions: Any) -> Any:
    """`action_converter` for arrays of actions [N, C] that are traced: the environments' own [N, ...]."""
    if isinstance(space, gym.spaces.Discrete):
        return actions[:, 0] + int(space.start)
    if isinstance(space, gym.spaces.MultiDiscrete):
        return actions.reshape(-1, *space.nvec.shape) + space.start.astype(np.int32)[None]
    assert isinstance(space, gym.spaces.Box)
    low, high = space.low[None], space.high[None]
    middle, half = _middle_and_half(low, high)
    return (middle + half * actions.clip(-1.0, 1.0).reshape(-1, *space.shape)).clip(low, high)


def _middle_and_half(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the range between two bounds; without overflow where they are the largest floats."""
    return low / 2.0 + high / 2.0, high / 2.0 - low / 2.0


def _walk(space: gym.Space[Any], path: tuple[Hashable, ...]) -> Iterator[tuple[tuple[Hashable, ...], gym.Space[Any]]]:
    if not isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        yield path, space
        return
    for key, inner in space.items() if isinstance(space, gym.spaces.Dict) else enumerate(space.spaces):
        yield from _walk(inner, (*path, key))


def is_image(space: gym.Space[Any]) -> bool:
    """Whether a space is taken for an image; one axis of bytes is a vector."""
    return isinstance(space, gym.spaces.Box) and space.dtype == np.uint8 and len(space.shape) > 1


def _observation(name: str, space: gym.Space[Any], view: ImageView) -> tuple[ObservationSpec, Callable[[Any], np.ndarray]]:
    if isinstance(space, gym.spaces.Discrete):
        return _components(name, space, (int(space.n),), np.array([space.start]))
    if isinstance(space, gym.spaces.MultiDiscrete):
        return _components(name, space, tuple(int(size) for size in space.nvec.reshape(-1)), space.start.reshape(-1))
    if isinstance(space, gym.spaces.MultiBinary):
        return _components(name, space, (2,) * int(np.prod(space.shape)), np.zeros(1, np.int64))
    if is_image(space):
        return _image(name, space, view)
    if isinstance(space, gym.spaces.Box) and np.prod(space.shape) > 0:
        return _vector(name, space.shape)
    raise UserError(f"observation {name!r}: space {space} is not supported; supported: {OBSERVATIONS_SUPPORTED}")


def _vector(name: str, shape: tuple[int, ...]) -> tuple[ObservationSpec, Callable[[Any], np.ndarray]]:
    spec = ObservationSpec((int(np.prod(shape)),))

    def convert(value: Any) -> np.ndarray:
        flat = _shaped(name, value, shape).reshape(spec.shape)
        if flat.dtype == np.float32:
            flat = flat.copy()
        elif flat.dtype.kind in "biuf":
            with np.errstate(over="ignore"):
                flat = flat.astype(np.float32)
        else:
            raise NotAcceptedError(f"observation {name!r} must be numbers, is {described(value)}")
        if not np.logical_and.reduce(np.isfinite(flat)):
            raise NotAcceptedError(f"observation {name!r} must be finite, is {_listed(flat)}")
        return flat

    return spec, convert


def _image(name: str, space: gym.Space[Any], view: ImageView) -> tuple[ObservationSpec, Callable[[Any], np.ndarray]]:
    shape = space.shape
    assert shape is not None
    if not np.prod(shape) or len(shape) > 3 or (len(shape) == 3 and shape[0] < FEW < shape[2]):
        raise UserError(
            f"observation {name!r}: bytes of shape {list(shape)} are no image [height, width] or [height, width, channels]; "
            "gymnasium.wrappers.TransformObservation can move an axis, env.frame_stack stacks frames, floats are a vector"
        )

    def convert(value: Any) -> np.ndarray:
        array = _shaped(name, value, shape)
        if array.dtype != np.uint8:
            if array.dtype.kind not in "iu" or array.min() < 0 or array.max() > 255:
                raise NotAcceptedError(f"observation {name!r} must be bytes from 0 to 255, is {described(array)}")
            array = array.astype(np.uint8)
        return view.show(array)

    return ObservationSpec(view.shape(shape), is_image=True), convert


def _components(
    name: str, space: gym.Space[Any], classes: tuple[int, ...], start: np.ndarray
) -> tuple[ObservationSpec, Callable[[Any], np.ndarray]]:
    spec, shape, limit = ObservationSpec((len(classes),), classes), space.shape, np.array(classes, np.uint64)
    assert shape is not None

    def convert(value: Any) -> np.ndarray:
        array = _shaped(name, value, shape)
        whole = array.dtype.kind in "biu" or (array.dtype.kind == "f" and bool((np.rint(array) == array).all()))
        counted = array.astype(np.int64).reshape(spec.shape) - start if whole else np.full(spec.shape, -1)
        if not (counted.view(np.uint64) < limit).all():
            raise NotAcceptedError(f"observation {name!r} must be in {space}, is {_listed(array)}")
        return counted.astype(np.int32)

    return spec, convert


def _shaped(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The value as an array of its space's shape; axes of length 1 may be missing or too many."""
    array = as_array(value)
    if array.shape != shape:
        if [side for side in array.shape if side != 1] != [side for side in shape if side != 1]:
            found = described(value if array.dtype.hasobject else array)
            raise NotAcceptedError(f"observation {name!r} must have the shape {shape}, is {found}")
        array = array.reshape(shape)
    return array


def _listed(values: np.ndarray) -> str:
    flat = values.reshape(-1)
    return f"[{', '.join(map(str, flat[:SHOWN]))}{', ...' * (flat.size > SHOWN)}]"
