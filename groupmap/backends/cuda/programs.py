"""The text of a CUDA program: some files of `source`, and the names that they leave to the host."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

from groupmap.backends._normal import NDTRI_RANGES
from groupmap.backends._ops import FORMULAS

SOURCE = Path(__file__).parent / "source"
HEADERS = ("numbers.cuh", "quantiles.cuh", "team.cuh")

Names = tuple[tuple[str, int | str], ...]


class Program(NamedTuple):
    """One kernel and what it is compiled with; equal ones are compiled once."""

    kernel: str
    files: tuple[str, ...]
    names: Names

    def text(self) -> str:
        """The CUDA C++ that makes this program."""
        defined = {**dict(_formula_names()), **dict(self.names)}
        lines = [f"#define {name} {value}" for name, value in defined.items()]
        return "\n".join([*lines, *(_file(each) for each in (*HEADERS, *self.files))])


class Numbers(NamedTuple):
    """How numbers of one dtype are told apart and put in order; see `source/numbers.cuh`."""

    bits: int
    kind: str
    mantissa: int
    infinity: int

    def as_values(self) -> Names:
        """The names under which a program reads such numbers."""
        top = 1 << (self.bits - 1)
        flip, top, negative_zero = {"f": (top - 1, top, top), "i": (0, top, 0), "u": (0, 0, 0)}[
            self.kind
        ]
        return (
            ("VALUE_BITS", self.bits),
            ("VALUE_MANTISSA", self.mantissa),
            ("INFINITY_BITS", _unsigned(self.infinity)),
            ("FLIP", _unsigned(flip)),
            ("TOP", _unsigned(top)),
            ("NEGATIVE_ZERO", _unsigned(negative_zero)),
        )

    def as_results(self) -> Names:
        """The names under which a program writes such numbers."""
        return (("OUT_BITS", self.bits), ("OUT_MANTISSA", self.mantissa))

    def as_table(self) -> Names:
        """The names under which a program looks such numbers up."""
        return (("TABLE_BITS", self.bits), ("TABLE_MANTISSA", self.mantissa))

    def as_weights(self) -> Names:
        """The names under which a program multiplies with such numbers, and adds them."""
        return (("WEIGHT_BITS", self.bits), ("WEIGHT_MANTISSA", self.mantissa))


_FLOATS = {
    "float16": Numbers(16, "f", 10, 0x7C00),
    "bfloat16": Numbers(16, "f", 7, 0x7F80),
    "float32": Numbers(32, "f", 23, 0x7F800000),
    "float64": Numbers(64, "f", 52, 0x7FF0000000000000),
}
_INTEGERS = {
    f"{sign}int{bits}": Numbers(bits, kind, 0, 0)
    for bits in (8, 16, 32, 64)
    for sign, kind in (("", "i"), ("u", "u"))
}


def numbers_of(dtype: object) -> Numbers | None:
    """The numbers of a dtype of PyTorch or CuPy; None of one that no kernel reads."""
    name = dtype.__name__ if isinstance(dtype, type) else str(dtype).rpartition(".")[2]
    return _FLOATS.get(name) or _INTEGERS.get(name)


def _unsigned(number: int) -> str:
    return f"{number:#x}ull"


@cache
def _formula_names() -> Names:
    kinds = tuple((f"FORMULA_{name.upper()}", kind) for kind, name in enumerate(FORMULAS))
    coefficients = tuple(
        (f"{where}_{part.upper()}", ", ".join(map(repr, getattr(rational, part))))
        for where, rational in NDTRI_RANGES.items()
        for part in ("numerator", "denominator")
    )
    return kinds + coefficients


@cache
def _file(name: str) -> str:
    return (SOURCE / name).read_text(encoding="utf-8")
