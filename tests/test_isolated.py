"""Files that a stranger may send: each is refused with a sentence, within the limits, and none ends this process."""

import os
import time

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from exporter import isolated, onnxio

SIZE = 4096


def model(**facts):
    """x @ w with w of 32 x 32 float32, in an external file where ``facts`` say where."""
    weight = numpy_helper.from_array(np.ones((32, 32), np.float32), "w")
    if facts:
        weight = onnxio.outside(weight, "w", 0, SIZE)
        del weight.external_data[:]
        for key, value in facts.items():
            weight.external_data.add(key=key, value=value)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, [1, 32])],
        [value("y", TensorProto.FLOAT, [1, 32])],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


def look(folder, made):
    path = folder / "m.onnx"
    path.write_bytes(made.SerializeToString())
    return isolated.look(path)


def test_a_good_model_passes_in_the_child_with_its_weights_inside_or_beside(tmp_path):
    onnx.save(model(), tmp_path / "in.onnx")
    assert isolated.fault(tmp_path / "in.onnx") is None
    (tmp_path / "w").write_bytes(bytes(SIZE))
    (tmp_path / "m.onnx").write_bytes(model(location="w").SerializeToString())
    assert isolated.fault(tmp_path / "m.onnx") is None


@pytest.mark.parametrize("facts, says", [
    ({"location": "../secret"}, "outside"), ({"location": "/etc/passwd"}, "outside"),
    ({"location": "a/../../secret"}, "outside"), ({"location": "C:\\x"}, "outside"), ({"location": "..\\x"}, "outside"),
    ({"location": "link"}, "behind a link"), ({"location": "folder/w"}, "behind a link"),
    ({"location": "hard"}, "hard links"), ({"location": "pipe"}, "no file"), ({"location": "."}, "no file"),
    ({"location": "absent"}, "cannot be read"), ({"location": ""}, "no file name"),
    ({"location": "w", "offset": "1"}, "which has 4096"), ({"location": "w", "offset": "-1"}, "which has 4096"),
    ({"location": "w", "length": "4095"}, "the tensor is 4096"), ({"location": "w", "length": "x"}, "no number"),
    ({"location": "w", "offset": "9" * 30}, "which has 4096"),
])  # fmt: skip
def test_external_data_must_be_a_plain_part_of_a_plain_file_beside_the_model(facts, says, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for place in (folder / "w", folder / "one", tmp_path / "secret"):
        place.write_bytes(bytes(SIZE))
    os.link(folder / "one", folder / "hard")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "folder").symlink_to(folder)
    os.mkfifo(folder / "pipe")
    assert says in look(folder, model(**facts))


def test_external_data_in_a_nodes_attribute_is_looked_at_too(tmp_path):
    tensor = onnxio.outside(numpy_helper.from_array(np.ones(4, np.float32), "c"), "../secret", 0, 16)
    made = model()
    made.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=tensor))
    assert "outside" in look(tmp_path, made)


def test_a_cycle_absurd_dimensions_and_a_million_nodes_are_refused(tmp_path):
    made = model()
    made.graph.node[0].input[0] = "z"
    made.graph.node.append(helper.make_node("Relu", ["y"], ["z"]))
    assert "topological" in look(tmp_path, made) or "sorted" in look(tmp_path, made)
    made = model(location="w")
    made.graph.initializer[0].dims[:] = [2**40, 2**40]
    assert "has the shape" in look(tmp_path, made)
    made = model()
    made.graph.initializer[0].dims[:] = [32, 33]
    assert "4096 bytes, not 4224" in look(tmp_path, made)


def test_a_million_nodes_are_refused_in_ten_seconds(tmp_path):
    node = helper.make_node("Relu", ["x"], ["x"]).SerializeToString()
    field = b"\x0a" + bytes([len(node)]) + node
    graph = field * 10**6
    length, size = b"", len(graph)
    while size:
        length, size = length + bytes([size & 127 | 128 * (size > 127)]), size >> 7
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08\x3a" + length + graph)
    started = time.monotonic()
    assert "1000000 nodes" in isolated.fault(tmp_path / "m.onnx")
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("content, says", [
    (b"", "empty"), (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"), (b"<!DOCTYPE html><html>", "HTML"),
])  # fmt: skip
def test_what_is_no_model_is_named(content, says, tmp_path):
    (tmp_path / "m.onnx").write_bytes(content)
    assert says in isolated.fault(tmp_path / "m.onnx")


def test_a_pipe_a_folder_and_a_dangling_link_are_named_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    assert "a pipe" in isolated.fault(tmp_path / "pipe") and "a folder" in isolated.fault(tmp_path)
    assert "nowhere" in isolated.fault(tmp_path / "link")


@pytest.mark.parametrize("crash, says", [
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    ("import time; time.sleep(60)", "do not get through"),
    ("import sys; sys.exit('gone')", "gone"),
])  # fmt: skip
def test_a_parser_that_dies_or_hangs_is_an_error_of_ours(crash, says, tmp_path, monkeypatch):
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {isolated.sys.executable} -c "{crash}"\n')
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "m.onnx").write_bytes(b"x")
    monkeypatch.setattr(isolated.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(isolated, "SECONDS", 1.0)
    assert says in isolated.fault(tmp_path / "m.onnx")


@settings(
    max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cut=st.integers(0, 400), at=st.integers(0, 4000), byte=st.integers(0, 255), tail=st.binary(max_size=40))
def test_damaged_bytes_are_a_sentence_or_nothing_and_never_an_exception(cut, at, byte, tail, tmp_path):
    raw = bytearray(model().SerializeToString())
    raw[at % len(raw)] = byte
    (tmp_path / "m.onnx").write_bytes(bytes(raw[: len(raw) - cut]) + tail)
    assert isinstance(isolated.look(tmp_path / "m.onnx"), (str, type(None)))
