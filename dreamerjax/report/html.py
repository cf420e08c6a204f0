"""HTML from small functions. Text is escaped where it becomes part of an element, unless it is HTML already."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

VOID = ("img", "meta")  # elements without content and without an end


class Html(str):
    """HTML; any other text is escaped when it is put into an element."""


def join(parts: Iterable[str]) -> Html:
    """One piece of HTML after the other."""
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts))


def element(name: str, /, *content: str, **attributes: str) -> Html:
    """An element. An attribute that is a word of Python's own has an underscore at its end: `class_`."""
    words = "".join(f' {key.rstrip("_")}="{escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{words}>" if name in VOID else f"<{name}{words}>{join(content)}</{name}>")


def section(title: str, *content: str) -> Html:
    """A part of the page with its heading."""
    return element("section", element("h2", title), *content)


def paragraph(*content: str, class_: str = "") -> Html:
    """A paragraph."""
    return element("p", *content, **({"class_": class_} if class_ else {}))


def marked(text: str) -> Html:
    """Text with Markdown's `code`."""
    return join(element("code", part) if place % 2 else part for place, part in enumerate(re.split("`", text)))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> Html:
    """A table, which scrolls by itself where the window is too narrow; with `numbers` all but the first column are numbers."""
    body = [element("tr", *(element("td", cell) for cell in row)) for row in rows]
    top = element("tr", *(element("th", name) for name in head))
    class_ = "numbers" if numbers else "words"
    content = element("table", element("thead", top), element("tbody", *body), class_=class_)
    return element("div", content, class_="wide")


def pairs(rows: Iterable[tuple[str, str]], *, long: bool = False) -> Html:
    """Names with what they stand for; `long` texts stand one below the other."""
    entries = (element("div", element("dt", name), element("dd", value)) for name, value in rows)
    return element("dl", *entries, class_="long" if long else "short")


def folded(title: str, *content: str) -> Html:
    """Content that a click on its title shows."""
    return element("details", element("summary", title), *content)


def listing(text: str) -> Html:
    """Text as it is, line by line."""
    return element("pre", element("code", text))


def data_uri(kind: str, content: bytes) -> str:
    """Content inside the page instead of in a file; `kind` is its media type."""
    return f"data:{kind};base64,{b64encode(content).decode()}"


def picture(kind: str, content: bytes, alt: str, class_: str) -> Html:
    """A picture, and in words what it shows."""
    return element("img", src=data_uri(kind, content), alt=alt, class_=class_)


def page(title: str, style: str, *content: str) -> Html:
    """The whole file."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(style)),
    )
    return join([Html("<!DOCTYPE html>\n"), element("html", head, element("body", element("main", *content)), lang="en"), "\n"])
