import json

import pytest

from exporter import kernels, layers
from exporter.errors import UsageError


def tensor(name, shape, kind="Half"):
    sizes = ",".join(map(str, shape))
    layout = f"Strides: [1], StrideOrder: [0], Datatype: {kind}, Format: (Linear) Row"
    return f"{{ Name: {name}, Dimensions: [{sizes}], {layout} }}"


def layer(name, kind, inputs=(), outputs=(), constants=(), nodes=()):
    lists = [", ".join(tensor(*t) for t in side) for side in (inputs, constants, outputs)]
    metadata = "".join(f"[ONNX Layer: {n}]" for n in nodes)
    return (
        f"Name: {name}, LayerType: {kind}, Inputs: [ {lists[0]}], Constants: [ {lists[1]}], Outputs: [ {lists[2]}], "
        f"TacticName: {name}_0x12ab, StreamId: 0, Metadata: {metadata}"
    )


def log(*lines):
    return "\n".join(["INFO before", "VERBOSE Layers:", *lines, "I/O Tensors:", "Name: x, LayerType: not a layer"])


ATTENTION = layer(
    "_gemm_mha_v2_myl0_9", "kgen", [("q", (8, 49, 32)), ("k", (8, 49, 32))], [("o", (8, 49, 32))],
    [("bias", (1, 8, 49, 49))], ["blocks.0.attn/MatMul_1", "blocks.0.attn/Softmax_2", "blocks.0.attn/MatMul_3"],
)  # fmt: skip
LINEAR = layer(
    "__myl_FcAdd_myl0_3", "runtime_fusion", [("a", (8, 64))], [("b", (8, 32))], [("w", (64, 32)), ("c", (32,))],
    ["blocks.0.mlp/MatMul_5", "blocks.0.mlp/Add_6"],
)  # fmt: skip
COPY = layer(
    "__myl_ReshTranMove_myl0_1", "kgen", [("a", (8, 64), "Float")], [("b", (8, 64))], nodes=["blocks.0.mlp/MatMul_5"]
)
HOST = layer("__mye1_0_myl0_0", "shape_call")


def test_a_log_is_read_into_kernels_with_shapes_types_bytes_and_nodes():
    attention, linear = layers.parse(log(HOST, ATTENTION, LINEAR))
    assert attention.kind == "attention"
    assert attention.nodes == ("blocks.0.attn/MatMul_1", "blocks.0.attn/Softmax_2", "blocks.0.attn/MatMul_3")
    assert attention.bytes == 2 * (3 * 8 * 49 * 32 + 8 * 49 * 49)
    assert (linear.kind, linear.block) == ("matmul", "blocks.0")
    assert [(t.name, t.shape, t.type, t.bytes) for t in linear.constants] == [
        ("w", (64, 32), "Half", 4096), ("c", (32,), "Half", 64)]  # fmt: skip
    assert linear.as_dict()["inputs"] == [{"name": "a", "shape": [8, 64], "type": "Half", "bytes": 1024}]


def test_a_size_that_is_free_in_the_profile_has_no_bytes():
    (kernel,) = layers.parse(log(layer("k", "kgen", [("a", (-1, 64))], [("b", (8, 64))])))
    assert kernel.bytes is None and kernel.inputs[0].bytes is None


def test_what_launches_nothing_is_no_kernel():
    event = (
        "Name: m, LayerType: signal, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, EventId: 1, "
    )
    event += "Metadata: "
    assert [k.kind for k in layers.parse(log(event, COPY))] == ["copy"]
    assert [k.kind for k in layers.parse(log(HOST, layer("s", "signal"), layer("w", "wait"), COPY))] == ["copy"]


def number(name, kind, inputs=(), shape=(1,), type="Int64", constants=()):
    made = layer(f"{kind}_{name}", kind, inputs, [(name, shape, type)], constants)
    return made.replace(f"TacticName: {kind}_{name}_0x12ab", "TacticName: ")


BEGIN = [number("n", "reshape"), number("hvar^5i64", "cast", [("n", (1,), "Int64")])]


def test_numbers_that_the_host_works_out_are_no_kernels():
    text = log(HOST, *BEGIN, ATTENTION, *(line.replace("n_", "m_") for line in BEGIN), COPY)
    assert [k.kind for k in layers.parse(text)] == ["attention", "copy"]
    assert layers.host_numbers(text) == 4 and layers.host_numbers(log(HOST, ATTENTION)) == 0


def test_a_kernel_of_the_same_name_as_a_number_stays():
    twin = layer("reshape_n", "kgen", [("x", (8, 64))], [("y", (8, 64))])
    again = layer("k", "kgen", [("x", (8, 64))], [("n", (8, 64))])
    assert [k.name for k in layers.parse(log(*BEGIN, twin, again))] == ["reshape_n", "k"]


@pytest.mark.parametrize("entry", [
    number("n", "cast", [("pixels", (1,), "Int64")]),  # of something on the device
    number("n", "reshape", shape=(2,)),
    number("n", "reshape", type="Half"),
    number("n", "reshape", constants=[("c", (1,), "Int64")]),
    number("n", "kgen"),
    layer("n", "reshape"),
    layer("n", "cast", [], [("n", (1,), "Int64")]),  # with a tactic
])  # fmt: skip
def test_what_the_device_works_out_is_one(entry):
    text = log(entry, ATTENTION)
    assert len(layers.parse(text)) == 2 and layers.host_numbers(text) == 0


