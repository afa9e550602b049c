"""Applies a recipe's rewrites in order: counts, checks, compares with the graph before, records.

A rewrite is trusted with nothing: after each one that matched, the ONNX checker reads the graph and ONNX Runtime
runs it beside its predecessor, at batch 1 and at an odd batch; ``make explain`` asks for the profile's largest, too.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import TensorProto

from exporter import detached, onnxio, queries
from exporter.backends import onnxruntime as ort_backend
from exporter.errors import CheckFailed
from exporter.shapes import Inferred, infer
from exporter.surgery import Numbers, tidy
from exporter.types import Recipe, RewriteReport, RewriteStep

RELATIVE = 1e-5
"""Largest difference that a rewrite may make, as a share of the output's largest absolute value."""

BATCHES = (1, 3)
"""Images that run together in a comparison, where the caller names no others: a build has no time for 32, at which
the whole chain is compared (:mod:`exporter.parity`)."""


def rewrite(
    model: onnx.ModelProto,
    recipe: Recipe,
    *,
    steps: Sequence[RewriteStep] | None = None,
    native_image: bool = True,
    without: Sequence[str] = (),
    progress: Callable[[str], None] = lambda text: None,
    answers: list[dict[str, np.ndarray]] | None = None,
    batches: Sequence[int] = BATCHES,
) -> tuple[onnx.ModelProto, list[RewriteReport]]:
    """``model`` after ``steps`` (the recipe's own by default), and what each one did.

    Exact match counts are due where ``native_image`` says that the model has the recipe's own image size, and no
    earlier rewrite was left out by ``without``. ``answers`` is what the last call's graph answered, for a call that
    goes on from there; it is renewed in place. ``batches`` are what each graph is run at where its batch is free; with
    none nothing is run, and a report has no error: for a graph that is weighed and not built.
    Raises :class:`CheckFailed` naming the rewrite where a count is not the recipe's, the graph is invalid, or
    an output moved by more than ``RELATIVE``.
    """
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = {"": G_LOGGER.CRITICAL}  # it writes to standard output, which is the result's
    gs.logger.G_LOGGER.severity = gs.logger.G_LOGGER.ERROR
    feeds = _feeds(model, batches)
    shell, arrays = onnxio.detach(model)
    graph = detached.imported(shell, arrays)
    wiring = _wiring(graph)
    before = list(answers or ())
    shapes = shapes_of(shell)
    reports = []
    for step in recipe.rewrites if steps is None else steps:
        if step.name in without:
            continue
        progress(step.name)
        started = time.perf_counter()
        nodes, error, refused = len(shell.graph.node), None, {}
        matches = apply(step, graph, shapes, refused)
        if not matches and _wiring(graph) != wiring:
            graph = detached.imported(shell, arrays)  # what it changed without a match is not kept
        if not without:
            declined = sum(isinstance(why, Numbers) for why in refused.values())
            _check_count(step, matches + declined, recipe, native_image)
        applied = time.perf_counter()
        if matches:
            with _blaming(step, recipe):
                changed, weights = detached.exported(tidy(graph), shell)
                onnxio.check(changed)
            applied = time.perf_counter()
            _check_interface(shell, changed, step, recipe)
            if feeds:
                before = before or _outputs(shell, arrays, feeds)
                with _blaming(step, recipe):
                    after = _outputs(changed, weights, feeds)
                error, before = _compare(before, after, step, recipe), after
            shell, arrays, shapes, wiring = changed, weights, shapes_of(changed), _wiring(graph)
        seconds = (round(applied - started, 3), round(time.perf_counter() - applied, 3))
        reports.append(RewriteReport(step.name, matches, nodes, len(shell.graph.node), error, *seconds, refused))
    if answers is not None and feeds:
        answers[:] = before
    changed = any(report.matches for report in reports)
    return detached.whole(shell, arrays) if changed else model, reports


def apply(step: RewriteStep, graph: gs.Graph, shapes, refused: dict[str, str]) -> int:
    """Run one rewrite on ``graph`` in place; returns its matches, and in ``refused`` what it says it left alone."""
    function = importlib.import_module(f"exporter.rewrites.{step.name}").apply
    says = {"refused": refused} if "refused" in inspect.signature(function).parameters else {}
    return function(graph, shapes, **step.options, **says)


