"""The files of a report: tables and figures in every format."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pandas as pd

from analysis import style, table_text


@dataclass(frozen=True)
class Drawn:
    """A figure.

    Attributes:
        name: of its files, without ending.
        title, caption: text.
        draw: makes the figure.
    """

    name: str
    title: str
    caption: str
    draw: style.Draw


@dataclass
class Contents:
    """The files of a report, by name.

    Attributes:
        files: content by name.
        figures: in the order of the captions.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    figures: list[Drawn] = field(default_factory=list)
    _begun: int = 0
    _drawing: Iterator[tuple[str, dict[str, bytes]]] = field(default_factory=lambda: iter(()))

    def frame(self, name: str, frame: pd.DataFrame) -> None:
        """Adds a table at full precision."""
        self.files[f"{name}.csv"] = frame.to_csv(index=False).encode()

    def table(self, table: table_text.Table) -> table_text.Table:
        """Adds a table as Markdown and as LaTeX."""
        self.files[f"{table.name}.md"] = table_text.markdown(table).encode()
        self.files[f"{table.name}.tex"] = table_text.latex(table).encode()
        return table

    def figure(self, name: str, title: str, caption: str, frame: pd.DataFrame, draw: style.Draw) -> None:
        """Adds a figure, to be made by `draw`, and the numbers it draws."""
        self.frame(name, frame)
        self.figures.append(Drawn(name, title, caption, draw))

    def begin(self) -> None:
        """Begins to draw the figures that were added since the last call, which is what takes the time."""
        new = {drawn.name: drawn.draw for drawn in self.figures[self._begun :]}
        self._begun += len(new)
        self._drawing = itertools.chain(self._drawing, style.drawn(new))

    def end(self, note: Callable[[str], None]) -> None:
        """Adds the files of all figures; `note` is told of each."""
        self.begin()
        for place, (name, made) in enumerate(self._drawing, 1):
            self.files |= {f"{name}.{kind}": content for kind, content in made.items()}
            note(f"figure {place} of {len(self.figures)}: {name}")
        self.files["captions.md"] = "\n".join(map(_caption, self.figures)).encode()


def _caption(drawn: Drawn) -> str:
    title, caption = (table_text.plain_markdown(text) for text in (drawn.title, drawn.caption))
    return f"## {drawn.name}\n\n**{title}.** {caption}\n"
