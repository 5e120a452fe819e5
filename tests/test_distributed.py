"""Several gloo processes get what one process gets for the whole batch; SyncBatchMap, DDP, FSDP."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import pytest

import groupmap as gm

torch = pytest.importorskip("torch")

CHANNELS, LENGTH = 3, 7
SIZES = {2: (3, 5), 4: (2, 0, 5, 1)}  # of the batches; one of them is empty


class Learnable(torch.nn.Module):
    """Q(p) = scale·p."""

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, p):
        return self.scale * p


CASES = {
    "plain": {},
    "affine": {"gradient": "affine"},
    "ties": {"ties": "ordinal", "momentum": None},
    "learnable": {"target_quantiles": "learnable"},
    "a-channel": {"target_quantiles": ["uniform", "gaussian", "cauchy"]},
    "untracked": {"track_running_stats": False},
    "random": {"ties": "random"},
    "masked": {},
    "bfloat16": {},
}
KNOTS = {"knots": {"num_knots": 65}, "knots-masked": {"num_knots": 65}}


def make(case, cls=gm.SyncBatchMap):
    options = dict({**CASES, **KNOTS}[case])
    if cls is not gm.SyncBatchMap:
        options.pop("num_knots", None)
    if options.get("target_quantiles") == "learnable":
        options["target_quantiles"] = Learnable()
    layer = cls(CHANNELS, dtype=torch.float64, **options)
    if case in KNOTS:
        layer.set_running_moments(0.0, 1.0)  # which a batch moves by momentum, and does not replace
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, -2.0, 0.5]))
        layer.bias.copy_(torch.tensor([0.0, 1.0, 5.0]))
    return layer


def batch(case, size, seed=1):
    """The whole batch, a mask of it, and dL/dy."""
    generator = torch.Generator().manual_seed(seed)
    length = 2000 if case in KNOTS else LENGTH
    x = torch.randn(size, CHANNELS, length, dtype=torch.float64, generator=generator)
    if case in ("ties", "random"):
        x = x.round()
    if case == "bfloat16":
        x = x.bfloat16()
    mask = torch.rand(size, 1, length, generator=generator) < 0.7
    seed_grad = torch.randn(x.shape, dtype=torch.float64, generator=generator).to(x.dtype)
    return x, mask if "masked" in case else None, seed_grad


def found(layer, x, mask, seed_grad):
    """What a process sees of a step of training, and of evaluation."""
    x = x.clone().requires_grad_()
    y = layer(x, where=mask)
    y.backward(seed_grad)
    result = {"y": y.detach(), "x.grad": x.grad}
    result |= {f"grad.{name}": each.grad for name, each in layer.named_parameters()}
    result |= {name: each.clone() for name, each in layer.named_buffers()}
    result["eval"] = layer.eval()(x, where=mask).detach()
    return result


def part(tensor, sizes, rank):
    begin = sum(sizes[:rank])
    return None if tensor is None else tensor[begin : begin + sizes[rank]]


def one_of_many(rank, world, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world
    )
    results = {}
    for case in {**CASES, **KNOTS}:
        whole = batch(case, sum(SIZES[world]))
        torch.manual_seed(100 + rank)
        own = (part(each, SIZES[world], rank) for each in whole)
        results[case] = found(make(case), *own)
    for case, options in ODD.items():
        results[case] = odd_step(rank, **options)
    results["double"] = double_backward(rank)
    results["ddp"] = {name: ddp_gradients(rank, world, *each) for name, each in TRAINED.items()}
    results["fsdp"] = fsdp_step(world)
    results["shards"] = {name: maps_of_shards(world, *each) for name, each in SHARDED.items()}
    torch.save(results, Path(folder) / f"{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    os._exit(0)  # gloo's threads at times outlive their group, and then abort the process


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv1d(2, CHANNELS, 3), gm.BatchMap1d(CHANNELS, target_quantiles=Learnable()),
        torch.nn.ReLU(), torch.nn.Conv1d(CHANNELS, 1, 3),
    ).double()  # fmt: skip


def images():
    return torch.randn(8, 2, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def network_of_samples():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(6, 12), gm.LayerMap(12), torch.nn.ReLU(), torch.nn.Linear(12, 3)
    ).double()


def samples():
    return torch.randn(8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


TRAINED = {"batches": (network, images), "samples": (network_of_samples, samples)}


def ddp_gradients(rank, world, make, data):
    model = gm.SyncBatchMap.convert_sync_batchmap(make())
    model = torch.nn.parallel.DistributedDataParallel(model)
    share = 8 // world
    model(data()[share * rank : share * (rank + 1)]).square().mean().backward()
    return {name: each.grad for name, each in model.module.named_parameters()}


# Layers, the shape of their input, and the axis of which each process has a part, if any.
SHARDED = {
    "tokens": (lambda: gm.LayerMap(16), (3, 5, 16), 1),
    "samples": (lambda: gm.LayerMap((5, 16), bias=False), (5, 5, 16), 0),
    "copies": (lambda: gm.LayerMap(16, gradient="affine"), (3, 5, 16), None),
    "groups": (lambda: gm.GroupMap(2, 4, target_quantiles=torch.arange(7.0)), (5, 4, 6), 0),
    "masked": (lambda: gm.GroupMap(2, 4), (5, 4, 6), 0),
    "map": (lambda: gm.Map(2, 4, "uniform"), (6, 4, 6), 0),
    "instances": (lambda: gm.InstanceMap1d(4, affine=True), (5, 4, 6), 0),
}


def maps_of_shards(world, make, shape, axis):
    """A step of a layer on a DTensor, and on the whole tensor; put together again."""
    from torch.distributed.tensor import (
        Replicate,
        Shard,
        distribute_module,
        distribute_tensor,
        init_device_mesh,
    )

    mesh = init_device_mesh("cpu", (world,))
    placements = [Replicate() if axis is None else Shard(axis)]
    torch.manual_seed(0)
    layer, x, seed_grad = make(), torch.randn(shape), torch.randn(shape)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    mask = torch.rand(shape[0], 1, shape[2]) < 0.7 if make is SHARDED["masked"][0] else None
    steps = []
    for is_whole in (True, False):
        leaf, grad, where = x, seed_grad, mask
        if not is_whole:
            distribute_module(layer.requires_grad_(), mesh)
            leaf, grad = (distribute_tensor(each, mesh, placements) for each in (x, seed_grad))
            where = None if mask is None else distribute_tensor(mask, mesh)
        leaf = leaf.detach().requires_grad_()
        layer.zero_grad()
        y = layer(leaf, where=where)
        y.backward(grad)
        step = [y.detach(), leaf.grad, *(each.grad for each in layer.parameters())]
        if not is_whole:
            assert all(each.placements == (*placements,) for each in step[:2])
            step = [each.full_tensor() for each in step]
        steps.append([each.clone() for each in step])
    return steps


# What (N, C) inputs, channels_last, batches of one, and knots of an empty batch go through.
ODD = {
    "2-D": {"shape": (4, 3)},
    "2-D-knots": {"shape": (4, 3), "num_knots": 5},
    "channels-last": {"shape": (2, 3, 4, 5), "num_knots": 5},
    "one": {"shape": (1, 3)},
    "one-knots": {"shape": (1, 3), "num_knots": 5},
}


def odd_batch(rank, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(rank))
    return x.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else x


def odd_step(rank, shape, num_knots=None):
    layer = gm.SyncBatchMap(3, num_knots=num_knots, momentum=1.0)
    x = odd_batch(rank, shape).requires_grad_()
    y = layer(x)
    y.sum().backward()
    assert x.grad.shape == shape
    return {"y": y.detach(), "running": layer.running_quantiles.clone()}


def double_backward(rank):
    """The gradient of a gradient's square, by this process's dL/dy."""
    x = odd_batch(rank, (4, 3)).double().requires_grad_()
    seed = torch.randn(4, 3, generator=torch.Generator().manual_seed(50 + rank)).double()
    seed.requires_grad_()
    layer = gm.SyncBatchMap(3, dtype=torch.float64)
    (grad,) = torch.autograd.grad(layer(x), x, seed, create_graph=True)
    (second,) = torch.autograd.grad(grad.square().sum(), seed)
    return second


def sharded_network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(9, 8), gm.LayerMap(8, target_quantiles=gm.nn.MonotoneQuantile(8)),
        torch.nn.ReLU(), torch.nn.Linear(8, 8), gm.GroupMap(2, 2), torch.nn.Linear(8, 2),
    )  # fmt: skip


def step(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(images().float()).square().mean().backward()
    optimizer.step()
    return model.state_dict()


def fsdp_step(world):
    """A step on the same batch everywhere, with parameters in shards."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (world,))
    model = sharded_network()
    for layer in model:
        if list(layer.parameters()):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return {
        name: value.full_tensor() if hasattr(value, "full_tensor") else value
        for name, value in step(model).items()
    }


