"""How far SyncBatchMap(num_knots=…) is from the exact one: python -m benchmarks.sync

Each process has its own batch of 64 values a channel and sample, from distributions that differ
from process to process: the hard case, since the knots of one say nothing of another.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

import groupmap as gm

CHANNELS, SAMPLES, LENGTH = 8, 64, 64
KNOTS = (9, 17, 33, 65, 129, 257)


def batch(rank: int) -> tuple[Tensor, Tensor]:
    """A process's values, and dL/dy; the further the rank, the further and wider the values."""
    generator = torch.Generator().manual_seed(rank)
    shape = (SAMPLES, CHANNELS, LENGTH)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    x[:, CHANNELS // 2 :] = x[:, CHANNELS // 2 :].exp()  # log-normal ones
    return x * (1.0 + 0.2 * rank) + 0.3 * rank, torch.randn(shape, generator=generator).double()


def mapped(num_knots: int | None, x: Tensor, seed: Tensor, target: str) -> tuple[Tensor, Tensor]:
    layer = gm.SyncBatchMap(CHANNELS, num_knots=num_knots, target_quantiles=target, affine=False)
    x = x.clone().requires_grad_()
    y = layer(x)
    y.backward(seed)
    return y.detach(), x.grad


def errors(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world
    )
    x, seed = batch(rank)
    p, _ = mapped(None, x, seed, "uniform")
    _, grad = mapped(None, x, seed, "gaussian")
    found = {}
    for num_knots in KNOTS:
        near_p, _ = mapped(num_knots, x, seed, "uniform")
        _, near_grad = mapped(num_knots, x, seed, "gaussian")
        off = (near_p - p).abs()
        cosine = torch.nn.functional.cosine_similarity(near_grad.ravel(), grad.ravel(), dim=0)
        found[num_knots] = (off.max().item(), off.mean().item(), cosine.item())
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
    os._exit(0)  # gloo's threads at times outlive their group, and then abort the process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    options = parser.parse_args()
    table = Table(
        "processes", "knots", "numbers sent a channel", "of the exact one's", "greatest error of p",
        "mean error of p", "cosine of the gradients",
    )  # fmt: skip
    for world in track(options.processes, "running processes"):
        with tempfile.TemporaryDirectory() as folder:
            torch.multiprocessing.spawn(errors, args=(world, folder), nprocs=world)
            found = [torch.load(Path(folder) / f"{rank}.pt") for rank in range(world)]
        for num_knots in KNOTS:
            of_all = [each[num_knots] for each in found]
            greatest, mean, cosine = zip(*of_all, strict=True)
            table.add_row(
                str(world), str(num_knots), str(num_knots + 1),
                f"{(num_knots + 1) / (SAMPLES * LENGTH):.1%}", f"{max(greatest):.4f}",
                f"{sum(mean) / world:.5f}", f"{min(cosine):.4f}",
            )  # fmt: skip
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
