"""Several processes that train or sample together, on one machine or more, through accelerate.

A function runs in one process unless `launch` starts it in several, or the whole program was
started by `accelerate launch` or `torchrun`. Collective calls do nothing in a single process.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing, nn
from torch.distributed.elastic.utils.distributed import get_free_port
from torch.nn.modules.batchnorm import _BatchNorm

from lib.common.errors import StudyError


def launch(function: Callable[..., None], num_processes: int, *args: Any, **kwargs: Any) -> None:
    """Call a module-level function in `num_processes` new processes of this machine.

    A `StudyError` in one of them ends all and is raised here.
    """
    given = num_processes, get_free_port(), function, args, kwargs
    context = multiprocessing.start_processes(_run, given, num_processes, join=False)
    try:
        while not context.join():
            pass
    except multiprocessing.ProcessRaisedException as error:
        if not (faults := re.findall("StudyError: (.*)", str(error))):
            raise
        raise StudyError(faults[-1]) from None
    except multiprocessing.ProcessExitedException as error:
        reason = f"one of {num_processes} processes died (out of memory, or killed)"
        raise StudyError(f"{function.__name__}: {reason}: run the same again") from error


def _run(rank: int, count: int, port: int, function: Callable, args: tuple, kwargs: dict) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    join(kwargs.get("device", "cpu"))
    with open(os.devnull, "w") as nowhere, redirect_stdout(sys.stdout if rank == 0 else nowhere):
        try:
            function(*args, **kwargs)
        finally:
            dist.destroy_process_group()


def join(device: str) -> None:
    """Join the other processes, if `accelerate launch` or `launch` has started several."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not dist.is_initialized():
        from accelerate import PartialState  # slow to import, and seldom needed

        PartialState(cpu=device == "cpu")


def rank() -> int:
    """Return this process's number, 0 for the main one."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def wait() -> None:
    """Wait until all processes are here."""
    if count() > 1:
        dist.barrier()


def mean(values: torch.Tensor) -> torch.Tensor:
    """Return the mean of a tensor over the processes."""
    return _Sum.apply(values) / count() if count() > 1 else values


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes."""
    if count() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = mean(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


class _Sum(torch.autograd.Function):
    """Sum over the processes; so is its gradient."""

    @staticmethod
    def forward(ctx, values: torch.Tensor) -> torch.Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return _Sum.forward(ctx, gradient)


class GlobalBatchNorm(_BatchNorm):
    """BatchNorm over the batches of all processes together; on the CPU torch has none."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        pass

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or count() == 1:
            return super().forward(x)
        dims = [axis for axis in range(x.ndim) if axis != 1]
        shape = [-1] + [1] * (x.ndim - 2)
        n = x.numel() // x.shape[1] * count()
        centre = _Sum.apply(x.sum(dims)) / n
        x = x - centre.view(shape)
        variance = _Sum.apply(x.square().sum(dims)) / n
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(centre, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
        x = x * (variance + self.eps).rsqrt().view(shape)
        return x * self.weight.view(shape) + self.bias.view(shape)


def share_batch_norm(network: nn.Module) -> nn.Module:
    """Let every BatchNorm of a network see all processes; names and weights stay."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = GlobalBatchNorm
    return network


def divide(n: int, what: str) -> slice:
    """Return this process's equal share of `n` items as a slice."""
    if n % count():
        raise StudyError(f"{what} ({n}) must be a multiple of the {count()} processes")
    return slice(rank() * n // count(), (rank() + 1) * n // count())
