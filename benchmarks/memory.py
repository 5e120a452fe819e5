"""``python -m benchmarks.memory``: how far a pass, forward or both ways, raises a process's memory.

Each case runs in a process of its own, after a first call that compiles, imports and warms up.
Linux only: it reads /proc.
"""

from __future__ import annotations

import subprocess
import sys

from rich.console import Console
from rich.progress import track
from rich.table import Table

SHAPES = ((128, 25_088), (8192, 768), (64, 262_144), (8, 4_000_000))
DTYPES = ("float32", "float64", "bfloat16")

CODE = """
import sys, torch, groupmap as gm
from pathlib import Path

def kibibytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])

rows, n, dtype = int(sys.argv[1]), int(sys.argv[2]), getattr(torch, sys.argv[3])

def work(x):
    y = gm.quantile_map(x)
    if x.requires_grad:
        y.backward(y.detach())
    return y

both = sys.argv[4] == "both"
work(torch.randn(4 + 2**14 // n, n).to(dtype).requires_grad_(both))
x = torch.randn(rows, n).to(dtype).requires_grad_(both)
Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
before = kibibytes("VmRSS")
y = work(x)
print(1024 * (kibibytes("VmHWM") - before))
"""


def bytes_above(rows: int, n: int, dtype: str, ways: str) -> int:
    """By how much the peak is above what the process had before, the input among it."""
    arguments = [sys.executable, "-c", CODE, str(rows), str(n), dtype, ways]
    return int(subprocess.check_output(arguments))


def main() -> None:
    table = Table(title="peak above the input, MiB")
    for heading in ("rows × n", "dtype", "output", "forward", "bound", "both ways"):
        table.add_column(heading, justify="right")
    cases = [(shape, dtype) for shape in SHAPES for dtype in DTYPES]
    for (rows, n), dtype in track(cases, "measuring"):
        output = rows * n * {"float32": 4, "float64": 8, "bfloat16": 2}[dtype]
        in_flight = 24 * min(rows * n, 2 * max(n, 2**15))  # of two threads
        forward, both = (bytes_above(rows, n, dtype, ways) for ways in ("forward", "both"))
        sizes = (output, forward, output + in_flight + 2**26, both)
        table.add_row(f"{rows} × {n}", dtype, *(f"{each / 2**20:.0f}" for each in sizes))
    Console().print(table)


if __name__ == "__main__":
    main()
