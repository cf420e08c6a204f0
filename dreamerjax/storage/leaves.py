"""Nested dicts of arrays as a flat set of named, checksummed leaves and back: what a checkpoint is verified by."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import numpy as np

Leaf = np.ndarray | None  # None stands for an empty dict
Leaves = dict[tuple[str, ...], Leaf]


class DamagedError(Exception):
    """What was read is not what was saved."""


def flatten(tree: Mapping[str, Any]) -> Leaves:
    """The leaves of a nested dict by path, as NumPy arrays that may share memory with the originals.

    Raises:
        TypeError: a key is not a string, or a leaf is not an array of numbers or a number.
    """
    return dict(_walk(tree, ()))


def unflatten(leaves: Leaves) -> dict[str, Any]:
    """The nested dict that `flatten` made the leaves of."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = {} if leaf is None else leaf
    return tree


def stored(leaves: Leaves) -> dict[str, np.ndarray]:
    """The leaves that hold any bytes by the names they are saved under; the rest is in the manifest alone."""
    return {_name(path): leaf for path, leaf in leaves.items() if leaf is not None and leaf.size}


def manifest(leaves: Leaves) -> list[dict[str, Any]]:
    """Path, dtype, shape and CRC-32 of every leaf, as JSON data."""
    entries = []
    for path, leaf in leaves.items():
        entry: dict[str, Any] = {"path": list(path)}
        if leaf is not None:
            entry |= {"dtype": leaf.dtype.name, "shape": list(leaf.shape), "crc32": array_crc(leaf)}
        entries.append(entry)
    return entries


def verified(entries: list[dict[str, Any]], arrays: Mapping[str, np.ndarray]) -> Leaves:
    """The leaves of a manifest, taken from the arrays that were read.

    Raises:
        DamagedError: an array is missing or too many, or its dtype, shape or content is not the manifest's.
    """
    leaves: Leaves = {}
    remaining = dict(arrays)
    for entry in entries:
        path = tuple(entry["path"])
        if "dtype" not in entry:
            leaves[path] = None
        elif 0 in entry["shape"]:
            leaves[path] = np.zeros(entry["shape"], np.dtype(entry["dtype"]))
        else:
            leaves[path] = _verified_array(entry, remaining.pop(_name(path), None))
    if remaining:
        raise DamagedError(f"unexpected array {next(iter(remaining))}")
    return leaves


def array_crc(array: np.ndarray) -> int:
    """CRC-32 of an array's bytes in C order."""
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def json_crc(value: Any) -> int:
    """CRC-32 of JSON data, whatever the order of its keys."""
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())


def _verified_array(entry: dict[str, Any], array: np.ndarray | None) -> np.ndarray:
    name = "/".join(entry["path"])
    if array is None:
        raise DamagedError(f"array {name} is missing")
    if array.dtype.name != entry["dtype"] or list(array.shape) != entry["shape"]:
        raise DamagedError(f"array {name} is {array.dtype.name}{array.shape}, not {entry['dtype']}{entry['shape']}")
    if array_crc(array) != entry["crc32"]:
        raise DamagedError(f"the checksum of array {name} does not match")
    return array


def _walk(tree: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Leaf]]:
    for key, value in tree.items():
        if not isinstance(key, str):
            raise TypeError(f"key {key!r} under {'/'.join(path)!r} of a checkpoint is not a string")
        here = (*path, key)
        if isinstance(value, Mapping):
            if not value:
                yield here, None
            yield from _walk(value, here)
        else:
            yield here, _as_array(value, here)


def _as_array(value: Any, path: tuple[str, ...]) -> np.ndarray:
    if not isinstance(value, bool | int | float) and not hasattr(value, "__array__"):
        raise TypeError(f"{'/'.join(path)} of a checkpoint is a {type(value).__name__}, not an array or a number")
    array = np.asarray(value)
    if array.dtype.hasobject or array.dtype.kind in "USMm":
        raise TypeError(f"{'/'.join(path)} of a checkpoint has dtype {array.dtype}, which is not a number's")
    return array


def _name(path: tuple[str, ...]) -> str:
    return "/".join(quote(key, safe="") for key in path)
