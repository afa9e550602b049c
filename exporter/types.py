"""The words that every part of the tool speaks: frozen dataclasses, no behaviour that needs a library.

Nothing here imports torch, onnx or numpy, so a recipe file, ``make list`` and an unchanged build stay
within milliseconds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.goal import Goal
from exporter.preprocessing import Preprocessing

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Batch:
    """An optimisation profile over the batch axis, in images: TensorRT's min, opt and max shapes."""

    min: int
    opt: int
    max: int

    @property
    def static(self) -> bool:
        return self.min == self.max

    def __str__(self) -> str:
        return str(self.opt) if self.static else f"{self.min}:{self.opt}:{self.max}"


@dataclass(frozen=True)
class TensorSpec:
    """One input or output. Axis 0 is always the batch; ``shape`` holds the other axes where the recipe fixes them."""

    name: str
    meaning: str
    shape: tuple[int, ...] = ()
    dtype: str = "float32"


@dataclass(frozen=True)
class Tolerance:
    """What a comparison of one output must hold, over all its samples.

    ``relative_max``: the largest absolute difference, as a share of the reference's largest absolute value.
    ``cosine``: the smallest cosine similarity between a sample and its reference.
    """

    relative_max: float
    cosine: float


@dataclass(frozen=True)
class RewriteStep:
    """One rewrite of a recipe: the file ``exporter/rewrites/<name>.py`` and how many matches are due.

    ``matches`` is the exact number at the recipe's own image size; ``None`` says that the count is no
    contract (a clean-up that may find nothing). At another image size a due count only must not be zero.
    """

    name: str
    matches: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of the rewrite's ``apply``."""


CANONICAL = (
    "static_shapes",
    "fold_constants",
    "remove_identities",
    "fold_data_free",
    "fold_batch_normalization",
    "remove_expansions",
    "remove_guards",
    "fuse_layer_normalization",
    "fuse_gelu",
    "early_selection",
    "patch_embedding",
    "attention_form",
    "fold_attention_biases",
    "cancel_permutations",
    "token_mixing",
    "share_constants",
)
"""The rewrites that make an exported graph canonical, in their order, whatever the model."""


def canonical(skip: tuple[str, ...] = (), **due: int) -> tuple[RewriteStep, ...]:
    """The canonical rewrites with the matches that are due, by name; the others may match as often as they do.

    Those to ``skip`` are left out, where the compiler makes more of a family's graph without them.
    How many constants are equal depends on the weights, so sharing them has no due count.
    """
    unknown = {*due, *skip} - set(CANONICAL)
    if unknown:
        raise ValueError(f"no such rewrite: {', '.join(sorted(unknown))}")
    return tuple(RewriteStep(name, due.get(name)) for name in CANONICAL if name not in skip)


TOLERANCES = {
    "fp32": Tolerance(1e-4, 0.99999),
    "tf32": Tolerance(0.02, 0.999),
    "fp16": Tolerance(0.02, 0.999),
    "bf16": Tolerance(0.10, 0.99),
    "int8": Tolerance(0.30, 0.97),
    "int8-bf16": Tolerance(0.30, 0.97),
    "fp8": Tolerance(0.30, 0.97),
}
"""Starting point of a recipe: typed graph against FP32, by precision. ``fp32`` also judges the FP32 stages."""


@dataclass(frozen=True)
class ModuleSpec:
    """What a recipe's ``build`` is asked for: image height and width in pixels, and the number of classes."""

    image: tuple[int, int]
    classes: int


