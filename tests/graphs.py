"""Tiny ONNX graphs for the tests: written as text, run in ONNX Runtime, put through one rewrite or typed."""

import importlib
from dataclasses import replace

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
from onnx import helper, numpy_helper, parser

from exporter import casting, numerics, onnxio, registry
from exporter.rewriting import shapes_of

NARROW = {"fp16": "FLOAT16", "bf16": "BFLOAT16"}

BATCHES = (1, 3, 8)
"""Batches at which a graph is run: the two that the tool itself tries, and one that it does not."""

RELATIVE = 1e-5
"""Share of an output's largest value by which a rewrite may move it that is not exact bit by bit."""


def graph(text: str, opset: int = 22, **weights) -> onnx.ModelProto:
    """The model of one parsed graph; every node is called ``blocks.0/<operator>_<position>``."""
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> g {text}')
    for i, node in enumerate(model.graph.node):
        node.name = f"blocks.0/{node.op_type}_{i}"
    for name, values in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return model


def f32(*shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def i64(*values) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def ops(model) -> list[str]:
    return [n.op_type for n in model.graph.node]


def initializer(model, name) -> np.ndarray:
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


def types(model) -> dict[str, str]:
    """The element type of every tensor, by ONNX's own inference."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    values = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    kinds = {v.name: v.type.tensor_type.elem_type for v in values}
    kinds |= {t.name: t.data_type for t in inferred.graph.initializer}
    return {name: onnx.TensorProto.DataType.Name(kind) for name, kind in kinds.items()}


def feed(model, batch: int, seed: int = 7) -> dict[str, np.ndarray]:
    """Noise for every input, symbolic axes as long as the batch."""
    rng = np.random.default_rng(seed)
    made = {}
    for value in model.graph.input:
        kind = value.type.tensor_type
        shape = [batch if axis.dim_param else axis.dim_value for axis in kind.shape.dim]
        made[value.name] = (2 * rng.standard_normal(shape)).astype(helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return made


def with_outputs(model, *names) -> onnx.ModelProto:
    """The same graph whose tensors of these names are outputs, too."""
    values = {v.name: v for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.extend(values[name] for name in names)
    return copy


def run(model, feeds, level="DISABLE_ALL") -> dict[str, np.ndarray]:
    """Every output by name, by default with nothing optimised."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_{level}")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


def apply(name: str, model: onnx.ModelProto, **options) -> tuple[int, onnx.ModelProto]:
    """``model`` after the rewrite ``name``, which found as many matches; the result is checked."""
    surgery = gs.import_onnx(model)
    matches = importlib.import_module(f"exporter.rewrites.{name}").apply(surgery, shapes_of(model), **options)
    after = gs.export_onnx(surgery.cleanup().toposort(), do_type_check=False)
    after.ir_version = model.ir_version
    onnxio.check(after)
    names = [n.name for n in after.graph.node if n.name]
    assert len(set(names)) == len(names), f"names of several nodes: {sorted({n for n in names if names.count(n) > 1})}"
    return matches, after


def assert_same(before, after, batches=BATCHES) -> None:
    """Bit for bit the same outputs, NaN being NaN."""
    for batch in batches:
        feeds = feed(before, batch)
        old, new = run(before, feeds), run(after, feeds)
        assert list(old) == list(new), f"outputs {list(new)}, were {list(old)}"
        for name, value in old.items():
            np.testing.assert_array_equal(new[name], value, err_msg=f"{name} at batch {batch}", strict=True)


def assert_close(before, after, batches=BATCHES, relative=RELATIVE) -> None:
    """The same outputs up to a share of each one's largest value, for rewrites that change the order of a sum."""
    for batch in batches:
        feeds = feed(before, batch)
        old, new = run(before, feeds), run(after, feeds)
        assert list(old) == list(new), f"outputs {list(new)}, were {list(old)}"
        for name, value in old.items():
            limit, says = relative * np.abs(value).max(), f"{name} at batch {batch}"
            np.testing.assert_allclose(new[name], value, rtol=0, atol=limit, err_msg=says, strict=True)


def rewritten(name: str, model: onnx.ModelProto, matches: int, batches=BATCHES, close=False, **options):
    """The rewrite found ``matches``, left a valid graph and changed no result (``close``: by no more than 1e-5)."""
    found, after = apply(name, model, **options)
    assert found == matches, f"{found} matches, {matches} are due"
    (assert_close if close else assert_same)(model, after, batches)
    return after


def cast(model, precision="fp16", io="fp32", **fields):
    """The typed graph, which has passed the checker: strongly typed, with node names of its own."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    typed = casting.cast(copy, replace(registry.precision(precision), **fields), io)
    onnxio.check(typed.model)
    names = [n.name for n in typed.model.graph.node]
    assert len(set(names)) == len(names)
    assert ops(typed.model).count("Cast") == ops(model).count("Cast") + typed.casts
    return typed


def twin(model, feeds, level="DISABLE_ALL", tf32=False) -> dict[str, np.ndarray]:
    """Every output of the model's numerics twin, which has passed the checker."""
    made = numerics.twin(model, tf32)
    onnxio.check(made)
    return run(made, feeds, level)


def between(lines, **weights):
    """x -> MatMul -> a -> the lines -> b -> MatMul -> y: what surrounds the lines is in the narrow type."""
    return graph(
        f"(float[batch, 4] x) => (float[batch, 4] y) {{ a = MatMul (x, w)\n {lines}\n y = MatMul (b, w) }}",
        w=np.eye(4, dtype=np.float32),
        **weights,
    )


def tiny_recipe(**fields):
    """The recipe of a ViT of two blocks at 32x32 pixels."""
    from timm.models.vision_transformer import VisionTransformer

    from exporter.types import Preprocessing, Recipe, TensorSpec

    def build(spec):
        return VisionTransformer(img_size=32, patch_size=16, embed_dim=32, depth=2, num_heads=2, num_classes=5).eval()

    return Recipe(
        **{
            "name": "tiny",
            "family": "vit",
            "paper": "",
            "build": build,
            "published": (0.0, 0.0),
            "image_multiple": 16,
            "preprocessing": Preprocessing((32, 32), (0.5,) * 3, (0.5,) * 3),
            "outputs": (TensorSpec("logits", "class scores"),),
            "classes": 5,
        }
        | fields
    )
