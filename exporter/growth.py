"""How a model's cost grows with the image and the batch, and the memory that it needs, before anything is built.

The torch module runs on torch's ``meta`` device, where tensors have shapes and no values: a second for a Swin-L at
any size. A module that looks at values cannot run there and runs on one real image instead.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from exporter.types import ModuleSpec, Recipe

SCALES = (0.5, 1, 2, 3, 4)
"""Multiples of the recipe's own image size: whole ones keep windows whole, so that no padding blurs the growth."""

LARGEST = 2048
"""Pixels of the longer side."""

LARGEST_REAL = 2
"""The largest of them for a module that has to run on real values."""


@dataclass(frozen=True)
class Cost:
    """One image through the module, at a height and width in pixels.

    ``flops`` of all matrix products, ``attention_flops`` of those between two activations: Q K^T and its product with
    V. ``attention_elements``: of all attention matrices together, ``widest_attention`` of the largest of them.
    ``widest``: elements of the largest operator's inputs and output, weights and attention matrices left out;
    ``parameters`` of all weights.
    ``matrices`` are attention matrices that torch writes out, as shapes of one image: (heads, queries, keys) mostly.
    ``held``: elements of the largest operator's inputs and output, matrices with them: no run of torch holds less.
    ``stored_bytes`` of weights and buffers.
    """

    image: tuple[int, int]
    parameters: int
    flops: int
    attention_flops: int
    attention_elements: int
    widest_attention: int
    widest: int
    matrices: tuple[tuple[int, ...], ...] = ()
    held: int = 0
    stored_bytes: int = 0

    def needed(self, batch: int, weight_bytes: float, activation_bytes: float) -> int:
        """Bytes that an engine needs on the GPU: its weights and the largest operator's activations.

        Attention fused in one kernel never writes its matrices, so they are not among them.
        """
        return round(self.parameters * weight_bytes + batch * self.widest * activation_bytes)

    def as_dict(self) -> dict:
        found = asdict(self) | {"image": list(self.image)}
        return {name: value for name, value in found.items() if name not in ("matrices", "held", "stored_bytes")}


def sizes(recipe: Recipe) -> list[tuple[int, int]]:
    """The image sizes that the cost is stated for: the recipe's own, and others where the model takes them."""
    own, step = recipe.preprocessing.size, recipe.image_multiple
    if recipe.fixed_image:
        return [own]
    scaled = [tuple(n * scale for n in own) for scale in SCALES]
    return [tuple(map(int, size)) for size in scaled if max(size) <= LARGEST and not any(n % step for n in size)]


def costs(recipe: Recipe) -> list[Cost]:
    """The cost at every size of :func:`sizes`, smallest first."""
    found = []
    for size in sizes(recipe):
        made = cost(recipe.at(size), on_values=size[0] <= LARGEST_REAL * recipe.preprocessing.size[0])
        if made is not None:
            found.append(made)
    return found


def cost(recipe: Recipe, on_values: bool = True) -> Cost | None:
    """The cost of one image; None where the module needs real values and must not have them (``on_values``)."""
    import torch

    spec = ModuleSpec(recipe.preprocessing.size, recipe.classes)
    try:
        with torch.device("meta"):
            return _counted(recipe.build(spec).to("meta"), recipe, "meta")  # some tensors ignore the context
    except Exception:  # whatever a module does with a tensor's values has an error of its own
        return _counted(recipe.build(spec), recipe, "cpu") if on_values else None


def _counted(module, recipe: Recipe, device: str) -> Cost:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    seen: list[_Operator] = []
    weights = {_storage(t) for t in (*module.parameters(), *module.buffers())}
    with FlopCounterMode(display=False) as counter, _watch(seen, weights), torch.no_grad():
        module(*(torch.zeros(1, *spec.shape, device=device) for spec in recipe.inputs))
    by_operator = {str(k).removeprefix("aten."): v for k, v in counter.get_flop_counts()["Global"].items()}
    between = sum(v for k, v in by_operator.items() if k in ("bmm", "baddbmm"))
    products = sum(v for k, v in by_operator.items() if not k.startswith(FUSED))
    fused = sum(o.fused_flops for o in seen)  # the counter does not know every device's fused attention
    matrices = {o.matrix for o in seen if o.matrix}
    written = tuple(o.matrix for o in seen if o.matrix and not o.fused_flops)
    stored = {_storage(t): t.untyped_storage().nbytes() for t in (*module.parameters(), *module.buffers())}
    return Cost(
        recipe.preprocessing.size,
        sum(p.numel() for p in module.parameters()),
        products + fused,
        between + fused,
        sum(map(math.prod, (o.matrix for o in seen if o.matrix))),
        max(map(math.prod, matrices), default=0),
        max(sum(math.prod(shape) for shape in o.shapes if not _is_matrix(shape, matrices)) for o in seen),
        written,
        max(sum(map(math.prod, o.shapes)) for o in seen),
        sum(stored.values()),
    )


FUSED = "_scaled_dot_product"


@dataclass(frozen=True)
class _Operator:
    """Shapes of its activations; of its attention matrix, where it has one; FLOPs where it is a fused attention."""

    shapes: tuple[tuple[int, ...], ...]
    matrix: tuple[int, ...] = ()
    fused_flops: int = 0


def _is_matrix(shape: tuple[int, ...], matrices: set[tuple[int, ...]]) -> bool:
    """Whether a tensor is one of the attention matrices, however its leading axes are folded."""
    return any(shape[-2:] == m[-2:] and math.prod(shape) == math.prod(m) for m in matrices)


def _storage(tensor) -> int:
    return tensor.untyped_storage()._cdata


def _watch(seen: list[_Operator], weights: set[int]):
    """A dispatch mode that notes every operator that makes something new."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    def activation(item) -> bool:
        return isinstance(item, torch.Tensor) and _storage(item) not in weights

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if func.is_view:
                return out
            name, matrix, flops = func.name(), (), 0
            if "softmax" in name:
                matrix = tuple(out.shape)
            elif FUSED in name:
                query, key, value = args[:3]
                matrix = (*query.shape[:-1], key.shape[-2])
                flops = 2 * math.prod(matrix) * (query.shape[-1] + value.shape[-1])
            shapes = tuple(tuple(t.shape) for t in tree_leaves((args, kwargs, out)) if activation(t))
            seen.append(_Operator(shapes, matrix, flops))
            return out

    return Watch()


def exponents(found: list[Cost]) -> list[float | None]:
    """How each cost's attention grows from the size before: the power of the number of pixels.

    1 is linear (windows of a fixed size), 2 quadratic (global attention); None for the first size, and without
    attention.
    """
    powers: list[float | None] = []
    for index, now in enumerate(found):
        before = found[index - 1] if index else None
        if before is None or not before.attention_flops or not now.attention_flops:
            powers.append(None)
            continue
        pixels = math.log(math.prod(now.image) / math.prod(before.image))
        powers.append(round(math.log(now.attention_flops / before.attention_flops) / pixels, 2))
    return powers
