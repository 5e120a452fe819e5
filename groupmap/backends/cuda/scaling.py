"""y·weight + bias where something learns, and what passes back through it."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from groupmap.backends.cuda import launching
from groupmap.backends.cuda.launching import Place, Shape, rounded_up
from groupmap.backends.cuda.programs import Names, Numbers, Program

WARP = 32
THREADS, WARPS = 256, 8
ENTRIES_OF_BLOCK = 4096
LEAST_ROWS, MOST_BLOCKS = 32, 4096  # of columns that are summed up by one thread each
MOST_OF_WARP = 4096  # entries that share a weight


class Broadcast(NamedTuple):
    """Entry k of what is scaled has the (k // inner) mod size-th weight and bias."""

    total: int
    inner: int
    size: int


class Kinds(NamedTuple):
    """The numbers of y, of weight and bias, and of the result."""

    y: Numbers
    weights: Numbers
    results: Numbers


class Parts(NamedTuple):
    """How the sums over those that share a weight are shared out: ``(outer, size, chunks)``, or of
    columns ``(chunks, size)``, partial sums in order of memory."""

    outer: int
    chunks: int
    length: int


class Addresses(NamedTuple):
    """Where the arrays of `scale` lie; 0 for a weight or a bias that is not there."""

    y: int
    weight: int
    bias: int
    result: int


class BackwardAddresses(NamedTuple):
    """Likewise of `unscale`; 0 for results that are not wanted, too."""

    y: int
    grad: int
    weight: int
    passed: int
    of_weight: int
    of_bias: int


def scale(at: Addresses, of: Broadcast, kinds: Kinds, place: Place) -> None:
    """y·weight + bias."""
    names = (("WEIGHTED", int(at.weight != 0)), ("BIASED", int(at.bias != 0)), ("PASSES", 0))
    program = _program("scale_learning", kinds, THREADS, names)
    blocks = -(-of.total // ENTRIES_OF_BLOCK)
    arguments = (*at, of.total, of.inner, of.size, ENTRIES_OF_BLOCK)
    launching.launch(program, Shape(blocks, THREADS, 0), place, arguments)


def parts_for(of: Broadcast) -> Parts:
    """How many partial sums there are for each weight."""
    outer = of.total // (of.inner * of.size)
    if of.inner > 1:
        return Parts(outer, -(-of.inner // MOST_OF_WARP), MOST_OF_WARP)
    chunks = max(1, min(outer // LEAST_ROWS, MOST_BLOCKS // _blocks_across(of)))
    length = -(-outer // chunks)
    return Parts(outer, -(-outer // length), length)


def unscale(at: BackwardAddresses, of: Broadcast, kinds: Kinds, place: Place) -> None:
    """grad·weight, which is passed to y, and partial sums of grad·y and of grad."""
    parts = parts_for(of)
    sizes: tuple[int, ...]
    if of.inner > 1:
        kernel, threads, n_spans = "unscale_spans", THREADS, parts.outer * of.size
        blocks = -(-n_spans * parts.chunks // WARPS)
        sizes = (n_spans, of.size, of.inner, parts.length)
    else:
        kernel, threads = "unscale_columns", _threads_across(of)
        blocks = _blocks_across(of) * parts.chunks
        sizes = (parts.outer, of.size, parts.length)
    names = (("WEIGHTED", int(at.weight != 0)), ("BIASED", 0), ("PASSES", int(at.passed != 0)))
    program = _program(kernel, kinds, threads, names)
    launching.launch(program, Shape(blocks, threads, 0), place, (*at, *sizes))


def _threads_across(of: Broadcast) -> int:
    return min(THREADS, rounded_up(of.size, WARP))


def _blocks_across(of: Broadcast) -> int:
    return -(-of.size // _threads_across(of))


@cache
def _program(kernel: str, kinds: Kinds, threads: int, names: Names) -> Program:
    numbers = (
        *kinds.y.as_values(), *kinds.y.as_table(), *kinds.weights.as_weights(),
        *kinds.results.as_results(),
    )  # fmt: skip
    return Program(
        kernel, ("scale.cuh", "learned_scale.cu"), (*numbers, ("THREADS", threads), *names)
    )
