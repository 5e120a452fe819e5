"""Arguments that count something."""

from __future__ import annotations

from operator import index


def checked_count(value: object, name: str, least: int = 1) -> int:
    """The value as an int, if it is one and not below the least."""
    message = f"{name}={value!r} must be an integer ≥ {least}."
    try:
        count = index(value)  # type: ignore[arg-type]  # whether it can is the question
    except TypeError:
        raise TypeError(message) from None
    if isinstance(value, bool):
        raise TypeError(message)
    if count < least:
        raise ValueError(message)
    return count