def _wiring(graph: gs.Graph) -> list[tuple]:
    """Which nodes there are and what they read and write: changes whenever a rewrite does anything."""
    return [
        (node.op, node.name, [(t.name, id(t)) for t in node.inputs], [t.name for t in node.outputs], repr(node.attrs))
        for node in graph.nodes
    ]


def shapes_of(model: onnx.ModelProto):
    """``shapes(batch)`` as a rewrite gets it: inferred when it is asked for, once a batch."""
    known: dict[int, Inferred] = {}

    def shapes(batch: int) -> Inferred:
        if batch not in known:
            known[batch] = infer(model, batch)
        return known[batch]

    return shapes


def _feeds(model: onnx.ModelProto, batches: Sequence[int]) -> list[dict[str, np.ndarray]]:
    """Noise, the same images at each batch but in another order, so that no image keeps its place."""
    if not batches:
        return []
    spec = model.graph.input[0]
    sizes = [d.dim_value for d in spec.type.tensor_type.shape.dim][1:]
    batches = batches if onnxio.batch_is_dynamic(model) else (spec.type.tensor_type.shape.dim[0].dim_value,)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((max(batches), *sizes), dtype=np.float32)
    return [{spec.name: noise[rng.permutation(max(batches))[:batch]]} for batch in batches]


def _outputs(shell: onnx.ModelProto, arrays: detached.Arrays, feeds: list[dict]) -> list[dict[str, np.ndarray]]:
    made = ort_backend.session(shell, arrays, once=True)
    return [ort_backend.run(made, feed) for feed in feeds]


def _check_count(step: RewriteStep, matches: int, recipe: Recipe, native_image: bool) -> None:
    if step.matches is None or matches == step.matches or (not native_image and matches > 0 and step.matches > 0):
        return
    raise CheckFailed(
        f"the rewrite {step.name} did not match as often as the recipe says",
        model=recipe.name,
        stage="rewrite",
        found=f"{matches} matches",
        expected=f"{step.matches} (the recipe's count)"
        if recipe.origin
        else f"{step.matches} (recipes/{recipe.family}.py)",
        next="pip install -e . restores the pinned torch and timm; --without " + step.name + " builds without it",
    )


@contextlib.contextmanager
def _blaming(step: RewriteStep, recipe: Recipe) -> Iterator[None]:
    """Whatever the libraries raise of a rewritten graph is the rewrite's fault."""
    try:
        yield
    except Exception as error:
        raise CheckFailed(
            f"the rewrite {step.name} left an invalid graph",
            model=recipe.name,
            stage="rewrite",
            found=next(iter(str(error).strip().splitlines()), type(error).__name__),
            expected="a graph that the ONNX checker accepts and ONNX Runtime runs",
            next=f"make engine MODEL={recipe.name} ... --without {step.name}",
        ) from error


def _check_interface(before: onnx.ModelProto, after: onnx.ModelProto, step: RewriteStep, recipe: Recipe) -> None:
    """Inputs and outputs keep their names, order and element types."""
    old, new = (
        [
            f"{v.name} ({TensorProto.DataType.Name(v.type.tensor_type.elem_type)})"
            for v in (*m.graph.input, *m.graph.output)
        ]
        for m in (before, after)
    )
    if old != new:
        raise CheckFailed(
            f"the rewrite {step.name} changed the inputs or outputs",
            model=recipe.name,
            stage="rewrite",
            found=", ".join(new),
            expected=", ".join(old),
            next=f"make engine MODEL={recipe.name} ... --without {step.name}",
        )


def _compare(before: list[dict], after: list[dict], step: RewriteStep, recipe: Recipe) -> float:
    worst = 0.0
    for old, new in zip(before, after, strict=True):
        new = queries.ordered(old, new) if recipe.set_of_queries else new
        for name, reference in old.items():
            scale = float(np.abs(reference).max()) or 1.0
            error = float(np.abs(new[name] - reference).max()) if new[name].shape == reference.shape else float("inf")
            worst = max(worst, error)
            if not error <= RELATIVE * scale:
                raise CheckFailed(
                    f"the rewrite {step.name} changed what the model computes",
                    model=recipe.name,
                    stage="rewrite",
                    found=f"{name} moved by {error:.3g} at batch {len(reference)}",
                    expected=f"at most {RELATIVE * scale:.3g} ({RELATIVE} of the largest value)",
                    next=f"make engine MODEL={recipe.name} ... --without {step.name}",
                )
    return worst
