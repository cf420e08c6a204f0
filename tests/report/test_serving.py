"""The served report: what a browser gets, what it is refused, and how the server ends."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from subprocess import Popen
from urllib.parse import urlsplit

import pytest

from dreamerjax.config.cli import main
from dreamerjax.core.run_directory import RunDirectory
from dreamerjax.report import __main__
from tests.e2e import trials
from tests.experiment.fakes import fake_run, learning


class Browser:
    """Asks a server of this machine, each time anew."""

    def __init__(self, process: Popen[str]) -> None:
        assert process.stdout is not None
        self.said = process.stdout.readline()
        address = urlsplit(self.said.split()[0])
        assert address.hostname == "127.0.0.1"
        self.port = address.port

    def ask(self, path: str = "/", method: str = "GET", **headers: str) -> tuple[HTTPResponse, str]:
        """The response and its body."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=trials.PATIENCE)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=named)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response, body


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that has got to step 2,000."""
    return fake_run(tmp_path / "runs" / "a_run", learning(300.0))


@pytest.fixture
def served(run: Path) -> Iterator[tuple[Popen[str], Browser]]:
    """The command that serves the run, and who looks at it."""
    with trials.running("report", f"run={run}", "--serve", "port=0") as process:
        yield process, Browser(process)


def test_the_page_follows_the_run_until_ctrl_c(run: Path, served: tuple[Popen[str], Browser]) -> None:
    process, browser = served
    assert browser.said.endswith(f" follows {run}; Ctrl-C ends it\n")
    before = trials.content(run)
    response, page = browser.ask()
    assert (response.status, response.headers["Refresh"]) == (200, "5")
    assert response.headers["Content-Length"] == str(len(page.encode()))
    assert "killed after step 2,000" in page
    tag = response.headers["ETag"]
    assert browser.ask(If_None_Match=tag)[0].status == 304
    head, nothing = browser.ask(method="HEAD")
    assert (head.status, nothing, head.headers["Content-Length"]) == (200, "", response.headers["Content-Length"])
    assert trials.content(run) == before

    trainer = RunDirectory.open(run, lock=True)
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"env_step": 2500, "update": 625, "time": 250.0}) + '\n{"env_step": 30')  # a line half written
    response, page = browser.ask(If_None_Match=tag)
    assert response.status == 200
    assert "in progress, at step 2,500" in page
    trainer.close()
    assert "killed after step 2,500" in browser.ask(If_None_Match=response.headers["ETag"])[1]

    run.rename(run.with_name("moved"))
    response, body = browser.ask()
    assert (response.status, f"{run} is not there any more" in body, run.exists()) == (503, True, False)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=trials.PATIENCE) == ("", "")
    assert process.returncode == 0


@pytest.mark.parametrize("path", ["/config.yaml", "/../../../../etc/passwd", "/%2e%2e/secret", "//etc/passwd", "/media/", "*"])
def test_nothing_but_the_page_is_reached(path: str, served: tuple[Popen[str], Browser]) -> None:
    assert served[1].ask(path)[0].status == 404


def test_other_names_and_methods_are_refused(served: tuple[Popen[str], Browser]) -> None:
    browser = served[1]
    for name in ("localhost", "LOCALHOST:80", "127.0.0.1", "[::1]:1"):
        assert browser.ask(Host=name)[0].status == 200, name
    for name in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "[::1", "127.0.0.1@evil.example"):
        response, body = browser.ask(Host=name)
        assert (response.status, "step 2,000" in body) == (421, False), name
    for method in ("POST", "PUT", "DELETE"):
        assert browser.ask(method=method)[0].status == 501


def test_what_cannot_be_served_is_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*arguments: str) -> int:
        return main(__main__.run, [f"run={run}", "serve=true", *arguments], schema=__main__.ReportConfig)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert call(f"port={port}") == 1
    error = f"error: cannot serve at host=127.0.0.1 port={port}: Address already in use; port=0 takes a free one\n"
    assert capsys.readouterr().err == error
    assert call("port=0", "host=no.such.host.invalid") == 1
    assert capsys.readouterr().err.startswith("error: cannot serve at host=no.such.host.invalid port=0: ")
    assert call("port=99999") == 2
    assert "port" in capsys.readouterr().err
    assert call("output=page.html") == 2
    assert capsys.readouterr().err == "error: output= cannot be combined with serve=true: what is served is not written\n"
