"""A comparison of nothing fails, and so does every difference that a user could meet."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from graphs import graph as parsed
from graphs import tiny_recipe
from onnx import TensorProto, helper, numpy_helper
from polygraphy.exception import PolygraphyException

from exporter import arrays, parity, registry, rewriting, samples
from exporter.errors import UsageError
from exporter.types import Batch, TensorSpec, Tolerance

FP32 = Tolerance(1e-4, 0.99999)
LOOSE = Tolerance(1e30, -1.0)
ONE = replace(registry.recipe("vit_ti").at((4, 4)), outputs=(TensorSpec("logits", ""),))
TWO = replace(ONE, outputs=(TensorSpec("a", ""), TensorSpec("b", "")))
DETR = registry.recipe("detr_r50")


def values(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def batches(*sizes, names=("logits",), classes=10):
    return [{n: values(size, classes, seed=10 * i + j) for j, n in enumerate(names)} for i, size in enumerate(sizes)]


def copied(outputs):
    return [{k: v.copy() for k, v in batch.items()} for batch in outputs]


def failure(recipe, reference, found, tolerance=LOOSE):
    rung = parity.compare(recipe, tolerance, reference, found)
    assert (rung.status, bool(rung.why)) == (parity.FAILED, True)
    return rung


def strictly(rung):
    """What a reader of the JSON gets; NaN and Infinity are no JSON."""
    return json.loads(json.dumps(rung.as_dict(), allow_nan=False))


# compare


def test_equal_outputs_pass_with_every_field():
    reference = batches(1, 3, 5)
    rung = parity.compare(ONE, FP32, reference, copied(reference))
    assert (rung.status, rung.why, rung.samples, rung.batches) == (parity.PASSED, "", 9, (1, 3, 5))
    assert rung.agreement == {"top1_agreement": 1.0, "top5_agreement": 1.0}
    assert strictly(rung) == {
        "status": "passed", "max_abs": 0.0, "mean_abs": 0.0, "relative_max": 0.0, "cosine": 1.0,
        "top1_agreement": 1.0, "top5_agreement": 1.0, "images": None, "samples": 9, "batches": [1, 3, 5], "why": "",
        "tolerance": vars(FP32),
        "outputs": {"logits": {"max_abs": 0.0, "mean_abs": 0.0, "relative_max": 0.0, "cosine": 1.0}},
    }  # fmt: skip


def test_the_errors_are_the_worst_batch_s_and_the_mean_is_over_all_samples():
    reference = batches(1, 3)
    found = copied(reference)
    found[0]["logits"] += 0.5
    found[1]["logits"] += 0.25
    errors = parity.compare(ONE, LOOSE, reference, found).outputs["logits"]
    assert errors["max_abs"] == pytest.approx(0.5) and errors["mean_abs"] == pytest.approx((0.5 + 3 * 0.25) / 4)
    assert errors["relative_max"] == pytest.approx(
        max(0.5 / np.abs(reference[0]["logits"]).max(), 0.25 / np.abs(reference[1]["logits"]).max())
    )


def test_outputs_are_compared_by_name_and_not_by_place():
    reference = batches(2, 3, names=("a", "b"))
    found = [{"b": batch["b"], "a": batch["a"]} for batch in copied(reference)]
    assert parity.compare(TWO, FP32, reference, found).status == parity.PASSED


NOTHING = {
    "no batches": (ONE, [], []),
    "no outputs": (ONE, [{}], [{}]),
    "no outputs of one": (ONE, batches(2), [{}]),
    "no outputs of the recipe": (replace(ONE, outputs=()), [{}], [{}]),
    "no samples": (ONE, batches(0), batches(0)),
    "no samples in one batch": (ONE, batches(3, 0), batches(3, 0)),
    "no classes": (ONE, batches(3, classes=0), batches(3, classes=0)),
    "a missing batch": (ONE, batches(1, 3), batches(1)),
    "a further batch": (ONE, batches(1), batches(1, 3)),
    "no batches of one": (ONE, batches(1), []),
    "another name": (ONE, batches(2), batches(2, names=("scores",))),
    "another name on both sides": (ONE, batches(2, names=("scores",)), batches(2, names=("scores",))),
    "a missing output": (TWO, batches(2, names=("a", "b")), batches(2, names=("a",))),
    "a further output": (ONE, batches(2), batches(2, names=("logits", "b"))),
    "fewer samples": (ONE, batches(3), batches(2)),
    "one sample for all": (ONE, batches(3), batches(1)),
    "fewer classes": (ONE, batches(3), batches(3, classes=9)),
    "another order of axes": (ONE, batches(3), [{"logits": batches(3)[0]["logits"].T}]),
    "a further axis": (ONE, batches(3), [{"logits": batches(3)[0]["logits"][None]}]),
    "no batch axis": (ONE, [{"logits": np.float32(1).reshape(())}], [{"logits": np.float32(1).reshape(())}]),
}


@pytest.mark.parametrize("recipe, reference, found", NOTHING.values(), ids=NOTHING)
def test_what_cannot_be_compared_fails_and_says_why(recipe, reference, found):
    rung = failure(recipe, reference, found)
    assert rung.outputs == {} and rung.samples == 0
    assert strictly(rung)["status"] == "failed"


def test_swapped_outputs_fail():
    reference = batches(2, 3, names=("a", "b"))
    failure(TWO, reference, [{"a": batch["b"], "b": batch["a"]} for batch in reference], FP32)


def test_batches_in_another_order_fail():
    reference = batches(3, 3)
    failure(ONE, reference, reference[::-1], FP32)


def test_rows_in_another_order_fail():
    reference = batches(3)
    failure(ONE, reference, [{"logits": reference[0]["logits"][[1, 0, 2]]}], FP32)


def finite(value):
    return isinstance(value, float) and np.isfinite(value)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("side", ["reference", "compared", "both"])
@pytest.mark.parametrize("output", ["a", "b"])
def test_a_single_value_that_is_no_number_fails_and_no_other_output_hides_it(bad, side, output):
    reference = batches(2, 3, names=("a", "b"))
    found = copied(reference)
    if side != "compared":
        reference[1][output][2, 7] = bad
    if side != "reference":
        found[1][output][2, 7] = bad
    rung = failure(TWO, reference, found)
    assert not finite(rung.outputs[output]["max_abs"]) and output in rung.why
    assert not finite(rung.as_dict()["max_abs"]) and not finite(rung.as_dict()["relative_max"])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_record_of_what_is_no_number_is_json(bad):
    reference = batches(2, 3)
    found = copied(reference)
    found[1]["logits"][2, 7] = bad
    record = strictly(failure(ONE, reference, found))
    assert record["status"] == "failed" and not finite(record["max_abs"])


@pytest.mark.parametrize("batch, row, column", [(0, 0, 0), (1, 2, 999), (2, 4, 500)])
def test_one_wrong_value_in_a_thousand_is_caught_and_named(batch, row, column):
    reference = batches(1, 3, 5, classes=1000)
    found = copied(reference)
    found[batch]["logits"][row, column] += 1.01e-4 * np.abs(reference[batch]["logits"]).max()
    rung = failure(ONE, reference, found, FP32)
    assert f"logits at batch {(1, 3, 5)[batch]}: relative max 0.000101 (at most 0.0001)" in rung.why
    found[batch]["logits"][row, column] = reference[batch]["logits"][row, column]
    assert parity.compare(ONE, FP32, reference, found).status == parity.PASSED


def test_a_sample_that_points_elsewhere_is_caught_by_its_angle():
    reference = batches(4, classes=1000)
    reference[0]["logits"][1] *= 1e-6  # small beside the others, so the largest error says nothing
    found = copied(reference)
    found[0]["logits"][1] = -found[0]["logits"][1]
    rung = failure(ONE, reference, found, Tolerance(1e-4, 0.9))
    assert rung.outputs["logits"]["relative_max"] < 1e-4 and "cosine -1 (at least 0.9)" in rung.why


def test_every_failure_is_counted():
    reference = batches(1, 3, 5, names=("a", "b"))
    found = copied(reference)
    for batch in found[1:]:
        batch["a"] += 1
        batch["b"] += 1
    assert failure(TWO, reference, found, FP32).why.endswith("4 output batches in all")


def test_detections_are_recorded_with_their_worst_box():
    reference = [{"logits": values(n, 6, 5, seed=n), "boxes": np.abs(values(n, 6, 4)) + 0.1} for n in (1, 3)]
    found = copied(reference)
    found[0]["boxes"][0, 0, 2] *= 2
    rung = parity.compare(DETR, LOOSE, reference, found)
    assert rung.agreement["box_iou_min"] == pytest.approx(0.5, abs=1e-5)
    assert rung.agreement["box_iou"] == pytest.approx((23 + 0.5) / 24, abs=1e-5)  # of 4 images with 6 boxes
    assert strictly(rung)["box_iou_min"] == rung.agreement["box_iou_min"]


def test_a_comparison_that_did_not_run_is_no_pass():
    assert strictly(parity.Rung(parity.NOT_RUN, "no GPU")) == {
        "status": "not run", "why": "no GPU", "images": None, "samples": 0,
        "batches": [], "tolerance": None, "outputs": {},
    }  # fmt: skip


# Runners


class Scores(torch.nn.Module):
    """Answers into one buffer, as engines do."""

    def __init__(self, outputs=1):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.arange(48.0).reshape(48, 1) / 48)
        self.buffer = torch.zeros(8, 1)
        self.outputs = outputs

    def forward(self, pixels):
        found = self.buffer[: len(pixels)].copy_(pixels.flatten(1) @ self.weight)
        return found if self.outputs == 1 else tuple(found + i for i in range(self.outputs))


def feeds(*sizes):
    return [{"pixels": values(size, 3, 4, 4, seed=i)} for i, size in enumerate(sizes)]


def scores(feed):
    return feed["pixels"].reshape(-1, 48) @ (np.arange(48, dtype=np.float32).reshape(48, 1) / 48)


def test_torch_answers_every_batch_for_itself():
    fed = feeds(1, 3, 2)
    found = parity.run(parity.TorchRunner(Scores(), ONE), fed)
    assert [batch.keys() for batch in found] == [{"logits"}] * 3
    for feed, batch in zip(fed, found, strict=True):
        assert batch["logits"].dtype == np.float32
        np.testing.assert_allclose(batch["logits"], scores(feed), atol=1e-5)


def test_torch_s_outputs_have_the_recipe_s_names_in_its_order():
    (found,) = parity.run(parity.TorchRunner(Scores(2), TWO), feeds(2))
    assert list(found) == ["a", "b"]
    np.testing.assert_allclose(found["b"] - found["a"], 1, atol=1e-5)


@pytest.mark.parametrize("outputs, recipe", [(1, TWO), (2, ONE), (3, TWO)])
def test_torch_with_more_or_fewer_outputs_than_the_recipe_is_an_error(outputs, recipe):
    with pytest.raises(UsageError, match="does not answer what its recipe says"):
        parity.run(parity.TorchRunner(Scores(outputs), recipe), feeds(2))


def test_torch_leaves_no_gradients_and_the_inputs_alone():
    module, fed = Scores(), feeds(2)
    before = fed[0]["pixels"].copy()
    parity.run(parity.TorchRunner(module, ONE), fed)
    assert module.weight.grad is None and not module.buffer.requires_grad
    np.testing.assert_array_equal(fed[0]["pixels"], before)


def test_torch_tensors_and_half_precision_become_fp32_arrays():
    class Runner(parity.TorchRunner):
        def infer_impl(self, feed_dict):
            self.inference_time = 0
            return {"logits": torch.ones(2, 3, dtype=torch.bfloat16), "half": np.ones((2, 3), np.float16)}

    (found,) = parity.run(Runner(Scores(), ONE), feeds(2))
    assert [type(v) for v in found.values()] == [np.ndarray] * 2
    assert [v.dtype for v in found.values()] == [np.float32] * 2 and (found["logits"] == 1).all()


def graph(*nodes, batch="batch", constants=()):
    """pixels (batch, 3, 4, 4) to logits (batch, 1): torch's scores, then ``nodes`` from ``scores`` on."""
    weight = np.arange(48, dtype=np.float32).reshape(48, 1) / 48
    shape = np.array([-1, 48], np.int64)
    return helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Reshape", ["pixels", "shape"], ["rows"]),
                helper.make_node("MatMul", ["rows", "weight"], ["scores"]),
                *nodes,
            ],
            "scores",
            [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [batch, 3, 4, 4])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 1])],
            [numpy_helper.from_array(a, n) for n, a in (("weight", weight), ("shape", shape), *constants)],
        ),
        opset_imports=[helper.make_opsetid("", 22)],
        ir_version=10,
    )


