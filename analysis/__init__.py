"""Results to tables and figures. Three layers that never mix: load, compute (`stats`, `compare`), draw."""

from analysis.compare import compare
from analysis.load import load, load_curves
from analysis.report import report

__all__ = ["compare", "load", "load_curves", "report"]
