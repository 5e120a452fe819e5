"""What goes wrong must not end a run: it is said in a line, and what it has left is given back."""

from __future__ import annotations

import gc
import sys
from contextlib import suppress

import torch


class BrokenPromiseError(Exception):
    """A promise that is not kept."""


def in_a_line(error: Exception) -> str:
    """The kind of an error, and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def tidy() -> None:
    """Give back what the last case has left with the allocators."""
    gc.collect()
    with suppress(RuntimeError):  # of a case that has failed already
        torch.cuda.empty_cache()
    if "cupy" in sys.modules:
        sys.modules["cupy"].get_default_memory_pool().free_all_blocks()
