"""Which unit of the network a graph computes differently: the error that each one inherits and the one it adds.

Every unit of the torch module is looked for among the graph's tensors (:mod:`exporter.alignment`), by its name where
the nodes carry module paths, by its size and its values elsewhere. The units that are found are then compared in a
forced run (:mod:`exporter.units`), so an error counts where it arises and nowhere behind.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from exporter.alignment import Alignment, align, distance, is_part, likeness, signatures
from exporter.arrays import Outputs
from exporter.examined import Examined
from exporter.units import INPUT, Units, owner

BATCH = 3
"""Images that run together: an odd number above one, so a batch that is baked in shows."""

TRIES = 3
"""Tensors of the right size that are looked at closely for one unit."""

SURE = {"float32": 1e-3, "float16": 0.01, "bfloat16": 0.05}
"""Distance up to which a tensor is a unit's answer, by the type of the weights: the error of what came before."""

LOOSE = 0.05
"""Distance up to which it may be: a unit's answer with a fault, or something else that is like it."""

FAR = 10
"""How much nearer than a near tensor another one must be to be a unit's answer in its place."""

ALIKE = 1.5
ROUNDING = 1e-6
"""Tensors whose likeness is within this factor and this difference of the best one may be the same values."""

AT_ONCE = 400_000_000
"""Bytes of tensors that one run hands out while units are looked for."""

SEED = 0


@dataclass
class Unit:
    """One unit of the network in one graph. ``tensor`` is None where the graph has nothing that could be its answer.

    ``distance`` is that of the nearest tensor when it was looked for, Inf where none has its size; ``sure`` whether the
    tensor is its answer beyond doubt. ``entering`` is the error that it made of what it inherited, ``leaving`` the
    error of its answer, ``own`` what it added: all :func:`exporter.alignment.distance`, the worst image.
    """

    name: str
    tensor: str | None
    operator: str = ""
    alignment: Alignment | None = None
    distance: float = float("inf")
    sure: bool = False
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
    only: Collection[str] | None = None,
    rounded: bool = True,
    note: Callable[[str], None] = lambda text: None,
) -> Located:
    """Compare every unit of ``module``, or ``only`` some, with ``graph`` on ``pixels`` (S, 3, H, W).

    ``names`` are the recipe's outputs, in the graph's order. ``known`` is where the units were found in a graph of
    the same tensors, which saves looking for them. ``rounded`` as in :meth:`Examined.runner`.
    """
    units = Units(module)
    if known is not None:
        made = Located([_again(unit, graph) for unit in known.units], known.named, known.batch)
    else:
        note("looking for the module's units in the graph")
        probe = np.random.default_rng(SEED).standard_normal((graph.batch or BATCH, *pixels.shape[1:]), np.float32)
        made = _find(graph, units, probe, only)
    _measure(made, graph, units, names, pixels, rounded, note)
    return made


def _again(unit: Unit, graph: Examined) -> Unit:
    """A unit that was found in another graph, where this one has a tensor of that name."""
    tensor = unit.tensor if unit.tensor in graph.tensors else None
    if tensor is None:
        return Unit(unit.name, None, distance=unit.distance)
    return Unit(unit.name, tensor, graph.tensors[tensor].op_type, unit.alignment, unit.distance, unit.sure)


def _find(graph: Examined, units: Units, probe: np.ndarray, only: Collection[str] | None = None) -> Located:
    answers = units.answers(probe, only)
    paths = graph.paths()
    proper = [name for name in answers if not name.endswith(INPUT)]
    named = sum(name in paths for name in proper) * 4 >= len(proper)
    sizes = graph.sizes(len(probe))
    wanted = {name: _candidates(name, answer, graph, sizes, named) for name, answer in answers.items()}
    taken: set[str | None] = set()
    found = []
    for names in _groups(wanted, sizes):
        values = graph.runner({tensor for name in names for tensor in wanted[name]}, rounded=False)(probe)
        signed = {tensor: signatures(value) for tensor, value in values.items()}
        for name in names:
            answer = answers.pop(name)
            own = signatures(answer)
            free = {t: values[t] for t in wanted[name] if t not in taken}
            restored = _restored(graph, units.affine(name), free)
            free |= {t: value * restored[t][0] + restored[t][1] for t, value in free.items() if t in restored}
            signs = signed | {t: signatures(free[t]) for t in restored}
            alike = {t: likeness(own, signs[t]) for t, value in free.items() if value.size == answer.size}
            near = _by_likeness(alike, {t for t in alike if free[t].shape == answer.shape})
            unit = _nearest(name, answer, {t: free[t] for t in near[:TRIES]}, graph)
            if not unit.sure:
                part = _nearest(name, answer, {t: v for t, v in free.items() if v.size != answer.size}, graph)
                unit = part if part.distance < unit.distance else unit
            if unit.tensor in restored:
                unit.alignment = replace(unit.alignment, affine=restored[unit.tensor])
            found.append(unit)
            taken.add(found[-1].tensor)
    return Located(found, named, len(probe))


