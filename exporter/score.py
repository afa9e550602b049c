"""What a graph costs, judged by what the compiler made of it: launches, and the least time that each kernel needs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from exporter import kernels as kernel_lists
from exporter import roofline
from exporter.kernels import Kernel
from exporter.roofline import LAUNCH_US

if TYPE_CHECKING:
    from exporter.emitted import Emitted
    from exporter.types import Request

SYNCHRONISE_US = 0.5
"""What a signal or a wait between two streams costs, or a number that the host works out, in microseconds: an
assumption, too."""


@dataclass(frozen=True)
class Score:
    """``total_us`` = kernels x ``LAUNCH_US`` + (synchronisations + host_numbers) x ``SYNCHRONISE_US`` + ``floor_us``.

    Smaller is better. ``fused`` attentions of ``due``.
    """

    kernels: int
    synchronisations: int
    host_numbers: int
    fused: int
    due: int
    bytes_moved: int
    floor_us: float
    total_us: float

    def as_dict(self) -> dict:
        return asdict(self)


def of(
    engine: list[Kernel],
    sized: list[Kernel],
    softmaxes: list[str],
    target: str,
    tf32: bool = False,
    synchronisations: int = 0,
    host_numbers: int = 0,
) -> Score:
    """The score of an engine's kernels; ``sized`` are those of its static twin where the batch is free.

    A free batch can need kernels that the twin does not have, copies mostly, whose sizes nothing tells: each is
    taken to cost what the twin's kernels cost on average.
    """
    totals = kernel_lists.totals(engine, sized, softmaxes)
    floor = roofline.microseconds(sized, roofline.nearest(target), tf32) * max(1.0, len(engine) / len(sized))
    idle = (synchronisations, host_numbers)
    total = totals.count * LAUNCH_US + sum(idle) * SYNCHRONISE_US + floor
    attention = (totals.fused_attention, len(softmaxes))
    return Score(totals.count, *idle, *attention, totals.bytes_moved, round(floor, 1), round(total, 1))


def judge(found: Emitted, softmaxes: list[str], request: Request) -> Score:
    """The score of what was emitted for a request, on its first target."""
    return of(
        found.engine, found.sized, softmaxes, request.targets[0], request.precision.tf32,
        found.synchronisations, found.host_numbers,
    )  # fmt: skip
