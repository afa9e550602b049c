"""Which unit of the network a graph computes differently: the error that each one inherits and the one it adds.

Every unit of the torch module is looked for among the graph's tensors (:mod:`exporter.alignment`), by its name where
the nodes carry module paths, by its size and its values elsewhere. The units that are found are then compared in a
forced run (:mod:`exporter.units`), so an error counts where it arises and nowhere behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from exporter.alignment import Alignment, align, distance
from exporter.arrays import Outputs
from exporter.examined import Examined
from exporter.units import Units

BATCH = 3
"""Images that run together: an odd number above one, so a batch that is baked in shows."""

TRIES = 3
"""Tensors of the right size that are looked at closely for one unit."""

MATCHED = {"float32": 1e-3, "float16": 0.01, "bfloat16": 0.05}
"""Distance up to which a tensor is taken to be a unit's answer, by the type of the graph's weights."""

SEED = 0


@dataclass
class Unit:
    """One unit of the network in one graph. ``tensor`` is None where the graph has nothing that could be its answer.

    ``entering`` is the error that it made of what it inherited, ``leaving`` the error of its answer, ``own`` what it
    added: all :func:`exporter.alignment.distance`, the worst image. ``direct``: its inputs are other units' answers.
    """

    name: str
    tensor: str | None
    operator: str
    direct: bool
    alignment: Alignment | None = None
    entering: float = 0.0
    leaving: float = 0.0
    own: float = 0.0
    finite: bool = True


@dataclass
class Located:
    """What one graph does in every unit, in the order in which they run."""

    units: list[Unit]
    named: bool
    batch: int
    expected: Outputs = field(default_factory=list)
    answered: Outputs = field(default_factory=list)
    """The module's outputs and the graph's, batch by batch, by the recipe's names."""

    @property
    def found(self) -> list[Unit]:
        return [unit for unit in self.units if unit.tensor is not None]


def locate(
    graph: Examined,
    module,
    names: Sequence[str],
    pixels: np.ndarray,
    *,
    known: Located | None = None,
    rounded: bool = True,
    note: Callable[[str], None] = lambda text: None,
) -> Located:
    """Compare every unit of ``module`` with ``graph`` on ``pixels`` (S, 3, H, W).

    ``names`` are the recipe's outputs, in the graph's order. ``known`` is where the units were found in a graph of
    the same tensors, which saves looking for them. ``rounded`` as in :meth:`Examined.runner`.
    """
    units = Units(module)
    if known is not None:
        made = Located([_again(unit, graph) for unit in known.units], known.named, known.batch)
    else:
        note("looking for the module's units in the graph")
        probe = np.random.default_rng(SEED).standard_normal((graph.batch or BATCH, *pixels.shape[1:]), np.float32)
        made = _find(graph, units, probe)
    _measure(made, graph, units, names, pixels, rounded, note)
    return made


def _again(unit: Unit, graph: Examined) -> Unit:
    """A unit that was found in another graph, where this one has a tensor of that name."""
    tensor = unit.tensor if unit.tensor in graph.tensors else None
    operator = graph.tensors[tensor].op_type if tensor else ""
    return Unit(unit.name, tensor, operator, unit.direct, unit.alignment if tensor else None)


def _find(graph: Examined, units: Units, probe: np.ndarray) -> Located:
    answers = units.answers(probe)
    paths = graph.paths()
    named = sum(name in paths for name in answers) * 4 >= len(answers)
    sizes = graph.sizes(len(probe))
    wanted = {name: _candidates(name, answer.value, graph, sizes, named) for name, answer in answers.items()}
    values = graph.runner({tensor for tensors in wanted.values() for tensor in tensors}, rounded=False)(probe)
    energy = {name: _energy(value) for name, value in values.items()}
    limit = MATCHED[graph.weights]
    taken: set[str] = set()
    found = []
    for name, answer in answers.items():
        size = _energy(answer.value)
        near = sorted((t for t in wanted[name] if t not in taken), key=lambda t: abs(energy[t] - size))
        unit = _nearest(Unit(name, None, "", answer.direct), answer.value, {t: values[t] for t in near[:TRIES]}, limit)
        if unit.tensor is not None:
            unit.operator = graph.tensors[unit.tensor].op_type
            taken.add(unit.tensor)
        found.append(unit)
    return Located(found, named, len(probe))


def _nearest(unit: Unit, answer: np.ndarray, tensors: dict[str, np.ndarray], limit: float) -> Unit:
    """The unit with the tensor that comes nearest to its answer, if any is inside ``limit``."""
    for name, value in tensors.items():
        made = align(answer, value, close=limit / 10)
        if made is not None and (unit.alignment is None or made.distance < unit.alignment.distance):
            unit.alignment, unit.tensor = made, name
            if made.distance <= limit / 10:
                break
    if unit.alignment is not None and unit.alignment.distance > limit:
        unit.leaving, unit.alignment, unit.tensor = unit.alignment.distance, None, None
    return unit


def _candidates(unit: str, answer: np.ndarray, graph: Examined, sizes: dict, named: bool) -> list[str]:
    """The graph's tensors that may be a unit's answer."""
    tensors = graph.within(unit) if named else list(graph.tensors)
    count, channels = answer.size, {answer.shape[-1], answer.shape[1]}
    return [t for t in tensors if t in sizes and np.prod(sizes[t]) == count and channels & set(sizes[t])]


def _energy(values: np.ndarray) -> float:
    """A number that does not depend on the order of the values, in relative terms."""
    with np.errstate(all="ignore"):
        found = float(np.log(np.square(values, dtype=np.float64).mean() + 1e-300))
    return found if np.isfinite(found) else 1e300


def _measure(
    made: Located, graph: Examined, units: Units, names: Sequence[str], pixels: np.ndarray, rounded: bool, note
) -> None:
    matched = {unit.name: unit for unit in made.found}
    run = graph.runner((unit.tensor for unit in matched.values()), rounded)
    chunks = graph.chunks(pixels, made.batch)
    for index, chunk in enumerate(chunks):
        note(f"images {index * len(chunk) + 1} to {(index + 1) * len(chunk)}: every unit on the graph's own values")
        values = run(chunk)
        plain = {name: a.value for name, a in units.answers(chunk).items() if name in matched}
        forced = {name: unit.alignment.apply(values[unit.tensor]) for name, unit in matched.items()}

        def judge(name, own, value, plain=plain):
            unit = matched[name]
            unit.own = max(unit.own, distance(own, value))
            unit.entering = max(unit.entering, distance(plain[name], own))
            unit.leaving = max(unit.leaving, distance(plain[name], value))
            unit.finite = unit.finite and bool(np.isfinite(value).all())

        units.forced(chunk, forced, judge)
        made.expected.append(dict(zip(names, answers(units.module, chunk), strict=True)))
        made.answered.append({name: values[output] for name, output in zip(names, graph.outputs, strict=True)})


def answers(module, pixels: np.ndarray) -> list[np.ndarray]:
    """The module's own outputs, in order."""
    import torch

    with torch.no_grad():
        found = module(torch.from_numpy(pixels))
    return [v.numpy() for v in (found if isinstance(found, tuple) else (found,))]
