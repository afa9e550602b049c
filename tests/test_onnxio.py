import ml_dtypes
import numpy as np
import onnx
import pytest
from graphs import assert_same, f32, graph, i64, initializer
from onnx import TensorProto, helper, numpy_helper

from exporter import onnxio

TEXT = """(float[batch, 4] x) => (float[n, 2] y) {
    h = MatMul (x, w1)
    a = Add (h, bias)
    b = MatMul (a, w2)
    y = Reshape (b, shape)
}"""


def model(seed=0):
    made = graph(TEXT, w1=f32(4, 300, seed=seed), bias=f32(300, seed=seed), w2=f32(300, 4, seed=seed), shape=i64(-1, 2))
    made.producer_name, made.producer_version = "torch", "2"
    made.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["batch", 300]))
    return made


@pytest.fixture(params=["one file", "external"])
def limit(request, monkeypatch):
    if request.param == "external":
        monkeypatch.setattr(onnxio, "SINGLE_FILE_LIMIT", 1000)
    return request.param


@pytest.fixture
def external(monkeypatch):
    monkeypatch.setattr(onnxio, "SINGLE_FILE_LIMIT", 1000)


def inside(made):
    """The model as it is in memory once its weights are: without a word of where they were."""
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    for tensor in copy.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    return copy


def test_what_is_saved_is_loaded(limit, tmp_path):
    files = onnxio.save(model(), tmp_path / "m.onnx")
    names = ["m.onnx"] if limit == "one file" else ["m.onnx", "m.onnx.data"]
    assert [f.name for f in files] == names and sorted(f.name for f in tmp_path.iterdir()) == names
    assert inside(onnxio.load(tmp_path / "m.onnx")) == inside(model())
    assert inside(onnx.load(tmp_path / "m.onnx")) == inside(model())
    assert_same(model(), onnx.load(tmp_path / "m.onnx"))


def test_saving_does_not_change_the_model(limit, tmp_path):
    made = model()
    before = made.SerializeToString()
    onnxio.save(made, tmp_path / "m.onnx")
    assert made.SerializeToString() == before


def test_equal_models_are_equal_bytes(limit, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        onnxio.save(model(), tmp_path / name / "m.onnx")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_external_weights_hold_the_large_tensors_and_no_more(external, tmp_path):
    onnxio.save(model(), tmp_path / "m.onnx")
    large = 4 * (4 * 300 + 300 + 300 * 4)
    assert (tmp_path / "m.onnx.data").stat().st_size == large
    shell = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    outside = {t.name: {e.key: e.value for e in t.external_data} for t in shell.graph.initializer}
    assert outside["shape"] == {} and outside["w1"] == {
        "location": "m.onnx.data",
        "offset": "0",
        "length": "4800",
    }
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)


@pytest.mark.parametrize("older", [b"", b"x" * 100_000])
def test_an_older_data_file_is_replaced(older, external, tmp_path):
    (tmp_path / "m.onnx.data").write_bytes(older)
    onnxio.save(model(), tmp_path / "m.onnx")
    assert inside(onnx.load(tmp_path / "m.onnx")) == inside(model())
    assert (tmp_path / "m.onnx.data").stat().st_size == 4 * 2700


def test_an_older_data_file_that_others_link_to_is_not_written_through(external, tmp_path):
    (tmp_path / "mine").write_bytes(b"kept")
    (tmp_path / "m.onnx.data").hardlink_to(tmp_path / "mine")
    onnxio.save(model(), tmp_path / "m.onnx")
    assert (tmp_path / "mine").read_bytes() == b"kept"


def test_saving_twice_to_one_place_keeps_the_last(limit, tmp_path):
    onnxio.save(model(seed=1), tmp_path / "m.onnx")
    onnxio.save(model(seed=2), tmp_path / "m.onnx")
    np.testing.assert_array_equal(initializer(onnx.load(tmp_path / "m.onnx"), "w1"), f32(4, 300, seed=2))


def test_the_limit_itself_is_one_file(monkeypatch, tmp_path):
    total = sum(onnxio.nbytes(t) for t in model().graph.initializer)
    monkeypatch.setattr(onnxio, "SINGLE_FILE_LIMIT", total)
    assert len(onnxio.save(model(), tmp_path / "m.onnx")) == 1
    monkeypatch.setattr(onnxio, "SINGLE_FILE_LIMIT", total - 1)
    assert len(onnxio.save(model(), tmp_path / "m.onnx")) == 2


FUNCTION = """
<ir_version: 10, opset_import: ["" : 22, "my" : 1]>
g (float[batch, 600] x) => (float[batch, 600] y) { y = my.Twice (x) }
<domain: "my", opset_import: ["" : 22]> Twice (a) => (b) { b = Add (a, a) }"""


