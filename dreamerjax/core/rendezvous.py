"""How several processes find each other before JAX connects them: who is there, and whether all of them want the same.

JAX's own connection ends a process with a page of text where something is wrong, so everything that can be told before
is told here. The first process listens; each of the others sends one line of JSON, and gets one back when all have come.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from typing import Any

from dreamerjax.core.errors import UserError
from dreamerjax.core.formatting import differences

LIMIT = 60.0  # seconds that the processes wait for each other
GRACE = 5.0  # seconds for one line to come
RETRY = 0.2  # seconds between two attempts to connect
LONGEST = 2**20  # bytes of one line
GREETING = "dreamerjax"


@dataclass(frozen=True)
class Place:
    """Where a process stands among those of one training."""

    host: str  # of the first process
    port: int
    processes: int
    process: int  # this one's number, from 0

    @property
    def address(self) -> str:
        """As the configuration has it."""
        return f"{self.host}:{self.port}"


def meet(place: Place, wishes: Mapping[str, Any], limit: float = LIMIT) -> None:
    """Return when all processes have come, within so many seconds, and want the same: JSON-able values by name.

    Raises UserError on every process that is there: not all came in time, two have the same number, they want different things,
    or the address cannot be used.
    """
    try:
        socket.getaddrinfo(place.host, place.port)
    except OSError as error:
        raise UserError(f"parallel.coordinator={place.address}: no such host: {error.strerror or error}") from error
    deadline = time.monotonic() + limit
    if place.process == 0:
        _receive(place, wishes, deadline, limit)
    else:
        _join(place, wishes, deadline, limit)


def _receive(place: Place, wishes: Mapping[str, Any], deadline: float, limit: float) -> None:
    came: dict[int, socket.socket] = {}
    with ExitStack() as stack:
        try:
            server = stack.enter_context(_listen(place.port))
        except OSError as error:
            raise UserError(f"parallel.coordinator={place.address}: cannot listen there: {error.strerror or error}") from error
        fault = ""
        while not fault and len(came) < place.processes - 1:
            server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                peer, _ = server.accept()
            except TimeoutError:
                missing = ", ".join(str(number) for number in range(1, place.processes) if number not in came)
                fault = f"process {missing} of {place.processes} did not come to {place.address} within {limit:.0f} s"
                break
            stack.enter_context(peer)
            told = _read(peer, time.monotonic() + GRACE)
            if told.get("greeting") != GREETING:
                continue  # somebody else knocked
            number = told["place"]["process"]
            fault = _difference(number, told, place, wishes)
            if number in came:
                fault = (
                    f"two processes have the number parallel.process={number}: give each its own, 0 to {place.processes - 1}"
                )
            came[number if number not in came else -1] = peer
        for peer in came.values():
            _send(peer, {"greeting": GREETING, "fault": fault})
    if fault:
        raise UserError(fault)


def _difference(number: int, told: Mapping[str, Any], place: Place, wishes: Mapping[str, Any]) -> str:
    theirs = {**told["wishes"], "parallel.processes": told["place"]["processes"]}
    ours = {**json.loads(json.dumps(dict(wishes))), "parallel.processes": place.processes}
    different = [f"{key} is {there} there and {here} in process 0" for key, (there, here) in differences(theirs, ours).items()]
    return f"process {number} is not set as process 0 is: {'; '.join(different)}" if different else ""


def _join(place: Place, wishes: Mapping[str, Any], deadline: float, limit: float) -> None:
    reason = "no answer"
    while (left := deadline - time.monotonic()) > 0:
        try:
            with socket.create_connection((place.host, place.port), timeout=min(left, GRACE)) as peer:
                _send(peer, {"greeting": GREETING, "place": asdict(place), "wishes": dict(wishes)})
                answer = _read(peer, time.monotonic() + limit + GRACE)
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            if answer.get("greeting") == GREETING:
                if answer["fault"]:
                    raise UserError(answer["fault"])
                return
            reason = "what answers there is no process of this training, or it has ended"
        time.sleep(RETRY)
    raise UserError(f"parallel.coordinator={place.address}: process 0 cannot be reached within {limit:.0f} s: {reason}")


def _listen(port: int) -> socket.socket:
    """On every address of this machine, as JAX's service does afterwards."""
    if socket.has_dualstack_ipv6():
        with suppress(OSError):
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _send(peer: socket.socket, value: Mapping[str, Any]) -> None:
    with suppress(OSError):  # who has gone needs no answer
        peer.sendall(json.dumps(value).encode() + b"\n")


def _read(peer: socket.socket, deadline: float) -> dict[str, Any]:
    """One line; empty if none comes, or it is no JSON object."""
    peer.settimeout(max(0.01, deadline - time.monotonic()))
    with suppress(OSError, ValueError), peer.makefile("rb") as lines:
        value = json.loads(lines.readline(LONGEST))
        return value if isinstance(value, dict) else {}
    return {}
