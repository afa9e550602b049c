"""An ONNX file from elsewhere as a graph of a recipe's model: what must fit, and what is only remarked."""

from __future__ import annotations

from pathlib import Path

import onnx

from exporter import isolated, onnxio
from exporter.errors import UsageError
from exporter.types import Recipe


def load(path: Path, recipe: Recipe) -> tuple[onnx.ModelProto, list[str]]:
    """(the graph with its outputs in the recipe's order, remarks on what differs from the recipe's own export).

    Raises :class:`UsageError` where the file is no ONNX model, or its inputs or outputs are not the recipe's.
    """
    if not path.exists():
        raise _refuse("does not exist", recipe, path, "no such file", "an .onnx file")
    if why := isolated.fault(path):
        raise _refuse("is no valid ONNX model", recipe, path, why, "a model that onnx.checker accepts")
    try:
        model = onnxio.load(path)
    except Exception as error:  # whatever protobuf, onnx and its checker say of a damaged file
        why = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise _refuse("is no valid ONNX model", recipe, path, why[:300], "a model that onnx.checker accepts") from None
    remarks = [_check_input(model, recipe, path)]
    remarks.append(_order_outputs(model, recipe, path))
    if (found := onnxio.opset(model)) != recipe.opset:
        remarks.append(f"opset {found}, the recipe exports {recipe.opset}")
    return model, [remark for remark in remarks if remark]


def _check_input(model: onnx.ModelProto, recipe: Recipe, path: Path) -> str:
    weights = {t.name for t in model.graph.initializer}
    inputs = [v for v in model.graph.input if v.name not in weights]
    own = recipe.inputs[0]
    wanted = f"one input, {own.name} (batch, {', '.join(map(str, own.shape))})"
    described = [onnxio.describe(v) for v in inputs]
    if len(inputs) != 1:
        found = ", ".join(d["name"] for d in described) or "none"
        raise _refuse("has other inputs", recipe, path, f"{len(inputs)} inputs: {found}", wanted)
    shape = described[0]["shape"]
    fits = len(shape) == len(own.shape) + 1 and all(
        not isinstance(n, int) or n == m for n, m in zip(shape[1:], own.shape, strict=True)
    )
    if not fits:
        raise _refuse("has another input", recipe, path, f"{inputs[0].name} {tuple(shape)}", wanted)
    first = model.graph.input.index(inputs[0]) if hasattr(model.graph.input, "index") else 0
    if first:
        model.graph.input.insert(0, model.graph.input.pop(first))
    return "" if inputs[0].name == own.name else f"its input is called {inputs[0].name}, the recipe's {own.name}"


def _order_outputs(model: onnx.ModelProto, recipe: Recipe, path: Path) -> str:
    names = [spec.name for spec in recipe.outputs]
    outputs = list(model.graph.output)
    if len(outputs) != len(names):
        found = ", ".join(v.name for v in outputs) or "none"
        raise _refuse("has other outputs", recipe, path, f"{len(outputs)} outputs: {found}", ", ".join(names))
    if {v.name for v in outputs} != set(names):
        return (
            f"its outputs are called {', '.join(v.name for v in outputs)}: taken in the recipe's order, "
            + ", ".join(names)
        )
    by_name = {v.name: v for v in outputs}
    del model.graph.output[:]
    model.graph.output.extend(by_name[name] for name in names)
    return ""


def _refuse(what: str, recipe: Recipe, path: Path, found: str, expected: str) -> UsageError:
    return UsageError(
        f"{path} {what}",
        model=recipe.name,
        stage="blame",
        found=found,
        expected=expected,
        next=f"make engine MODEL={recipe.name} writes one: build/{recipe.name}/raw.onnx",
    )