@pytest.fixture(scope="module", params=[2, 4])
def results(request, tmp_path_factory):
    if not torch.distributed.is_available() or sys.platform == "win32":
        pytest.skip("no gloo processes here")
    world = request.param
    with folder_of_all_workers(tmp_path_factory, f"processes-{world}") as folder:
        files = [folder / f"{rank}.pt" for rank in range(world)]
        if not all(each.exists() for each in files):
            (folder / "meet").unlink(missing_ok=True)
            torch.multiprocessing.spawn(one_of_many, args=(world, str(folder)), nprocs=world)
        return [torch.load(each, weights_only=True) for each in files]


@contextlib.contextmanager
def folder_of_all_workers(tmp_path_factory, name):
    """One folder for all the processes that pytest-xdist runs tests in, for one of them at a time:
    what the first has left there serves the others."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield tmp_path_factory.mktemp(name)
        return
    from filelock import FileLock  # which torch requires

    folder = tmp_path_factory.getbasetemp().parent / name
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        yield folder


@pytest.mark.parametrize("case", [case for case in CASES if case != "random"])
def test_it_is_one_process_on_the_whole_batch(results, case):
    sizes = SIZES[len(results)]
    expected = found(make(case, gm.BatchMap), *batch(case, sum(sizes)))
    close = 0.05 if case == "bfloat16" else 1e-6
    for name, value in expected.items():
        parts = [each[case][name] for each in results]
        if name == "eval" and case == "untracked":
            continue  # each process its own batch, as with nn.SyncBatchNorm
        if name in ("y", "eval"):
            assert torch.equal(torch.cat(parts), value)
        elif name == "x.grad":
            torch.testing.assert_close(torch.cat(parts), value, rtol=close, atol=close)
        elif name.startswith("grad."):
            torch.testing.assert_close(sum(parts), value, rtol=close, atol=close)
        else:
            for each in parts:
                assert torch.equal(each, value), name


def test_random_ties_are_broken_alike(results):
    """Every rank is given to one entry of one process, and within a run at random."""
    sizes = SIZES[len(results)]
    y = torch.cat([each["random"]["y"] for each in results]).movedim(1, 0).reshape(CHANNELS, -1)
    x = batch("random", sum(sizes))[0].movedim(1, 0).reshape(CHANNELS, -1)
    layer = make("random", gm.BatchMap)
    y = (y - layer.bias[:, None]) / layer.weight[:, None]
    n = x.shape[1]
    every_rank = gm.gaussian(torch.linspace(0.0, 1.0, n, dtype=torch.float64)).expand_as(y)
    torch.testing.assert_close(y.sort().values, every_rank, rtol=1e-9, atol=1e-9)
    in_order = x.gather(1, y.argsort())
    assert torch.all(in_order.diff() >= 0)
    assert torch.any(in_order.diff() == 0)
    by_appearance = x.argsort(stable=True)
    assert not torch.equal(y.argsort(), by_appearance)


@pytest.mark.parametrize("case", KNOTS)
def test_knots_are_close(results, case):
    sizes = SIZES[len(results)]
    x, mask, seed_grad = batch(case, sum(sizes))
    expected = found(make(case, gm.BatchMap), x, mask, seed_grad)
    valid = torch.ones_like(x, dtype=torch.bool) if mask is None else mask.expand_as(x)
    inside = valid & (x.abs() < 2.0)
    y = torch.cat([each[case]["y"] for each in results])
    assert (y - expected["y"])[inside].abs().max() < 0.1
    assert torch.all(y[~valid] == 0.0)
    grad = torch.cat([each[case]["x.grad"] for each in results])
    assert torch.all(grad[~valid] == 0.0)
    cosine = torch.nn.functional.cosine_similarity(grad.ravel(), expected["x.grad"].ravel(), dim=0)
    assert cosine > 0.98
    quantiles = [each[case]["running_quantiles"] for each in results]
    assert all(torch.equal(each, quantiles[0]) for each in quantiles)
    assert (quantiles[0] - expected["running_quantiles"])[:, 5:-5].abs().max() < 0.01


@pytest.mark.parametrize("case", TRAINED)
def test_training_in_parallel_gets_the_gradient_of_the_whole_batch(results, case):
    make, data = TRAINED[case]
    model = make()
    model(data()).square().mean().backward()
    for each in results:
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(each["ddp"][case][name], parameter.grad)


def test_parameters_in_shards_train_as_in_one_piece(results):
    expected = step(sharded_network())
    for each in results:
        for name, value in expected.items():
            torch.testing.assert_close(each["fsdp"][name], value)


@pytest.mark.parametrize("case", SHARDED)
def test_shards_are_mapped_as_the_whole(results, case):
    """Each process its own, some of them none; gradients of parameters are those of all."""
    for each in results:
        (y, to_x, *to_parameters), (found, found_to_x, *found_to_parameters) = each["shards"][case]
        assert torch.equal(found, y)
        assert torch.equal(found_to_x, to_x)
        torch.testing.assert_close(found_to_parameters, to_parameters, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ODD)
def test_odd_shapes(results, case):
    x = torch.cat([odd_batch(rank, ODD[case]["shape"]) for rank in range(len(results))])
    layer = gm.BatchMap(3, momentum=1.0)
    y = layer(x).detach()
    found = torch.cat([each[case]["y"] for each in results])
    for each in results:
        assert torch.equal(each[case]["running"], results[0][case]["running"])
    if "num_knots" in ODD[case]:
        assert torch.all(found.isfinite())
        ends = [0, -1]
        torch.testing.assert_close(
            results[0][case]["running"][:, ends], layer.running_quantiles[:, ends]
        )
    else:
        assert torch.equal(found, y)
        assert torch.equal(results[0][case]["running"], layer.running_quantiles)


def test_double_backward(results):
    world = len(results)
    x = torch.cat([odd_batch(rank, (4, 3)) for rank in range(world)]).double().requires_grad_()
    seed = torch.cat(
        [torch.randn(4, 3, generator=torch.Generator().manual_seed(50 + r)) for r in range(world)]
    ).double().requires_grad_()  # fmt: skip
    layer = gm.BatchMap(3, dtype=torch.float64)
    (grad,) = torch.autograd.grad(layer(x), x, seed, create_graph=True)
    (second,) = torch.autograd.grad(grad.square().sum(), seed)
    found = torch.cat([each["double"] for each in results])
    torch.testing.assert_close(found, second)


def test_alone_it_is_a_batch_map():
    x, _, seed_grad = batch("plain", 4)
    expected = found(make("plain", gm.BatchMap), x, None, seed_grad)
    for name, value in found(make("plain"), x, None, seed_grad).items():
        assert torch.equal(value, expected[name])


def test_conversion_keeps_everything():
    seen = []
    inner = gm.BatchMap2d(3, momentum=0.3, ties="min", tails="linear").eval()
    handle = inner.register_forward_hook(lambda *_: seen.append(1))
    model = torch.nn.Sequential(inner, torch.nn.Sequential(gm.BatchMap1d(2), torch.nn.ReLU()))
    before = model.state_dict()
    converted = gm.SyncBatchMap.convert_sync_batchmap(model)
    assert converted is model
    assert type(model[0]) is type(model[1][0]) is gm.SyncBatchMap
    assert model[0].weight is inner.weight
    assert model[0].running_quantiles is inner.running_quantiles
    assert (model[0].momentum, model[0].rule, model[0].tails) == (0.3, inner.rule, "linear")
    assert not model[0].training
    assert model[1][0].training
    assert list(model.state_dict()) == list(before)
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(model[0](x), inner(x))
    assert len(seen) == 2
    handle.remove()
    model[0](x)
    assert len(seen) == 2
    assert gm.SyncBatchMap.convert_sync_batchmap(model[0]) is model[0]
    alone = gm.SyncBatchMap.convert_sync_batchmap(gm.BatchMap1d(2), num_knots=5)
    assert alone.num_knots == 5
    with pytest.raises(ValueError, match="num_knots=5 with ties='max'"):
        alone.ties = "max"
    assert alone.ties == "average"
    with pytest.raises(ValueError, match="num_knots=5 with ties='min'"):
        gm.SyncBatchMap.convert_sync_batchmap(inner, num_knots=5)
    assert "num_knots=5" in repr(alone)
    mixed = torch.nn.Sequential(gm.BatchMap1d(2), gm.BatchMap1d(2, ties="min"))
    with pytest.raises(ValueError, match="num_knots=5"):
        gm.SyncBatchMap.convert_sync_batchmap(mixed, num_knots=5)
    assert type(mixed[0]) is gm.BatchMap1d
    twice = torch.nn.ModuleDict({"a": mixed[0], "b": mixed[0]})
    gm.SyncBatchMap.convert_sync_batchmap(twice)
    assert type(twice["a"]) is gm.SyncBatchMap
    assert twice["a"] is twice["b"]
