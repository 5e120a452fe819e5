"""CUDA C++ kernels on the CPU: the very source of a kernel, without a GPU."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

AVAILABLE = shutil.which("g++") is not None

HERE = Path(__file__).parent
HEADER, RUNTIME = "cuda_on_cpu.hpp", "runtime.cpp"
COMPILER = ("g++", "-std=c++17", "-O1", "-fPIC", "-ffp-contract=off", "-w")
LINKER: tuple[str, ...] = ("-shared", "-Wl,--no-undefined")
if shutil.which("ld.gold"):  # which links a small kernel in a fourth of the time
    LINKER += ("-fuse-ld=gold",)

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
STATIC_SHARED = re.compile(r"(?<!extern )\b__shared__\b[^;]*;")

Extent = int | Sequence[int]


class EmulatedModule:
    """Compiled kernels, ready to launch."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))

    def launch(
        self,
        name: str,
        grid: Extent,
        block: Extent,
        shared_bytes: int,
        args: Sequence[ctypes._SimpleCData],
        seed: int = 0,
        switch_at_atomics: bool = False,
    ) -> None:
        """Run the kernel; seed orders its threads: 0 ascending, 1 descending, others at random."""
        needed, given = list(self._argument_bytes(name)), [ctypes.sizeof(arg) for arg in args]
        if needed != given:
            raise TypeError(f"{name} takes arguments of {needed} bytes, not of {given}")
        addresses = (ctypes.c_void_p * len(args))(*map(ctypes.addressof, args))
        message = ctypes.create_string_buffer(1024)
        failed = self._library[f"emulate_{name}"](
            _three(grid),
            _three(block),
            ctypes.c_uint(shared_bytes),
            addresses,
            ctypes.c_uint(seed),
            ctypes.c_int(switch_at_atomics),
            message,
            ctypes.c_uint(len(message)),
        )
        if failed:
            raise RuntimeError(f"{name}: {message.value.decode()}")

    def _argument_bytes(self, name: str) -> Iterator[int]:
        bytes_of_argument = self._library[f"bytes_of_argument_{name}"]
        position = 0
        while size := bytes_of_argument(ctypes.c_uint(position)):
            yield size
            position += 1


def compile(
    source: str, kernels: Sequence[str], defines: Mapping[str, str] | None = None
) -> EmulatedModule:
    """Compile the kernels of CUDA C++ source, or load what an earlier call made of them."""
    if static := STATIC_SHARED.search(COMMENT.sub("", source)):
        # g++ would take it for a variable of each thread.
        raise ValueError(f"shared memory must be dynamic, that is extern: {static[0]}")
    text = "\n".join(
        ['#line 1 "kernels.cu"', source, *(f"EMULATED_KERNEL({name})" for name in kernels), ""]
    )
    options = [f"-D{name}={value}" for name, value in (defines or {}).items()]
    folder = Path(tempfile.gettempdir()) / f"groupmap-cuda-emulation-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{_key(_toolchain(), options, text)}.so"
    if not library.exists():
        header = _compiled_once(folder, HEADER, "gch", ["-x", "c++-header"])
        runtime = _compiled_once(folder, RUNTIME, "o", ["-c"])
        paths = ["-iquote", header.parent, "-iquote", HERE, "-include", HEADER]
        command = [*COMPILER, *options, *paths, "-x", "c++", "-", "-x", "none", runtime, *LINKER]
        _compile(command, text, library)
    return EmulatedModule(library)


def _compiled_once(folder: Path, name: str, ending: str, how: Sequence[str]) -> Path:
    """What the compiler has made of a file of the emulation, which takes it as long as a kernel.
    Beside a header it looks for a file of that name and ending."""
    compiled = folder / _toolchain() / f"{name}.{ending}"
    if not compiled.exists():
        compiled.parent.mkdir(exist_ok=True)
        _compile([*COMPILER, *how, HERE / name], "", compiled)
    return compiled


def _compile(command: Sequence[str | Path], text: str, result: Path) -> None:
    with tempfile.TemporaryDirectory(dir=result.parent) as scratch:
        unfinished = Path(scratch) / result.name
        done = subprocess.run(
            [*command, "-o", unfinished],
            input=text,
            capture_output=True,
            encoding="utf-8",
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"g++ refuses the kernels:\n{done.stderr}")
        # Of several processes which compile the same, each replaces the result as a whole.
        unfinished.replace(result)


@cache
def _toolchain() -> str:
    """What makes a library of the same text another one."""
    version = subprocess.run([COMPILER[0], "-v"], capture_output=True, text=True, check=True).stderr
    files = sorted([*HERE.glob("*.hpp"), HERE / RUNTIME])
    return _key(version, COMPILER, LINKER, [each.read_text(encoding="utf-8") for each in files])


def _key(*of: object) -> str:
    return hashlib.sha256(repr(of).encode()).hexdigest()[:32]


def _three(extent: Extent) -> ctypes.Array[ctypes.c_uint]:
    sizes = [extent] if isinstance(extent, int) else list(extent)
    return (ctypes.c_uint * 3)(*sizes, *[1] * (3 - len(sizes)))
