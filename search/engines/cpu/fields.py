"""The records of `search.engines.cpu.layout`, as kernels read them."""

from llvmlite import ir

from search.engines.cpu.llvm import DOUBLE, INT, POINTER, Builder


class Fields:
    """A record in memory, read word by word; the words that are read do not change during a call."""

    def __init__(self, b: Builder, start: ir.Value, fields: tuple[str, ...]):
        self._b, self.start, self._fields = b, start, fields

    def _word(self, name: str, kind: ir.Type) -> ir.Value:
        place = self._b.const(self._fields.index(name))
        word = self._b.load(self._place(place), typ=kind, align=8)
        word.set_metadata("invariant.load", self._b.module.add_metadata([]))
        return word

    def _place(self, place: ir.Value) -> ir.Value:
        return self._b.gep(self.start, [place], source_etype=INT)

    def address(self, name: str) -> ir.Value:
        return self._place(self._b.const(self._fields.index(name)))

    def size(self, name: str) -> ir.Value:
        return self._word(name, INT)

    def pointer(self, name: str) -> ir.Value:
        return self._word(name, POINTER)

    def real(self, name: str) -> ir.Value:
        value = self._word(name, DOUBLE)
        return value if self._b.target.dtype == "float64" else self._b.fptrunc(value, self._b.target.real)
