"""From the guilty unit to a sentence: the range of the values there, the operator, and what kind of fault it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import ml_dtypes
import numpy as np

from exporter.alignment import distance
from exporter.examined import Examined
from exporter.located import BATCH, Located, Unit
from exporter.units import Units, owner

CLEAR = 0.2
"""Share of an error that may be left when a single factor explains it."""


@dataclass(frozen=True)
class Range:
    """The values of one tensor on some images: as mathematics has them, and how many the type made useless.

    ``amax``: the largest absolute value. ``above`` and ``below``: the shares beyond the type's largest and, not
    counting zeros, below its smallest normal number. ``nan`` and ``inf``: counts after rounding.
    """

    tensor: str
    node: str
    operator: str
    element_type: str
    amax: float
    above: float
    below: float
    nan: int
    inf: int

    @property
    def finite(self) -> bool:
        return not self.nan and not self.inf

    def as_dict(self) -> dict:
        return asdict(self)


def range_of(tensor: str, graph: Examined, exact: np.ndarray, rounded: np.ndarray) -> Range:
    """The range of one tensor; ``exact`` are its values without rounding."""
    kind = graph.element_type(tensor)
    limits = ml_dtypes.finfo(kind)
    sizes = np.abs(exact[np.isfinite(exact)].astype(np.float64))
    return Range(
        tensor,
        graph.tensors[tensor].name,
        graph.tensors[tensor].op_type,
        kind,
        float(sizes.max(initial=0.0)),
        float((sizes > float(limits.max)).mean()) if sizes.size else 0.0,
        float(((sizes < float(limits.smallest_normal)) & (sizes > 0)).mean()) if sizes.size else 0.0,
        int(np.isnan(rounded).sum()),
        int(np.isinf(rounded).sum()),
    )


def ranges(graph: Examined, unit: Unit, named: bool, pixels: np.ndarray) -> list[Range]:
    """The ranges of the tensors that the unit's nodes make, in order; of its answer alone where nodes have no names."""
    tensors = graph.within(owner(unit.name)) if named else []
    tensors = tensors or ([unit.tensor] if unit.tensor else [])
    chunk = graph.chunks(pixels, BATCH)[0]
    exact, rounded = (graph.runner(tensors, rounded=kind)(chunk) for kind in (False, True))
    return [range_of(t, graph, exact[t], rounded[t]) for t in tensors]


def sentence(graph: Examined, unit: Unit, found: list[Range], located: Located, units: Units, pixels) -> str:
    """What is wrong in a unit, as far as the values tell."""
    bad = next((r for r in found if not r.finite), None)
    if bad is not None and bad.above:
        limit = float(ml_dtypes.finfo(bad.element_type).max)
        return (
            f"{bad.operator} {bad.node} overflows: its values reach {bad.amax:.3g} and {bad.element_type} ends at "
            f"{limit:.5g}. Keep it in FP32, or PRECISION=bf16"
        )
    if bad is not None:
        return f"{bad.operator} {bad.node} makes {'NaN' if bad.nan else 'Inf'} of finite values"
    if unit.tensor is None:
        return "nothing in the graph answers what this unit answers: an order, a mask, a bias or weights are others"
    if _right_at_one(graph, unit, units, pixels):
        return f"right for one image, wrong for {located.batch}: a batch size is baked into a shape or an index"
    factor, left = _factor(graph, unit, located, units, pixels)
    if left < CLEAR:
        return f"the graph answers {factor:.4g} times what the unit answers: a weight or a scale is another"
    most = max(found, key=lambda r: r.below, default=None)
    if most is not None and most.element_type == "float16" and most.below > 0.1:
        return f"{most.below:.0%} of {most.operator} {most.node} lies below what {most.element_type} can hold"
    if graph.narrow:
        return f"rounding costs {unit.own:.1e} here, {unit.own / _roundoff(graph):.0f} times one rounding's own"
    return "the unit computes something else: weights, a bias, a mask or the order of heads are others"


def _roundoff(graph: Examined) -> float:
    return float(ml_dtypes.finfo(graph.weights).eps) / 2


def _right_at_one(graph: Examined, unit: Unit, units: Units, pixels: np.ndarray) -> bool:
    """Whether the unit's answer to every image alone is the module's, in any order of its rows."""
    from exporter.alignment import align

    if graph.batch:
        return False
    run = graph.runner([unit.tensor])
    for image in pixels:
        made = align(units.answers(image[None], [unit.name])[unit.name], run(image[None])[unit.tensor])
        if made is None or made.distance >= 0.1 * unit.own:
            return False
    return True


def _factor(graph: Examined, unit: Unit, located: Located, units: Units, pixels: np.ndarray) -> tuple[float, float]:
    """(the number that the unit's own answer must be multiplied by, the share of the error that is then left)."""
    chunk = graph.chunks(pixels, located.batch)[0]
    values = graph.runner(u.tensor for u in located.found)(chunk)
    places = {u.name: u for u in located.found}
    kept: dict[str, np.ndarray] = {}

    def judge(name, own, value):
        if name == unit.name:
            seen = unit.alignment.seen
            kept["own"], kept["value"] = seen(own).astype(np.float64).copy(), seen(value).astype(np.float64)

    units.forced(chunk, places, lambda name, own: places[name].alignment.apply(values[places[name].tensor], own), judge)
    own, value = kept["own"], kept["value"]
    factor = float((own * value).sum() / max((own * own).sum(), 1e-300))
    before = distance(own, value)
    return factor, distance(own * factor, value) / before if before > 0 else 1.0
