"""The command ``odyssey cell``."""

from pathlib import Path

from analysis import cell_time
from analysis.cell_card import Card, gradient_norms
from search import cells
from search.base import files
from search.cells import Cell
from search.errors import UserError, expect, visible
from search.expression import EquationError
from search.run.composition import Composed, Composer


def main(composed: Composed, composer: Composer) -> None:
    """``odyssey cell``: prints the cards of cells, or writes them as Markdown with their plots; of several that are
    measured also a table of their times."""
    settings = composed.settings
    names = composer.options("variant") if settings["variants"] == ["all"] else settings["variants"]
    definitions = {name: composer.variant(name) for name in names}
    made = {name: cells.define(definition) for name, definition in definitions.items()}
    n_inputs, n_units = settings["n_inputs"], settings["hidden_size"]
    folder = None if settings["out"] is None else Path(settings["out"])
    expect(folder is None or folder.is_dir() or not folder.exists(), "out", folder, "a folder, or a name that is free")
    timed: dict[str, tuple[Cell, cell_time.Timing]] = {}
    for number, (name, cell) in enumerate(made.items()):
        norms = gradient_norms(cell, n_inputs, n_units, settings["seed"])
        timing = cell_time.timing(cell, n_inputs, n_units) if settings["measure"] else None
        if timing:
            timed[name] = cell, timing
        card = Card(name, definitions[name], cell, n_inputs, n_units, norms, timing)
        try:
            if folder:
                from analysis import cell_figure, style  # which the terminal need not wait for

                title = f"{name}, {n_units} units"
                files.write(
                    folder / f"{name}.png", style.files(cell_figure.draw_gradient(title, norms), ("png",))["png"]
                )
                files.write(folder / f"{name}.md", card.markdown())
                print(folder / f"{name}.md")
            else:
                print("\n".join(map(visible, [*([""] if number else []), *card.text()])))
        except EquationError as error:
            raise UserError(str(error)) from error
    if len(timed) > 1:
        rows = cell_time.table(timed)
        if folder:
            files.write(folder / "times.md", cell_time.markdown(rows, f"M = {n_inputs}, N = {n_units}"))
            print(folder / "times.md")
        else:
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            print("")
            for row in rows:
                print(visible("  ".join(f"{word:{width}}" for word, width in zip(row, widths, strict=True)).rstrip()))