@dataclass(frozen=True)
class Recipe:
    """One model: how its torch module is made and what is promised of its engine.

    ``build(spec)`` returns the module in eval mode with its library's own initialisation; it takes the
    ``inputs`` in order and returns the ``outputs`` in order (a tensor, or a tuple of them).
    ``adapt(state_dict, module)`` renames the keys of checkpoints written by other versions or libraries.
    ``hub`` is the Hugging Face repository of the pretrained weights, or None where nobody published any.
    ``head`` names the tensors whose first axis counts the classes, the first one found decides;
    ``head_extra`` is how many of its rows are no classes (DETR's "no object").
    ``published`` is (parameters in millions, GFLOPs, multiply and add counted as one) with ``classes`` classes.
    ``url`` is where they are instead, if they are not on the hub.
    ``attention_blocks`` counts the attentions, None where nobody knows them before the export; ``fused_attention`` is
    how many of them the compiler must have fused into one kernel, per precision: the fusion contract.
    """

    name: str
    build: Callable[[ModuleSpec], torch.nn.Module]
    preprocessing: Preprocessing
    outputs: tuple[TensorSpec, ...] = (TensorSpec("logits", "class scores before the softmax"),)
    family: str = "generic"
    paper: str = ""
    published: tuple[float, float] = (0.0, 0.0)
    image_multiple: int = 1
    task: str = "classification"
    classes: int = 1000
    opset: int = 22
    batch: Batch = Batch(1, 8, 32)
    input_name: str = "pixels"
    hub: str | None = None
    url: str | None = None
    head: tuple[str, ...] = ("head.weight",)
    head_extra: int = 0
    adapt: Callable[[dict, torch.nn.Module], dict] | None = None
    rewrites: tuple[RewriteStep, ...] = field(default_factory=canonical)
    attention_blocks: int | None = None
    fused_attention: Mapping[str, int] = field(default_factory=dict)
    wide: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Modules that a narrow type, by its name, is kept out of: FP32 in place of BF16, 16 bits in place of 8. Of a box's
    place BF16 tells 256 apart, E4M3 16."""
    unbiased: int | None = None
    """Normalisations whose projections need no bias in 16 bits (``absorb_query_biases``); None if nobody counted."""
    tolerances: Mapping[str, Tolerance] = field(default_factory=lambda: TOLERANCES)
    fixed_image: bool = False
    calibration: Callable[[Recipe], Iterator] | None = None
    """Makes calibration images, (3, H, W) float32 each, where the user gives none."""
    set_of_queries: bool = False
    """Whether a detector's queries are in no order of their own: it picks them by their scores, which may be as good as
    equal. They are compared as a set (:mod:`exporter.queries`)."""
    held_out: Callable[[Recipe], Iterator] | None = None
    """Makes ((3, H, W) float32, label) of labelled images that no training saw."""
    shipped: Path | None = None
    """Trained weights that come with the recipe: what ``pretrained`` and ``auto`` mean."""
    shallow: Recipe | None = None
    """The same with few blocks where the whole one takes long: what the tests of every recipe build."""
    origin: str = ""
    """What a recipe from outside of ``recipes/`` was made from, as a text that changes with it."""
    labels: tuple[str, ...] = ()
    """What each class is called, by its number; empty where nobody says."""

    def at(self, image: tuple[int, int]) -> Recipe:
        """The same model for images of another height and width."""
        return replace(self, preprocessing=replace(self.preprocessing, size=image))

    @property
    def folder(self) -> str:
        """The name as a folder: no separators of paths, whatever a source calls its model."""
        return safe_name(self.name)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        how = self.preprocessing
        return (TensorSpec(self.input_name, f"normalised RGB, {how.layout}", how.shape),)


def safe_name(name: str) -> str:
    """A model's name as a folder: ``timm:vit_tiny`` -> ``timm_vit_tiny``; no separators of paths, no leading dots."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._") or "model"


@dataclass(frozen=True)
class Precision:
    """One way of typing the graph; ``exporter/precisions/<name>.py`` holds one as ``PRECISION``.

    ``element_type`` is the ONNX type (numpy's name) of activations and weights. ``tf32`` lets the compiler round
    the inputs of FP32 matrix products to TF32. ``refused`` maps a compute capability to the reason why it
    cannot run this. ``keep_fp32`` is the set of operators that stay in FP32 inside the typed graph.
    """

    name: str
    element_type: str
    summary: str
    tf32: bool = False
    refused: Mapping[str, str] = field(default_factory=dict)
    keep_fp32: frozenset[str] = frozenset()
    quantized: str | None = None
    """The 8-bit type (numpy's name) of matrix products, or None."""

    @property
    def base(self) -> str:
        """The precision that this one is around its quantised products, itself where it has none."""
        return {"float16": "fp16", "bfloat16": "bf16"}[self.element_type] if self.quantized else self.name


@dataclass(frozen=True)
class Request:
    """A parsed and checked ``make engine``: what the user asked for, nothing that was found out later."""

    recipe: Recipe
    precision: Precision
    batch: Batch
    targets: tuple[str, ...]
    backend: str
    weights: str
    io: str
    out: Path
    native_image: bool = True
    images: Path | None = None
    allow_unfused: bool = False
    without: tuple[str, ...] = ()
    form: str | None = None
    """The form of attention that was asked for; None leaves it to the table of ``make tune``."""
    calib: Path | None = None
    """Images to calibrate an 8-bit precision on; None takes the recipe's own, else those of parity."""
    calib_images: int = 512
    goal: Goal = field(default_factory=Goal)
    """How far the narrow graph may be from FP32; blocks stay in 16 bits, or in FP32, until it is met."""
    require_gain: bool = False
    """Whether an 8-bit engine that is no faster than the 16-bit one fails."""
    observer: str = "mse"
    cache_limit: int = 50 * 10**9
    """Bytes that the cache may hold; the least recently used entries go."""
    cache: str | None = None
    """A folder, or an address that fsspec knows, of a cache that is shared; None keeps it in ``out``."""
    command: str = ""

    @property
    def unbiased(self) -> int | None:
        """The recipe's count; None at another image size, where windows may be padded."""
        return self.recipe.unbiased if self.native_image else None


@dataclass(frozen=True)
class RewriteReport:
    """What one rewrite did to the graph; ``max_abs_error`` is against the graph before it, None if unchanged.

    ``seconds`` are the rewrite's own, ``check_seconds`` those of proving it; ``refused`` says what looked like a match
    and was left as it is, by the node's name.
    """

    name: str
    matches: int
    nodes_before: int
    nodes_after: int
    max_abs_error: float | None
    seconds: float
    check_seconds: float = 0.0
    refused: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return vars(self) | {"refused": dict(self.refused)}
