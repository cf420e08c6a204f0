"""Nested dicts of arrays as named, checksummed leaves in one array of bytes and back: what a checkpoint is verified by."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

import numpy as np

CHUNK = 2**20  # bytes that are compressed together
ALIGNMENT = 16  # bytes: a multiple of the size of every number

Leaf = np.ndarray | None  # None stands for an empty dict
Leaves = dict[tuple[str, ...], Leaf]


class DamagedError(Exception):
    """What was read is not what was saved."""


def flatten(tree: Mapping[str, Any]) -> Leaves:
    """The leaves of a nested dict by path, as NumPy arrays that may share memory with the originals.

    Raises TypeError: a key is not a string, or a leaf is not an array of numbers or a number.
    """
    from flax.traverse_util import empty_node, flatten_dict  # slow to import

    leaves: Leaves = {}
    for path, value in flatten_dict(dict(tree), keep_empty_nodes=True).items():
        if not all(isinstance(key, str) for key in path):
            raise TypeError(f"{path} of a checkpoint has a key that is not a string")
        leaves[path] = None if value is empty_node else _as_array(value, path)
    return leaves


def unflatten(leaves: Leaves) -> dict[str, Any]:
    """The nested dict that `flatten` made the leaves of."""
    from flax.traverse_util import empty_node, unflatten_dict

    return unflatten_dict({path: empty_node if leaf is None else leaf for path, leaf in leaves.items()})


def pack(leaves: Leaves) -> tuple[list[dict[str, Any]], np.ndarray]:
    """The bytes of all leaves in one array, and what is where in it.

    Returns:
        For every leaf its path, and unless it is None its dtype, shape, first byte and CRC-32, as JSON data; and the
        bytes, uint8 of a multiple of `CHUNK`, never empty.
    """
    sizes = [0 if leaf is None else -(-leaf.nbytes // ALIGNMENT) * ALIGNMENT for leaf in leaves.values()]
    content = np.zeros(max(1, -(-sum(sizes) // CHUNK)) * CHUNK, np.uint8)
    entries = []
    for (path, leaf), start in zip(leaves.items(), accumulate(sizes, initial=0), strict=False):
        entry: dict[str, Any] = {"path": list(path)}
        if leaf is not None:
            part = content[start : start + leaf.nbytes]
            part[:] = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
            entry |= {"dtype": leaf.dtype.name, "shape": list(leaf.shape), "start": start, "crc32": zlib.crc32(part.data)}
        entries.append(entry)
    return entries, content


def unpack(entries: list[dict[str, Any]], content: np.ndarray) -> Leaves:
    """The leaves that `pack` packed, as views of the content.

    Raises DamagedError: the bytes of a leaf are not all there, or not what they were.
    """
    leaves: Leaves = {}
    for entry in entries:
        leaf = None
        if "dtype" in entry:
            dtype, shape = np.dtype(entry["dtype"]), entry["shape"]
            part = content[entry["start"] : entry["start"] + dtype.itemsize * math.prod(shape)]
            if zlib.crc32(part.data) != entry["crc32"]:
                raise DamagedError(f"the checksum of array {'/'.join(entry['path'])} does not match")
            leaf = part.view(dtype).reshape(shape)
        leaves[tuple(entry["path"])] = leaf
    return leaves


def json_crc(value: Any) -> int:
    """CRC-32 of JSON data, whatever the order of its keys."""
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())


def _as_array(value: Any, path: tuple[str, ...]) -> np.ndarray:
    if not isinstance(value, bool | int | float) and not hasattr(value, "__array__"):
        raise TypeError(f"{'/'.join(path)} of a checkpoint is a {type(value).__name__}, not an array or a number")
    array = np.asarray(value)
    if array.dtype.hasobject or array.dtype.kind in "USMm":
        raise TypeError(f"{'/'.join(path)} of a checkpoint has dtype {array.dtype}, which is not a number's")
    return array
