"""Processes that look for each other: all come, or each of them says in one line why not."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dreamerjax.core.errors import UserError
from dreamerjax.core.rendezvous import Place, meet

SAME = {"train.seed": "0", "versions": {"jax": "1"}}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def outcomes(numbers: list[int], wishes: Mapping[int, Any], *, processes: int = 0, limit: float = 10.0) -> list[str]:
    """What each of them is told, each in a thread; empty where all went well."""
    port = free_port()

    def go(number: int) -> str:
        try:
            meet(Place("127.0.0.1", port, processes or len(numbers), number), wishes.get(number, SAME), limit)
        except UserError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(numbers)) as pool:
        return list(pool.map(go, numbers))


def test_three_that_want_the_same_meet() -> None:
    assert outcomes([2, 0, 1], {}) == ["", "", ""]


def test_what_differs_is_named_to_all() -> None:
    told = outcomes([0, 1], {1: {**SAME, "train.seed": "4", "model.deter": "8"}})
    message = "process 1 is not set as process 0 is: model.deter is 8 there and absent in process 0"
    assert told == [f"{message}; train.seed is 4 there and 0 in process 0"] * 2


def test_two_with_the_same_number() -> None:
    told = outcomes([0, 1, 1], {})
    assert told == ["two processes have the number parallel.process=1: give each its own, 0 to 2"] * 3


def test_who_does_not_come_is_named() -> None:
    first, other = outcomes([0, 2], {}, processes=4, limit=1.0)
    assert first == other
    assert first.startswith("process 1, 3 of 4 did not come to 127.0.0.1:")
    assert first.endswith(" within 1 s")


def test_nobody_listens() -> None:
    (told,) = outcomes([1], {}, processes=2, limit=1.0)
    assert told.startswith("parallel.coordinator=127.0.0.1:")
    assert told.endswith(": process 0 cannot be reached within 1 s: Connection refused")


def test_the_port_is_taken() -> None:
    with socket.create_server(("", 0)) as server, pytest.raises(UserError, match="cannot listen there: Address already in use"):
        meet(Place("127.0.0.1", server.getsockname()[1], 2, 0), SAME, 1.0)


def test_a_host_that_is_not_known_is_said_at_once() -> None:
    with pytest.raises(UserError, match=r"parallel\.coordinator=nohost\.invalid:5055: no such host"):
        meet(Place("nohost.invalid", 5055, 2, 0), {})