def _restored(graph: Examined, affine: tuple[np.ndarray, np.ndarray] | None, tensors: dict) -> dict:
    """By tensor that a bare normalisation makes: (factor, summand) by channel that make a unit's answer of it."""
    if affine is None:
        return {}
    scale, shift = affine
    fitting = [t for t, value in tensors.items() if t in graph.bare and value.shape[-1] == len(scale)]
    return {t: (scale, shift - graph.bare[t] * scale) for t in fitting}


def _groups(wanted: dict[str, list[str]], sizes: dict) -> Iterator[list[str]]:
    """The units, in order, in groups whose tensors fit into ``AT_ONCE`` bytes together."""
    group: list[str] = []
    tensors: set[str] = set()
    for name, candidates in wanted.items():
        more = tensors | set(candidates)
        if group and sum(4 * np.prod(sizes[t]) for t in more) > AT_ONCE:
            yield group
            group, more = [], set(candidates)
        group.append(name)
        tensors = more
    yield group


def _by_likeness(found: dict[str, float], shaped: Collection[str]) -> list[str]:
    """The most alike first; among those that are as good as equal, ones of the unit's own shape: they need no order."""
    least = min(found.values(), default=0.0)
    return sorted(found, key=lambda t: (found[t] > ALIKE * least + ROUNDING, t not in shaped, found[t]))


def _nearest(name: str, answer: np.ndarray, tensors: dict[str, np.ndarray], graph: Examined) -> Unit:
    """The unit with the tensor that comes nearest to its answer, if any is near.

    Behind a near one the others are compared as they lie, and must be nearer by far: a product before its bias is near
    where one channel is huge, and a sum with a fault is not much farther.
    """
    limit, unit = SURE[graph.weights], Unit(name, None)
    for tensor, value in tensors.items():
        near = unit.distance <= limit / 10
        made = align(answer, value, close=np.inf if near else limit / 10)
        if made is not None and made.distance < unit.distance / (FAR if near else 1):
            unit = Unit(name, tensor, graph.tensors[tensor].op_type, made, made.distance, made.distance <= limit)
    near = unit.distance <= max(limit, LOOSE)
    return unit if near else Unit(name, None, distance=unit.distance)


def _candidates(unit: str, answer: np.ndarray, graph: Examined, sizes: dict, named: bool) -> list[str]:
    """The graph's tensors that may be a unit's answer, and behind them those that may be a token or two of it."""
    tensors = [t for t in (graph.within(owner(unit)) if named else graph.tensors) if t in sizes]
    count, channels = answer.size, {answer.shape[-1], answer.shape[1]}
    whole = [t for t in tensors if np.prod(sizes[t]) == count and channels & set(sizes[t])]
    return whole + [t for t in tensors if is_part(answer.shape, sizes[t])]


def _measure(
    made: Located, graph: Examined, units: Units, names: Sequence[str], pixels: np.ndarray, rounded: bool, note
) -> None:
    matched = {unit.name: unit for unit in made.found}
    run = graph.runner((unit.tensor for unit in matched.values()), rounded)
    chunks = graph.chunks(pixels, made.batch)
    for index, chunk in enumerate(chunks):
        note(f"images {index * len(chunk) + 1} to {(index + 1) * len(chunk)}: every unit on the graph's own values")
        values = run(chunk)
        made.expected.append(dict(zip(names, answers(units.module, chunk), strict=True)))
        made.answered.append({name: values[output] for name, output in zip(names, graph.outputs, strict=True)})
        plain = units.answers(chunk, matched)

        def value(name, own, values=values):
            return matched[name].alignment.apply(values.pop(matched[name].tensor), own)

        def judge(name, own, other, plain=plain):
            unit = matched[name]
            expected, own, other = map(unit.alignment.seen, (plain.pop(name), own, other))
            unit.own = max(unit.own, distance(own, other))
            unit.entering = max(unit.entering, distance(expected, own))
            unit.leaving = max(unit.leaving, distance(expected, other))
            unit.finite = unit.finite and bool(np.isfinite(other).all())

        units.forced(chunk, matched, value, judge)


def answers(module, pixels: np.ndarray) -> list[np.ndarray]:
    """The module's own outputs, in order."""
    import torch

    with torch.no_grad():
        found = module(torch.from_numpy(pixels))
    return [v.numpy() for v in (found if isinstance(found, tuple) else (found,))]
