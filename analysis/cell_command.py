"""The command ``odyssey cell``."""

from pathlib import Path

from analysis.cell_card import Card, gradient_norms, measured
from search import cells
from search.base import files
from search.errors import UserError, visible
from search.expression import EquationError
from search.run.composition import Composed, Composer


def main(composed: Composed, composer: Composer) -> None:
    """``odyssey cell``: prints the cards of cells, or writes them as Markdown with their plots."""
    settings = composed.settings
    names = composer.options("variant") if settings["variants"] == ["all"] else settings["variants"]
    definitions = {name: composer.variant(name) for name in names}
    made = {name: cells.define(definition) for name, definition in definitions.items()}
    n_inputs, n_units = settings["n_inputs"], settings["hidden_size"]
    folder = None if settings["out"] is None else Path(settings["out"])
    for number, (name, cell) in enumerate(made.items()):
        norms = gradient_norms(cell, n_inputs, n_units, settings["seed"])
        time = measured(cell, n_inputs, n_units) if settings["measure"] else None
        card = Card(name, definitions[name], cell, n_inputs, n_units, norms, time)
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
