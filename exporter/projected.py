"""What a chip would make of a model: times, share of its peak, images a second and for a dollar."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from exporter import roofline
from exporter.chips import Chip
from exporter.growth import Cost
from exporter.kernels import BYTES, Kernel
from exporter.types import Precision


def of_kernels(kernels: Sequence[Kernel], chip: Chip, precision: Precision, batch: int, price: float | None) -> dict:
    """The three times of :mod:`exporter.roofline` on ``chip``, what each kernel is bound by, and what follows."""
    tf32 = precision.tf32
    times = {
        "resident": roofline.resident(kernels, chip, tf32),
        "floor": roofline.microseconds(kernels, chip, tf32),
        "launched": roofline.launched(kernels, chip, tf32),
    }
    bounds = Counter(roofline.limits(k, chip, tf32).bound for k in kernels)
    flops = sum(k.flops for k in kernels)
    return {"bounds": dict(bounds.most_common())} | _figures(times, flops, chip, precision, batch, price)


def of_graph(cost: Cost, chip: Chip, precision: Precision, batch: int, price: float | None) -> dict:
    """One time, that no engine beats, whatever its kernels: the FLOPs at the precision's peak, or the weights and the
    input read once, whichever is longer."""
    weight_bytes, _ = sizes(precision)
    moved = cost.parameters * weight_bytes + batch * 3 * cost.image[0] * cost.image[1] * BYTES["Float"]
    floor = 1e6 * max(moved / (chip.memory * 1e9), cost.flops * batch / peak(chip, precision))
    return _figures({"floor": floor}, cost.flops * batch, chip, precision, batch, price)


def peak(chip: Chip, precision: Precision) -> float:
    """FLOP/s of the precision's narrowest products."""
    kind = {"int8": "Int8", "float8_e4m3fn": "FP8"}.get(precision.quantized or "") or (
        "Float" if precision.element_type == "float32" else "Half"
    )
    return chip.peak(kind, precision.tf32)


def sizes(precision: Precision) -> tuple[int, int]:
    """Bytes of a weight and of an activation."""
    wide = 4 if precision.element_type == "float32" else 2
    return (1 if precision.quantized else wide), wide


def _figures(
    times: dict[str, float], flops: int, chip: Chip, precision: Precision, batch: int, price: float | None
) -> dict:
    made = {f"{key}_us": round(value, 1) for key, value in times.items()} | {
        "peak_share": {k: round(flops / (t * 1e-6) / peak(chip, precision), 4) for k, t in times.items()},
        "images_per_second": {k: round(batch / (t * 1e-6), 1) for k, t in times.items()},
    }
    if price is not None:
        per_dollar = {k: round(v * 3600 / price) for k, v in made["images_per_second"].items()}
        made |= {"dollars_per_hour": price, "images_per_dollar": per_dollar}
    return made
