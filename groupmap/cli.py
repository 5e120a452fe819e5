"""The command: ``groupmap demo`` and ``groupmap map``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tokenize import TokenError
from typing import NoReturn

import numpy as np

from groupmap import __version__
from groupmap._typing import Array
from groupmap.files import written_whole
from groupmap.functional import group_map, quantile_map
from groupmap.positions import POSITIONS
from groupmap.ranks import COUNTING_TIES
from groupmap.targets import NAMED_TARGETS

BAD_INPUT = 2
# What numpy raises for a .npy file that is none: besides the obvious, of headers that do not parse
# and of shapes that fit no memory.
BAD_CONTENTS = (ValueError, EOFError, SyntaxError, TokenError, OverflowError, MemoryError)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage is there for the asking."""

    def error(self, message: str) -> NoReturn:
        self.exit(BAD_INPUT, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="groupmap", description="Make data follow a distribution: y = Q(F(x)).")
    parser.add_argument("--version", action="version", version=f"groupmap {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)

    demo = commands.add_parser("demo", help="map a photograph, print a table, draw a picture")
    demo.add_argument(
        "--output", type=Path, default=Path("groupmap-demo.png"), help="the picture to write"
    )

    mapping = commands.add_parser(
        "map", help="map the array of a .npy file", usage="%(prog)s IN OUT [options]"
    )
    mapping.add_argument("input", type=Path, metavar="IN", help="a .npy file of real numbers")
    mapping.add_argument("output", type=Path, metavar="OUT", help="the .npy file to write")
    mapping.add_argument(
        "--target", choices=sorted(NAMED_TARGETS), default="gaussian", help="default: gaussian"
    )
    what_is_a_group = mapping.add_mutually_exclusive_group()
    what_is_a_group.add_argument(
        "--groups", type=int, help="map (N, C, ...) in so many equal blocks of channels"
    )
    what_is_a_group.add_argument(
        "--axis",
        type=_axis,
        nargs="+",
        default=[-1],
        help="the axes that form a group, or all (default: -1)",
    )
    mapping.add_argument(
        "--positions",
        choices=sorted(POSITIONS),
        default="linear",
        help="where ranks lie in [0, 1], by numpy.quantile's names (default: linear)",
    )
    mapping.add_argument(
        "--ties",
        choices=sorted({*COUNTING_TIES, "ordinal"}),
        default="average",
        help="which rank equal values get (default: average)",
    )
    return parser


def _axis(text: str) -> int | None:
    """An axis; None pools all."""
    try:
        return None if text == "all" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no axis; give integers, or all, and IN and OUT before the options"
        ) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status, which is 2 on bad input."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "demo":
            from groupmap.demo import run_demo

            _check_picture(options.output)
            run_demo(options.output)
        else:
            _map_file(options)
    except (ValueError, TypeError, EOFError, OSError, ModuleNotFoundError) as error:
        message = " ".join(str(error).split())
        print(f"groupmap {options.command}: error: {message}", file=sys.stderr)
        return BAD_INPUT
    return 0


def _check_picture(path: Path) -> None:
    if path.suffix.lower() not in ("", ".png"):
        raise ValueError(f"{path}: the picture is a PNG; name it {path.with_suffix('.png').name}.")


def _map_file(options: argparse.Namespace) -> None:
    x = _load(options.input)
    rule = {"positions": options.positions, "ties": options.ties}
    try:
        if options.groups is None:
            y = quantile_map(x, options.target, axis=_axes(options.axis, x), **rule)
        else:
            y = group_map(x, options.groups, target_quantiles=options.target, **rule)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{options.input}: {error}") from error
    with written_whole(options.output) as file:
        np.save(file, y, allow_pickle=False)
    print(f"{options.output}: {y.dtype} {y.shape}, {options.target}")


def _axes(given: list[int | None], x: Array) -> list[int] | None:
    axes = [axis for axis in given if axis is not None]
    if not axes:
        return None
    if len(axes) < len(given):
        raise ValueError("--axis all pools all axes; leave the others out.")
    if x.ndim == 0:
        raise ValueError("the array has no axes; pass --axis all.")
    return axes


def _load(path: Path) -> Array:
    try:
        with path.open("rb") as file:
            x = np.lib.format.read_array(file, allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from error
    except BAD_CONTENTS as error:
        raise ValueError(
            f"{path}: not a whole .npy file of numbers ({error}); write one with numpy.save."
        ) from error
    return x
