"""Files that are written whole or not at all."""

from __future__ import annotations

import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def written_whole(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, which takes the place of `path` when all went well.

    Of a link, what it leads to is replaced; and the permissions of a file that was there stay.
    """
    try:
        place = path.resolve()
        mode = place.stat().st_mode if place.exists() else None
        if mode is not None and not stat.S_ISREG(mode):
            raise ValueError(f"{path}: cannot be written: it is there, and no file; name another.")
        unfinished = place.with_name(f".{place.name}.{secrets.token_hex(4)}.part")
        file = unfinished.open("xb")
    except OSError as error:
        raise ValueError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        with file:
            yield file
        if mode is not None:
            unfinished.chmod(stat.S_IMODE(mode))
        try:
            unfinished.replace(place)
        except OSError as error:
            raise ValueError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)