@pytest.mark.parametrize("text, says", [
    ("", "no list"),
    ("VERBOSE Layers:\nI/O Tensors:", "no kernels"),
    (log("Name: x, Kind: of another compiler"), "another compiler"),
    (log(layer("k", "kgen", [("a", (1,), "Complex64")])), "Complex64"),
])  # fmt: skip
def test_a_log_of_another_form_is_an_error_and_not_a_smaller_count(text, says):
    with pytest.raises(UsageError, match=says):
        layers.parse(text)


@pytest.mark.parametrize("name, layer_type, kind", [
    ("_gemm_mha_v2_myl0_9", "kgen", "attention"),
    ("__mye1+__mye2+__mye3", "gemm", "matmul"),
    ("__myl_FcAddDivCastErfCastAddMulMul", "runtime_fusion", "matmul"),
    ("__myl_CorrMulAddRelu", "runtime_fusion", "convolution"),
    ("patch_embed.proj/Conv_2_myl0_2", "correlation", "convolution"),
    ("__myl_CastReplConc", "kgen", "copy"),
    ("__myl_ReshAddReshCastMeanSubMulMean", "kgen", "normalisation"),
    ("__myl_AddSqrtDivMulCastMulAdd", "kgen", "normalisation"),
    ("__myl_SlicReshAddMaxrSubExpSumDivMul", "kgen", "softmax"),
    ("__myl_AddReshTranMulReshMove", "kgen", "pointwise"),
    ("MaxPool_1", "maxpool", "maxpool"),
    ("conv1", "CaskGemmConvolution", "convolution"),
    ("fc1", "MatrixMultiply", "matmul"),
])  # fmt: skip
def test_kinds(name, layer_type, kind):
    assert kernels.kind_of(name, layer_type) == kind


def test_flops_go_to_the_kernel_that_multiplies_and_none_are_lost():
    flops = {"blocks.0.mlp/MatMul_5": 1000, "blocks.0.attn/MatMul_1": 30, "blocks.0.attn/MatMul_3": 12}
    found = kernels.with_flops(layers.parse(log(COPY, LINEAR, ATTENTION)), flops)
    assert [k.flops for k in found] == [0, 1000, 42]


def test_attention_is_fused_where_its_softmax_lies_in_the_attention_kernel():
    names = ["blocks.0.attn/Softmax_2", "blocks.1.attn/Softmax_9"]
    alone = layer("__myl_MaxrSubExpSumDiv", "kgen", [("a", (8, 8))], [("b", (8, 8))], nodes=names[1:])
    found = layers.parse(log(ATTENTION, alone))
    assert kernels.fused_attention(found, names) == (names[:1], names[1:])
    assert kernels.totals(found, found, names).fused_attention == 1


def test_the_engine_inspectors_json_gives_the_same_kernels():
    def side(*tensors):
        return [{"Name": n, "Dimensions": list(shape), "Format/Datatype": f"Row major linear {kind} format"}
                for n, shape, kind in tensors]  # fmt: skip

    listed = [
        {"Name": "_gemm_mha_v2_myl0_9", "LayerType": "kgen", "Inputs": side(("q", (8, 49, 32), "FP16")),
         "Outputs": side(("o", (8, 49, 32), "BF16")), "TacticName": "t", "StreamId": 0,
         "Metadata": "[ONNX Layer: blocks.0.attn/MatMul_1][ONNX Layer: blocks.0.attn/Softmax_2]"},
        {"Name": "c", "LayerType": "CaskConvolution",
         "Inputs": [{"Name": "x", "Dimensions": [1, 3], "Datatype": "Float"}],
         "Outputs": side(("y", (1, 3), "Int8")), "Metadata": ""},
        {"Name": "s", "LayerType": "signal", "Inputs": [], "Outputs": []},
    ]  # fmt: skip
    attention, conv = layers.from_inspector(json.dumps({"Layers": listed, "Bindings": []}))
    assert (attention.kind, attention.nodes[1]) == ("attention", "blocks.0.attn/Softmax_2")
    assert [t.type for t in (*attention.inputs, *attention.outputs, *conv.inputs, *conv.outputs)] == [
        "Half", "BFloat16", "Float", "Int8"]  # fmt: skip
    assert attention.bytes == 2 * 2 * 8 * 49 * 32


@pytest.mark.parametrize(
    "listed", [[], ["a name without details"], [{"Name": "x", "Inputs": [{"Name": "t", "Dimensions": []}]}]]
)
def test_an_inspector_that_tells_less_is_an_error(listed):
    with pytest.raises(UsageError):
        layers.from_inspector(json.dumps({"Layers": listed}))


def test_a_kernel_is_the_same_after_json():
    tensors = [(kernels.Tensor(n, (2, -1, 3), "Half"),) for n in "xyw"]
    made = kernels.Kernel("k", "gemm", "matmul", *tensors, ("a/MatMul_1",), "tactic", 12)
    assert kernels.Kernel.from_dict(json.loads(json.dumps(made.as_dict()))) == made
