"""``python -m benchmarks.import_time``: seconds of `import groupmap`, and of NumPy within it."""

from __future__ import annotations

import statistics
import subprocess
import sys

CODE = """
import time
start = time.perf_counter(); import numpy
middle = time.perf_counter(); import groupmap
end = time.perf_counter()
print(middle - start, end - start)
"""

if __name__ == "__main__":
    runs = [
        tuple(map(float, subprocess.check_output([sys.executable, "-c", CODE]).split()))
        for _ in range(15)
    ]
    numpy_part, whole = (statistics.median(times) for times in zip(*runs, strict=True))
    print(f"import groupmap: {whole:.3f} s, of which numpy {numpy_part:.3f} s (median of 15)")
