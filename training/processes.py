"""One process, or several under `torchrun`: who I am, and what takes all of us to compute.

Several processes give the loss of one: every batch is the same batch cut into parts, batch normalisation counts all parts,
and noise does not know who draws it.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Self, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from shared.errors import MienError

PATIENCE: Final = timedelta(hours=6)
"""How long processes wait for one another: so long may the one that leads take to judge a large unlabelled set."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among its equals."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @classmethod
    @contextmanager
    def joined(cls) -> Iterator[Self]:
        """Meet the others that `torchrun` started; alone without it. Takes this process's GPU where there is one."""
        count, rank, local = (int(os.environ.get(name, default)) for name, default in (("WORLD_SIZE", 1), ("RANK", 0), ("LOCAL_RANK", 0)))
        device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if count == 1:
            yield cls(device=device)
            return
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
        try:
            yield cls(rank=rank, count=count, device=device)
        finally:
            dist.destroy_process_group()

    @property
    def leads(self) -> bool:
        """Whether this one writes files and talks."""
        return self.rank == 0

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.count > 1:
            dist.all_reduce(value)
        return value

    def agreed(self, decide: Callable[[], T]) -> T:
        """What the one that leads decides, for all. Others do not even compute it: on other hardware the last bit may differ, and with
        it what is learnt from or who wins. A MienError that it meets is raised everywhere.
        """
        if self.count == 1:
            return decide()
        box: list[T | MienError | None] = [None]
        if self.leads:
            try:
                box = [decide()]
            except MienError as error:
                box = [error]
        dist.broadcast_object_list(box, src=0)
        (decided,) = box
        if isinstance(decided, MienError):
            raise decided
        return cast("T", decided)

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            dist.barrier()

    def shared(self, network: nn.Module) -> nn.Module:
        """The network such that its gradients are means over all processes."""
        return DistributedDataParallel(network) if self.count > 1 else network

    def synced(self, network: nn.Module) -> None:
        """Let every batch normalisation of the network count all parts of a batch."""
        if self.count > 1:
            for module in network.modules():
                if type(module) is nn.BatchNorm2d:
                    module.__class__ = SyncedBatchNorm


class SyncedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the parts that all processes hold. (torch's own takes GPUs only.)"""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        own = x.to(torch.promote_types(x.dtype, torch.float32))  # sums in half precision would be worth nothing
        size = own.new_tensor([own.numel() / own.shape[1]])
        sums = summed(torch.cat([own.sum(dim=(0, 2, 3)), own.square().sum(dim=(0, 2, 3)), size]))
        count = sums[-1]
        mean, square = (sums[:-1] / count).chunk(2)
        variance = (square - mean.square()).clamp(min=0)  # rounding may leave less than nothing
        self._remember(mean.detach(), (variance * count / (count - 1)).detach())
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        normed: Tensor = own * scale[:, None, None] + shift[:, None, None]
        return normed.to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.momentum is not None and self.running_mean is not None and self.running_var is not None  # noqa: S101, PT018
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class SumOverProcesses(torch.autograd.Function):
    """A sum that every process has a share in, and so every process's loss."""

    @staticmethod
    def forward(_context: object, share: Tensor) -> Tensor:
        total = share.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_context: object, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def summed(share: Tensor) -> Tensor:
    total: Tensor = SumOverProcesses.apply(share)
    return total
