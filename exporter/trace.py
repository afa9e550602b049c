"""torch module -> ``raw.onnx``: torch's own exporter, a symbolic batch, names that say which block a node is of.

The exporter records each node's module path; it goes into the node's name (``layers.2.blocks.5.attn/MatMul_94``),
because that is what survives graph surgery, the compiler's log and an error message. All other metadata is
dropped: the exporter's stack traces hold paths of the build machine, and no two clones would build equal bytes.

Of the exporter's own optimisations only constant folding and common-subexpression elimination run; its pattern
rewriter takes as long as the rest of the export together (10 of 26 s for Swin-B) and what it finds, ours do too.
"""

from __future__ import annotations

import ast
import gc
from typing import TYPE_CHECKING

from exporter import modules
from exporter.errors import UsageError
from exporter.silence import silence
from exporter.types import Recipe

if TYPE_CHECKING:
    import onnx
    import torch

BATCH_AXIS = "batch"
NOISY = ("torch.onnx", "torch.fx", "torch.fx.experimental.symbolic_shapes", "torch._dynamo", "torch.export")
"""Loggers that print pages of a graph where a module cannot be exported."""


def export(module: torch.nn.Module, recipe: Recipe) -> onnx.ModelProto:
    """The module's graph at the recipe's image size and opset, FP32, batch axis symbolic.

    Raises :class:`UsageError` with the exporter's own reason where torch cannot export the module.
    """
    import onnx_ir as ir
    import torch
    from onnx_ir.passes import common
    from onnxscript.optimizer import fold_constants

    spec = recipe.inputs[0]
    example = torch.zeros(2, *spec.shape)  # two images: a batch of one would be traced as a constant
    names = [o.name for o in recipe.outputs]
    gc.disable()  # the exporter makes millions of objects that live until it is done: collecting costs a tenth of it
    try:
        with silence(*NOISY), torch.no_grad():
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=recipe.opset,
                input_names=[spec.name],
                output_names=names,
                dynamic_shapes=({0: torch.export.Dim(BATCH_AXIS, min=1, max=4096)},),
                optimize=False,
                verbose=False,
            )
    except Exception as error:
        reason = next(
            (str(e) for e in _causes(error) if type(e).__module__.startswith(("torch._dynamo", "torch.fx"))), str(error)
        )
        raise UsageError(
            "torch cannot export this module",
            model=recipe.name,
            stage="trace",
            found=(reason.strip().splitlines() or [type(error).__name__])[0] + _line(error),
            expected=f"a module without data-dependent control flow, at image size {recipe.preprocessing.size}",
            next="decide in build what depends on values there, and use torch.where for what depends on the image",
        ) from error
    finally:
        gc.enable()
    model = program.model
    _refuse_fixed_batch(model, recipe)
    fold_constants(model)
    _drop_misshapen_biases(model)
    for clean in (
        common.RemoveUnusedNodesPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
    ):
        clean(model)
    name_nodes(model)
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.name = recipe.name
    model.producer_version = torch.__version__
    return ir.to_proto(model)


def _refuse_fixed_batch(model, recipe: Recipe) -> None:
    """Raise where the module made a number of the batch, and torch specialised on it without a word."""
    size = model.graph.inputs[0].shape[0]
    if isinstance(size, int):
        raise UsageError(
            "the module fixes its batch",
            model=recipe.name,
            stage="trace",
            found=f"a graph for {size} images, those of the example, and no others",
            expected="a module that takes any number of images",
            next="x.shape[0] in place of len(x) or int(...), and no branch on it",
        )


def _drop_misshapen_biases(model) -> None:
    """Take away the zeros that the exporter adds to a 3-d convolution without bias: it gives them two axes."""
    for node in model.graph:
        bias = node.inputs[2].const_value if node.op_type == "Conv" and len(node.inputs) > 2 else None
        if bias is not None and len(bias.shape) != 1 and not bias.numpy().any():
            node.resize_inputs(2)


def _line(error: BaseException) -> str:
    """The line of the module's own code that torch could not take, where any of the errors tells."""
    return next((found for e in _causes(error) if (found := modules.line(e))), "")


def _causes(error: BaseException | None):
    while error is not None:
        yield error
        error = error.__cause__


def name_nodes(model) -> None:
    """Name every node ``<module path>/<operator>_<position>`` and drop all other metadata, in place."""
    for position, node in enumerate(model.graph):
        node.name = f"{module_path(node.metadata_props)}/{node.op_type}_{position}"
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()


def module_path(metadata) -> str:
    """The dotted path of the innermost module that a node was traced in, '' for the root module.

    torch writes ``pkg.torch.onnx.name_scopes``: a list of module paths from the root inwards, then the node.
    """
    scopes = metadata.get("pkg.torch.onnx.name_scopes")
    try:
        path = ast.literal_eval(scopes) if scopes else []
    except (ValueError, SyntaxError):
        return ""
    inner = str(path[-2]) if len(path) > 1 else ""
    return "" if inner.startswith("_empty_nn_module_stack") else inner  # what torch calls a node of no module