def test_functions_of_the_model_are_kept(limit, tmp_path):
    made = onnx.parser.parse_model(FUNCTION)
    made.graph.initializer.append(numpy_helper.from_array(f32(600), "w"))
    made.graph.node.append(helper.make_node("Add", ["y0", "w"], ["y"]))
    made.graph.node[0].output[0] = "y0"
    onnxio.save(made, tmp_path / "m.onnx")
    onnxio.check(made)
    assert inside(onnx.load(tmp_path / "m.onnx")) == inside(made)


def test_metadata_of_the_model_is_kept(limit, tmp_path):
    made = model()
    made.metadata_props.add(key="a", value="b")
    made.doc_string = "words"
    onnxio.save(made, tmp_path / "m.onnx")
    assert inside(onnx.load(tmp_path / "m.onnx")) == inside(made)


DTYPES = (
    "FLOAT DOUBLE FLOAT16 BFLOAT16 INT8 UINT8 INT16 UINT16 INT32 UINT32 INT64 UINT64 BOOL COMPLEX64 "
    "FLOAT8E4M3FN FLOAT8E5M2 INT4 UINT4 FLOAT4E2M1"
).split()


def tensor(name, count):
    dtype = helper.tensor_dtype_to_np_dtype(getattr(TensorProto, name))
    return numpy_helper.from_array((np.arange(count) % 2).astype(dtype), "w")


@pytest.mark.parametrize("name", DTYPES)
def test_nbytes_is_the_size_of_the_raw_values(name):
    made = tensor(name, 10)
    assert onnxio.nbytes(made) == len(made.raw_data)


@pytest.mark.parametrize("name", ["FLOAT", "INT64", "INT32", "FLOAT16", "BFLOAT16", "BOOL", "FLOAT8E4M3FN"])
def test_nbytes_of_values_that_are_not_stored_raw(name):
    made = helper.make_tensor("w", getattr(TensorProto, name), [2, 3], [0, 1, 0, 1, 1, 0])
    assert not made.raw_data and onnxio.nbytes(made) == numpy_helper.to_array(made).nbytes


def test_nbytes_of_scalars_and_of_nothing():
    assert onnxio.nbytes(numpy_helper.from_array(np.float32(1), "w")) == 4
    assert onnxio.nbytes(numpy_helper.from_array(np.zeros((0, 9), np.float32), "w")) == 0


@pytest.mark.parametrize("name", DTYPES)
def test_external_weights_of_every_type(name, external, tmp_path):
    made = graph("(float[batch] x) => (float[batch] y) { y = Neg (x) }")
    made.graph.initializer.append(tensor(name, 4096))
    onnxio.save(made, tmp_path / "m.onnx")
    values = initializer(onnx.load(tmp_path / "m.onnx"), "w")
    np.testing.assert_array_equal(values, numpy_helper.to_array(made.graph.initializer[0]), strict=True)


def test_external_weights_that_are_not_stored_raw(external, tmp_path):
    made = graph("(float[batch] x) => (float[batch] y) { y = Neg (x) }")
    made.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [600], list(range(600))))
    onnxio.save(made, tmp_path / "m.onnx")
    assert initializer(onnx.load(tmp_path / "m.onnx"), "w").tolist() == list(range(600))


def test_check_accepts_a_model_and_leaves_it_alone():
    made = model()
    before = made.SerializeToString()
    onnxio.check(made)
    assert made.SerializeToString() == before


def test_check_does_not_read_external_weights(external, tmp_path):
    onnxio.save(model(), tmp_path / "m.onnx")
    (tmp_path / "m.onnx.data").unlink()
    onnxio.check(onnx.load(tmp_path / "m.onnx", load_external_data=False))


def test_check_accepts_weights_that_are_listed_as_inputs_too():
    """As files of IR version 3 have them."""
    made = model()
    for t in made.graph.initializer:
        made.graph.input.append(helper.make_tensor_value_info(t.name, t.data_type, t.dims))
    onnx.checker.check_model(made, full_check=True)
    onnxio.check(made)


@pytest.mark.parametrize(
    "text",
    [
        "(float[batch, 4] x) => (float[batch, 4] y) { y = Add (x, nowhere) }",
        "(float[batch, 4] x) => (float[batch, 5] y) { y = Neg (x) }",
        "(float[batch, 4] x) => (float16[batch, 4] y) { y = Neg (x) }",
        "(float[batch, 4] x) => (float[batch, 4] y) { y = NoSuchOperator (x) }",
        "(float[batch, 4] x) => (float[batch, 4] y) { a = MatMul (x, large)\n y = MatMul (a, large) }",
        "(float[batch, 4] x) => (float[batch, 4] y) { a = Cast <to = 10> (x)\n y = Add (a, x) }",
    ],
)
def test_check_refuses(text):
    made = graph(text, large=f32(4, 300)) if "large" in text else graph(text)
    with pytest.raises((onnx.checker.ValidationError, onnx.shape_inference.InferenceError)):
        onnxio.check(made)


def test_check_ignores_what_was_once_inferred():
    made = graph("(float[batch, 4] x) => (float[batch, 4] y) { a = Neg (x)\n y = Neg (a) }")
    made.graph.value_info.append(helper.make_tensor_value_info("a", TensorProto.FLOAT16, [7]))
    onnxio.check(made)
    assert len(made.graph.value_info) == 1


