"""Faults to plant into an exported graph, each one at a module's path; every function edits the model in place."""

import numpy as np
from onnx import helper, numpy_helper

from exporter.naming import path_of
from exporter.shapes import infer


def nodes(model, path, *ops):
    """The nodes of these operators within a module, in order."""
    found = [
        n for n in model.graph.node
        if n.op_type in ops and (path_of(n.name) == path or path_of(n.name).startswith(f"{path}."))
    ]  # fmt: skip
    assert found, f"no {ops} in {path}"
    return found


def change(model, name, how):
    """Replace an initializer's values by ``how(values)``, for its reader alone."""
    tensor = next(t for t in model.graph.initializer if t.name == name)
    values = np.ascontiguousarray(how(numpy_helper.to_array(tensor).copy()))
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def constants(model, node):
    """The initializers that a node reads."""
    there = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return {name: there[name] for name in node.input if name in there}


def weight(model, path, how):
    """Change the weight of the Linear or convolution at a path."""
    node = nodes(model, path, "MatMul", "Gemm", "Conv")[0]
    name, _ = max(constants(model, node).items(), key=lambda item: item[1].size)
    change(model, name, how)


def scale(model, path):
    weight(model, path, lambda w: w * w.dtype.type(1.01))


def swap_heads(width):
    """The first two heads, of ``width`` features, change places on their way into the output projection."""

    def swap(w):
        w[: 2 * width] = np.concatenate([w[width : 2 * width], w[:width]])
        return w

    def swap_heads(model, path):
        weight(model, path, swap)

    return swap_heads


def wrong_mask(model, path):
    """The shift mask's -100 becomes +100: tokens see only the windows that they must not see."""
    for node in model.graph.node:
        for name, values in constants(model, node).items():
            if path_of(node.name) == path and values.size and values.min() == -100:
                own = f"{name}/wrong"
                model.graph.initializer.append(numpy_helper.from_array(-values, own))
                node.input[list(node.input).index(name)] = own
                return
    raise AssertionError(f"no mask in {path}")


def transposed_bias(model, path):
    """The relative position bias of queries and keys exchanged."""
    for node in nodes(model, path, "Add"):
        for name, values in constants(model, node).items():
            if values.ndim >= 3 and values.shape[-1] == values.shape[-2]:
                change(model, name, lambda v: v.swapaxes(-1, -2))
                return
    raise AssertionError(f"no bias in {path}")


def baked_batch(batch):
    """A Reshape has the batch size that the graph was exported with."""

    def baked_batch(model, path):
        here, there = (infer(model, n).shapes for n in (batch, batch + 1))
        node = next(n for n in nodes(model, path, "Reshape") if here[n.output[0]] != there[n.output[0]])
        target = np.array(here[node.output[0]], np.int64)
        model.graph.initializer.append(numpy_helper.from_array(target, f"{node.output[0]}/baked"))
        node.input[1] = f"{node.output[0]}/baked"

    return baked_batch


def decompose_layer_norm(model, path):
    """A LayerNormalization as Pow, ReduceMean and Sqrt, in the type that the graph has there."""
    node = nodes(model, path, "LayerNormalization")[0]
    x, gain, shift = node.input[:3]
    kind = next(t.data_type for t in model.graph.initializer if t.name == gain)
    p = path + "/"
    two, eps, axes = (f"{p}{n}" for n in ("two", "eps", "axes"))
    as_kind = helper.tensor_dtype_to_np_dtype(kind)
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(2, as_kind), two),
            numpy_helper.from_array(np.array(1e-6, as_kind), eps),
            numpy_helper.from_array(np.array([-1], np.int64), axes),
        ]
    )
    made = [
        ("ReduceMean", [x, axes], "mean"),
        ("Sub", [x, f"{p}mean"], "centred"),
        ("Pow", [f"{p}centred", two], "square"),
        ("ReduceMean", [f"{p}square", axes], "variance"),
        ("Add", [f"{p}variance", eps], "guarded"),
        ("Sqrt", [f"{p}guarded"], "deviation"),
        ("Div", [f"{p}centred", f"{p}deviation"], "normal"),
        ("Mul", [f"{p}normal", gain], "scaled"),
    ]
    new = [helper.make_node(op, i, [f"{p}{o}"], name=f"{p}{op}_{o}") for op, i, o in made]
    new.append(helper.make_node("Add", [f"{p}scaled", shift], [node.output[0]], name=f"{p}Add_shift"))
    place = list(model.graph.node).index(node)
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*rest[:place], *new, *rest[place + 1 :]])


def without_names(model):
    """Nodes as another exporter names them."""
    for i, node in enumerate(model.graph.node):
        node.name = f"node_{i}"
