"""The cells, by name."""

from importlib import resources
from typing import Any

import yaml

from search.cells.cell import Cell, Preactivations, check
from search.cells.clockwork import Clockwork
from search.cells.cornn import CoRNN
from search.cells.depth_gated import DepthGatedLSTM
from search.cells.grid import GridLSTM
from search.cells.gru import GRU
from search.cells.hgrn import HGRN
from search.cells.indrnn import IndRNN
from search.cells.layer_norm import LayerNormLSTM
from search.cells.lem import LEM
from search.cells.lru import LRU
from search.cells.lstm import LSTM
from search.cells.mgu import MGU
from search.cells.min_rnns import MinGRU, MinLSTM
from search.cells.mut import MUT1, MUT2, MUT3
from search.cells.ran import RAN
from search.cells.rnn import IRNN, RNN
from search.cells.slstm import SLSTM
from search.cells.sru import SRU
from search.cells.star import STAR
from search.cells.text import define as define_text
from search.cells.unicornn import UnICORNN
from search.errors import UserError
from search.own import explained, imported, toggles

__all__ = [
    "GRU",
    "HGRN",
    "IRNN",
    "LEM",
    "LRU",
    "LSTM",
    "MGU",
    "MUT1",
    "MUT2",
    "MUT3",
    "RAN",
    "RNN",
    "SLSTM",
    "SRU",
    "STAR",
    "Cell",
    "Clockwork",
    "CoRNN",
    "DepthGatedLSTM",
    "GridLSTM",
    "IndRNN",
    "LayerNormLSTM",
    "MinGRU",
    "MinLSTM",
    "Preactivations",
    "UnICORNN",
    "check",
    "define",
    "get",
    "is_own",
    "toggles",
    "variants",
]

_CELLS: dict[str, type[Cell]] = {
    "lstm": LSTM,
    "gru": GRU,
    "rnn": RNN,
    "irnn": IRNN,
    "mut1": MUT1,
    "mut2": MUT2,
    "mut3": MUT3,
    "mgu": MGU,
    "mingru": MinGRU,
    "minlstm": MinLSTM,
    "indrnn": IndRNN,
    "ran": RAN,
    "depth_gated": DepthGatedLSTM,
    "grid": GridLSTM,
    "layer_norm": LayerNormLSTM,
    "star": STAR,
    "sru": SRU,
    "lem": LEM,
    "cornn": CoRNN,
    "unicornn": UnICORNN,
    "lru": LRU,
    "slstm": SLSTM,
    "hgrn": HGRN,
    "clockwork": Clockwork,
}


def variants() -> dict[str, dict[str, Any]]:
    """The variants that come with the project, ``{name: {"cell": ..., toggle: value}}``."""
    files = resources.files("configs").joinpath("variant").iterdir()
    return {f.name.removesuffix(".yaml"): yaml.safe_load(f.read_text()) for f in files if f.name.endswith(".yaml")}


def get(name: str, **toggles: Any) -> Cell:
    """A cell by name.

    Args:
        name: a variant (``vanilla``, ``cifg``, ...), a cell (``lstm``, ``gru``, ``rnn``, ...), or the
            import path of a `Cell` subclass of your own (``my_package.my_module.MyCell``).
        toggles: fields of the cell, on top of those of the variant.

    Raises:
        UserError: no such cell or toggle, a value that is not legal, or equations that are not (see `check`).
    """
    if name in _CELLS or "." in name:
        return define({"cell": name} | toggles)
    known = variants()
    if name not in known:
        names = ", ".join(sorted({*known, *_CELLS}))
        raise UserError(f"{name}: no such cell; expected one of {names}, or package.module.Class")
    return define(known[name] | toggles)


def define(definition: dict[str, Any]) -> Cell:
    """A cell by its definition, which is what a variant file holds: ``{"cell": name, toggle: value, ...}``, or its
    equations as text, ``{"equations": text, ...}`` (see `search.cells.text.define`).
    """
    if "equations" in definition:
        return define_text(definition)
    values = dict(definition)
    name = values.pop("cell", None)
    if not isinstance(name, str):
        raise UserError(f"cell={name}: expected one of {', '.join(_CELLS)}, or package.module.Class")
    kind = _CELLS.get(name) or imported("cell", name, Cell, "search.cells.Cell", _CELLS)
    legal = toggles(kind)
    for key in values:
        if key not in legal:
            raise UserError(f"{key}: {name} has no such toggle; expected one of {', '.join(legal) or '(none)'}")
    with explained(kind, "__init__"):
        cell = kind(**values)
    return check(cell)


def is_own(definition: dict[str, Any]) -> bool:
    """Whether a variant is of a cell in a module of the user's, which to define is to run."""
    return "equations" not in definition and definition.get("cell") not in _CELLS
