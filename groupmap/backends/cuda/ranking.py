"""Rank rows and write the values of a table at their ranks: by which kernels, with what room."""

from __future__ import annotations

from groupmap.backends.cuda import long_rows, plans, short_rows
from groupmap.backends.cuda.launching import Place
from groupmap.backends.cuda.programs import Numbers
from groupmap.backends.cuda.requests import Addresses, Request

LONGEST = 2**29  # so that doubled ranks are numbers of 32 bits


def fits(n: int, values: Numbers, device: int, *, ordered: bool) -> bool:
    """Whether a row of n entries fits into the shared memory of a block there."""
    return plans.plan_at(n, values, device, ordered=ordered) is not None


def scratch_bytes(request: Request, device: int, *, ordered: bool) -> tuple[int, int]:
    """What has to be lent to `map_rows`: so many bytes that are zero, and so many others."""
    if fits(request.n, request.values, device, ordered=ordered):
        return 0, 0
    return long_rows.scratch_bytes(request, device, ordered=ordered)


def map_rows(
    at: Addresses, request: Request, place: Place, *, zeros: int = 0, scratch: int = 0
) -> None:
    """``table[h]·weight + bias`` of each entry, and what else has an address.

    NaN where an entry is NaN or masked; its row evaluates the formula at its own n. The order of a
    row names the entries that count, ascending, and then −1 for each of the others.
    """
    ordered = request.tie_rule is None or at.order != 0
    plan = plans.plan_at(request.n, request.values, place.device, ordered=ordered)
    if plan is None:
        long_rows.map_rows(at, request, place, zeros, scratch, ordered=ordered)
    else:
        short_rows.map_rows(at, request, plan, place, ordered=ordered)
