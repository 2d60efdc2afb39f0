"""Data parallelism with `torchrun`: who am I, average this, let one of us write."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from training.config import ConfigError

T = TypeVar("T")


def start(requested: str | None = None) -> torch.device:
    """Join the process group where `torchrun` started us; returns the device of this process.

    That is the `requested` one, such as "cpu" or "cuda:1", or the GPU of this process if there is one. Raises
    ConfigError for a device that is not there.
    """
    device = _device(requested)
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.set_device(device)
    if "RANK" in os.environ and not dist.is_initialized():
        # Some of what is averaged lies on the CPU, where nccl cannot go.
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    return device


def _device(requested: str | None) -> torch.device:
    local = int(os.environ.get("LOCAL_RANK", 0))
    try:
        device = torch.device(requested or ("cuda" if torch.cuda.is_available() else "cpu"))
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", local)
        torch.empty(1, device=device)
    except (AssertionError, NotImplementedError, RuntimeError) as exc:
        raise ConfigError(f"--device {requested}: {str(exc).splitlines()[0]}") from exc
    return device


def stop() -> None:
    """Leave the process group, if any, together: a process that left while another still worked was seen to abort."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def rank() -> int:
    """This process's number, 0 without `torchrun`."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """The number of processes, 1 without `torchrun`."""
    return dist.get_world_size() if dist.is_initialized() else 1


def average(value: Tensor) -> Tensor:
    """The mean of a detached tensor over the processes."""
    value = value.detach().clone()
    if world() > 1:
        dist.all_reduce(value)
        value /= world()
    return value


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes, in one exchange."""
    if world() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = average(torch.cat([g.flatten() for g in gradients]))
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def barrier() -> None:
    """Wait for every process."""
    if world() > 1:
        dist.barrier()


def first_alone(call: Callable[[], T]) -> T:
    """`call`'s result in every process. The others call when the first is done, which leaves a file for them."""
    if rank() == 0:
        result = call()
        barrier()
        return result
    barrier()
    return call()


def any_process(flag: bool) -> bool:
    """Whether any process raises its flag; every process gets the same answer."""
    if world() == 1:
        return flag
    value = torch.tensor(float(flag))
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return bool(value)
