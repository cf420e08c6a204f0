"""What the hooks of the site make of a page."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("mkdocs")

from mkdocs.exceptions import PluginError

from tests import site_hooks


def test_links_to_modules_lead_into_the_reference() -> None:
    page = "[data.replay.Replay.sample](../dreamerjax/data/replay.py) [the loop](../dreamerjax/train.py)"
    expected = "[data.replay.Replay.sample][dreamerjax.data.replay.Replay.sample] [the loop][dreamerjax.train]"
    assert site_hooks.on_page_markdown(page) == expected
    assert site_hooks.on_page_markdown("[it](dreamerjax/agent/__init__.py)") == "[it][dreamerjax.agent]"
    private = "[agent.losses._sequences](../dreamerjax/agent/losses.py) [train.py](../dreamerjax/train.py)"
    expected = "[agent.losses._sequences][dreamerjax.agent.losses] [train.py][dreamerjax.train]"
    assert site_hooks.on_page_markdown(private) == expected
    kept = "[a test](../tests/test_package.py)\n```\n[x](../dreamerjax/train.py)\n- y\n```\n"
    assert site_hooks.on_page_markdown(kept) == kept


def test_a_list_may_follow_a_line() -> None:
    assert site_hooks.on_page_markdown("words:\n- one\n  more\n- two\n") == "words:\n\n- one\n  more\n- two\n"


@pytest.mark.parametrize(
    "element",
    [
        '<script src="https://cdn.example/x.js">',
        "<link rel=stylesheet href=//fonts.example/css>",
        '<img alt="" src="http://badge.example/x.svg">',
    ],
)
def test_a_page_that_needs_a_network_is_refused(element: str) -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="a.md"))
    with pytest.raises(PluginError, match=r"a\.md needs a network: "):
        site_hooks.on_post_page(f"<p>{element}</p>", page)
    local = '<a href="https://elsewhere.example">x</a><script src="assets/x.js"></script><link href="x.css">'
    assert site_hooks.on_post_page(local, page) == local