def node(kind, *inputs, **attributes):
    return helper.make_node(kind, inputs, ["logits"], **attributes)


RIGHT = graph(node("Identity", "scores"))
WRONG = {
    "the mean over the batch is added": graph(
        helper.make_node("ReduceMean", ["scores", "axes"], ["mean"], keepdims=1),
        node("Add", "scores", "mean"),
        constants=[("axes", np.array([0], np.int64))],
    ),
    "the first row's answer for all": graph(
        helper.make_node("Gather", ["scores", "first"], ["one"]),
        helper.make_node("Shape", ["scores"], ["size"]),
        node("Expand", "one", "size"),
        constants=[("first", np.array([0], np.int64))],
    ),
    "the rows are turned round": graph(
        node("Slice", "scores", "last", "end", "zero", "back"),
        constants=[(n, np.array([v], np.int64))
                   for n, v in (("last", -1), ("end", -(2**62)), ("zero", 0), ("back", -1))],
    ),
    "a softmax over the batch": graph(node("Softmax", "scores", axis=0)),
    "a value per position": graph(
        helper.make_node("CumSum", ["scores", "zero"], ["sum"]),
        node("Add", "scores", "sum"),
        constants=[("zero", np.array(0, np.int64))],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def planned():
    """The feeds of a schedule over eight samples, and torch's answers, each sample alone."""
    pixels = values(8, 3, 4, 4)
    alone = parity.run(parity.TorchRunner(Scores(), ONE), [{"pixels": row[None]} for row in pixels])
    answers = np.concatenate([batch["logits"] for batch in alone])
    plan = samples.schedule(8, Batch(1, 2, 5))
    return [{"pixels": pixels[rows]} for rows in plan], [{"logits": answers[rows]} for rows in plan]


def test_a_graph_that_is_torch_s_passes(planned):
    fed, expected = planned
    rung = parity.compare(ONE, FP32, expected, parity.run_onnx(RIGHT, fed))
    assert (rung.status, rung.samples) == (parity.PASSED, sum(rung.batches)) and rung.batches[:3] == (1, 3, 5)


@pytest.mark.parametrize("name", WRONG)
def test_a_graph_in_which_the_samples_of_a_batch_meet_fails(name, planned):
    onnx.checker.check_model(WRONG[name], full_check=True)
    fed, expected = planned
    failure(ONE, expected, parity.run_onnx(WRONG[name], fed), Tolerance(0.1, 0.9))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_graph_for_one_batch_size_does_not_run_at_the_others(size, planned):
    with pytest.raises(PolygraphyException):
        parity.run_onnx(graph(node("Identity", "scores"), batch=size), planned[0])


def test_onnx_outputs_of_several_batches_are_kept_apart():
    fed = feeds(2, 2, 1)
    for feed, batch in zip(fed, parity.run_onnx(RIGHT, fed), strict=True):
        assert list(batch) == ["logits"]
        np.testing.assert_allclose(batch["logits"], scores(feed), atol=1e-5)


# arrays


def test_outputs_survive_a_file_bit_by_bit_and_in_order(tmp_path):
    outputs = [{"b": values(n, 2, seed=n), "a": values(n, 3, 4)} for n in range(1, 13)]
    outputs[0]["a"].flat[:3] = np.nan, np.inf, -0.0
    arrays.write(tmp_path / "x.npz", outputs)
    found = arrays.read(tmp_path / "x.npz")
    assert [list(batch) for batch in found] == [["b", "a"]] * 12
    for first, second in zip(outputs, found, strict=True):
        for name in first:
            assert first[name].tobytes() == second[name].tobytes() and first[name].shape == second[name].shape


def test_names_may_hold_a_slash_and_arrays_may_be_empty(tmp_path):
    outputs = [{"head/logits": values(2, 3)}, {"head/logits": values(0, 3)}]
    arrays.write(tmp_path / "x.npz", outputs)
    found = arrays.read(tmp_path / "x.npz")
    assert [batch["head/logits"].shape for batch in found] == [(2, 3), (0, 3)]


def test_equal_outputs_are_equal_bytes_whatever_the_time(tmp_path):
    for name in ("x.npz", "y.npz"):
        arrays.write(tmp_path / name, batches(2, 3))
    assert (tmp_path / "x.npz").read_bytes() == (tmp_path / "y.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "x.npz") as stored:
        assert {item.date_time for item in stored.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("outputs", [[], [{}], [{}, {}]])
def test_a_file_of_nothing_does_not_pass(outputs, tmp_path):
    arrays.write(tmp_path / "x.npz", outputs)
    found = arrays.read(tmp_path / "x.npz")
    failure(ONE, found, found)


def test_a_failed_comparison_after_a_rewrite_leaves_standard_output_to_the_result(capfd):
    model = parsed("(float[batch, 4] x) => (float[batch, 4] y) { y = Relu (x) }")
    rewriting.rewrite(model, tiny_recipe(rewrites=()))
    failure(ONE, batches(2), [{"logits": values(2, 10, seed=7)}], FP32)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_overflow_is_said_in_words_and_not_as_a_nan_percent(value):
    match = parity._match(np.ones((1, 3)), np.array([[1, value, 1]]), Tolerance(1e-2, 0.99))
    said = parity._why([("logits", 1, match)], Tolerance(1e-2, 0.99))
    assert "NaN or infinite" in said and "relative max" not in said
