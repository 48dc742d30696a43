"""The files of a report: tables and figures in every format, and the page that shows them."""

import base64
import hashlib
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from analysis import style, tables

NATURAL, SMALLEST = 1.35, 1.0  # size of a figure on the page to that in print: at most, and before it scrolls


@dataclass(frozen=True)
class Drawn:
    """A figure of the page.

    Attributes:
        name: of its files, without ending.
        title, caption: text.
        section: of the page: ``lead``, ``importance`` or ``figures``.
        figure: to be drawn.
    """

    name: str
    title: str
    caption: str
    section: str
    figure: Figure


@dataclass
class Contents:
    """The files of a report, by name, and what of them the page shows.

    Attributes:
        files: content by name.
        figures: in the order of the page.
        svg: of each figure by name, once `end` was called, to stand in HTML.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    figures: list[Drawn] = field(default_factory=list)
    svg: dict[str, Markup] = field(default_factory=dict)
    _begun: int = 0
    _drawing: Iterator[tuple[str, dict[str, bytes]]] = field(default_factory=lambda: iter(()))

    def frame(self, name: str, frame: pd.DataFrame) -> None:
        """Adds a table at full precision."""
        self.files[f"{name}.csv"] = frame.to_csv(index=False).encode()

    def table(self, table: tables.Table) -> tables.Table:
        """Adds a table as Markdown and as LaTeX."""
        self.files[f"{table.name}.md"] = tables.markdown(table).encode()
        self.files[f"{table.name}.tex"] = tables.latex(table).encode()
        return table

    def figure(self, name: str, title: str, caption: str, frame: pd.DataFrame, figure: Figure, section: str) -> None:
        """Adds a figure, and the numbers it draws."""
        self.frame(name, frame)
        self.figures.append(Drawn(name, title, caption, section, figure))

    def begin(self) -> None:
        """Begins to draw the figures that were added since the last call, which is what takes the time."""
        new = {drawn.name: drawn.figure for drawn in self.figures[self._begun :]}
        self._begun += len(new)
        self._drawing = itertools.chain(self._drawing, style.drawn(new))

    def end(self, note: Callable[[str], None]) -> None:
        """Adds the files of all figures; `note` is told of each."""
        self.begin()
        for drawn, (name, made) in zip(self.figures, self._drawing, strict=True):
            self.files |= {f"{name}.{kind}": content for kind, content in made.items()}
            self.svg[name] = inline(made["svg"], name, f"{drawn.title}. {drawn.caption}")
            note(f"figure {len(self.svg)} of {len(self.figures)}: {name}")
        self.files["captions.md"] = "\n".join(map(_caption, self.figures)).encode()


def render(contents: Contents, **shown: Any) -> bytes:
    """The page, ``report.html`` filled in: one file that needs no other.

    Args:
        contents: drawn.
        shown: what else the template asks for.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["sha256"] = lambda text: base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()
    environment.filters["groups"] = lambda table: tables.groups(table.headings)
    return environment.get_template("report.html").render(contents=contents, **shown).encode()


def inline(svg: bytes, name: str, text: str) -> Markup:
    """An SVG file as an element of a page: its ids unlike those of other figures, and a text for who cannot see it.

    Args:
        svg: of matplotlib.
        name: unique on the page.
        text: what it shows.
    """
    drawing = svg.decode()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", drawing, flags=re.DOTALL)
    prefix = re.sub(r"\W", "-", name)
    drawing = re.sub(r'(?<=\sid=")(?=[^"])|(?<=href="#)|(?<=url\(#)', f"{prefix}-", drawing)
    opening = re.match(r"<svg[^>]*>", drawing)
    assert opening
    width = re.search(r'width="([\d.]+)pt"', opening[0])
    box = re.search(r'viewBox="[^"]*"', opening[0])
    assert width and box
    natural = float(width[1]) / 72 * 2.54
    size = f"max-width:{NATURAL * natural:.1f}cm;min-width:{SMALLEST * natural:.1f}cm"
    names = f'{box[0]} style="{size}" role="img" aria-label="{escape(text)}"'
    return Markup(f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {names}>{drawing[opening.end() :]}')


def _caption(drawn: Drawn) -> str:
    title, caption = (tables.plain_markdown(text) for text in (drawn.title, drawn.caption))
    return f"## {drawn.name}\n\n**{title}.** {caption}\n"