def dims(value):
    return [a.dim_param or a.dim_value for a in value.type.tensor_type.shape.dim]


def test_fix_batch_fixes_axis_0_and_the_same_symbol_elsewhere():
    made = graph(
        "(float[batch, tokens, 4] x, float[batch, 2] z) => (float[tokens, batch, 4] y, float[batch, 2] v)"
        "{ y = Transpose <perm = [1, 0, 2]> (x)\n v = Neg (z) }"
    )
    made.graph.value_info.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["tokens", "batch", "other"]))
    onnxio.fix_batch(made, 5)
    assert [dims(v) for v in made.graph.input] == [[5, "tokens", 4], [5, 2]]
    assert [dims(v) for v in made.graph.output] == [["tokens", 5, 4], [5, 2]]
    assert dims(made.graph.value_info[0]) == ["tokens", 5, "other"]


def test_fix_batch_of_inputs_with_symbols_of_their_own():
    made = graph(
        "(float[a, 4] x, float[b, 4] z) => (float[a, 4] y, float[b, 4] v, float[c] w)"
        "{ y = Neg (x)\n v = Neg (z)\n w = Identity (k) }",
        k=f32(3),
    )
    onnxio.fix_batch(made, 5)
    assert [dims(v) for v in made.graph.output] == [[5, 4], [5, 4], ["c"]]


def test_fix_batch_leaves_a_fixed_axis_0_and_weights_alone():
    made = graph("(float[2, batch] x, float[rows, 2] w) => (float[2, batch] y) { y = Neg (x) }", w=f32(3, 2))
    onnxio.fix_batch(made, 5)
    assert [dims(v) for v in made.graph.input] == [[2, "batch"], ["rows", 2]]
    assert dims(made.graph.output[0]) == [2, "batch"]


def test_fix_batch_with_a_scalar_among_the_inputs():
    made = graph("(float[batch, 4] x, float scale) => (float[batch, 4] y) { y = Mul (x, scale) }")
    onnxio.fix_batch(made, 5)
    assert [dims(v) for v in made.graph.input] == [[5, 4], []]


def test_a_fixed_batch_is_no_longer_dynamic():
    made = model()
    assert onnxio.batch_is_dynamic(made)
    onnxio.fix_batch(made, 5)
    assert not onnxio.batch_is_dynamic(made)


def test_a_skeleton_is_the_graph_without_its_weights():
    made = model()
    before = made.SerializeToString()
    shell = onnxio.skeleton(made)
    assert made.SerializeToString() == before
    assert [t.name for t in shell.graph.initializer] == ["shape"]
    assert {v.name: dims(v) for v in shell.graph.input} == {
        "x": ["batch", 4],
        "w1": [4, 300],
        "bias": [300],
        "w2": [300, 4],
    }
    assert shell.graph.node == made.graph.node and shell.opset_import == made.opset_import
    assert len(shell.SerializeToString()) < 1500 < made.ByteSize()


def test_detached_weights_are_the_weights():
    made = model()
    before = made.SerializeToString()
    shell, arrays = onnxio.detach(made)
    assert made.SerializeToString() == before
    assert set(arrays) == {"w1", "bias", "w2"}
    for name, values in arrays.items():
        np.testing.assert_array_equal(values, initializer(made, name), strict=True)
    assert [t.name for t in shell.graph.initializer if t.data_location != TensorProto.EXTERNAL] == ["shape"]
    assert len(shell.SerializeToString()) < 1500


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_opset_is_that_of_the_standard(domain):
    made = model()
    made.opset_import[0].domain = domain
    made.opset_import.insert(0, helper.make_opsetid("com.microsoft", 1))
    assert onnxio.opset(made) == 22


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("float[batch, 3, 8]", {"name": "x", "dtype": "float32", "shape": ["batch", 3, 8]}),
        ("float16[1]", {"name": "x", "dtype": "float16", "shape": [1]}),
        ("bfloat16[batch]", {"name": "x", "dtype": "bfloat16", "shape": ["batch"]}),
        ("int64[?, 0]", {"name": "x", "dtype": "int64", "shape": [None, 0]}),
        ("bool", {"name": "x", "dtype": "bool", "shape": []}),
    ],
)
def test_describe(text, wanted):
    made = graph(f"({text} x) => ({text} y) {{ y = Identity (x) }}")
    assert onnxio.describe(made.graph.input[0]) == wanted


def test_bfloat16_weights_survive(limit, tmp_path):
    values = f32(40, 40).astype(ml_dtypes.bfloat16)
    made = graph("(bfloat16[batch, 40] x) => (bfloat16[batch, 40] y) { y = MatMul (x, w) }", w=values)
    onnxio.save(made, tmp_path / "m.onnx")
    assert initializer(onnxio.load(tmp_path / "m.onnx"), "w").tobytes() == values.tobytes()
