import bundles
import numpy as np
import pytest
import torch

from exporter.errors import UsageError
from exporter.examined import Examined
from exporter.progress import Progress
from exporter.reporting import depth, inputs, published


def test_a_blocks_output_is_what_its_last_unit_answers():
    units = ["layers.0.blocks.0.norm1:input", "layers.0.blocks.0.mlp.fc2", "layers.0.blocks.0", "layers.1.downsample",
             "layers.1.blocks.0.mlp", "head.fc", "layers.1.blocks.0", "head.fc:input"]  # fmt: skip
    assert list(depth.last_units(units).items()) == [
        ("layers.0.blocks.0", "layers.0.blocks.0"),
        ("layers.1", "layers.1.downsample"),
        ("head", "head.fc"),
        ("layers.1.blocks.0", "layers.1.blocks.0"),
    ]


def test_the_error_of_every_block_against_the_module(tiny_vit):
    module, graph = tiny_vit
    pixels = torch.randn(3, 3, *module.patch_embed.img_size, generator=torch.Generator().manual_seed(1)).numpy()
    rows, missing = depth.measure(Examined(graph), module, ["logits"], pixels)
    names = [row["block"] for row in rows]
    assert names[-1] == "head" and {"blocks.0", "blocks.1"} <= set(names) and missing == []
    assert names.index("blocks.0") < names.index("blocks.1")
    assert all(0 <= row["error"] < 1e-5 for row in rows)


def test_a_block_that_the_graph_computes_differently_stands_out(tiny_vit):
    module, graph = tiny_vit
    pixels = np.random.default_rng(0).standard_normal((3, 3, *module.patch_embed.img_size), np.float32)
    weight = next(t for t in graph.graph.initializer if t.name.startswith("blocks.1.") and "bias" in t.name)
    kept = weight.raw_data
    try:
        weight.raw_data = (np.frombuffer(kept, np.float32) + np.float32(0.01)).tobytes()
        rows, _ = depth.measure(Examined(graph), module, ["logits"], pixels)
    finally:
        weight.raw_data = kept
    errors = {row["block"]: row["error"] for row in rows}
    assert errors["blocks.0"] < 1e-5 < 1e-4 < errors["blocks.1"]


def test_a_graph_that_is_not_the_manifests_is_refused(tmp_path):
    folder = bundles.write(tmp_path, "fp16", model="vit_ti")
    (bundle,) = published.find(tmp_path, "vit_ti")[0]
    for found in ("missing", "another file"):
        with pytest.raises(UsageError, match=r"model\.onnx of the bundle fp16") as caught:
            depth.bring(tmp_path, bundle, inputs.Words(), Progress(quiet=True))
        assert found in str(caught.value)
        assert caught.value.next == f"make engine MODEL=vit_ti PRECISION=fp16 OUT={tmp_path}"
        (folder / "model.onnx").write_bytes(b"other")


def test_units_of_a_graph_in_other_terms_are_found_in_the_one_before(tiny_vit):
    module, graph = tiny_vit
    pixels = np.random.default_rng(0).standard_normal((3, 3, *module.patch_embed.img_size), np.float32)
    plain = depth.measure(Examined(graph), module, ["logits"], pixels)
    calls = []
    again = depth.measure(Examined(graph), module, ["logits"], pixels, calls.append, Examined(graph))
    assert again == plain and calls.count("looking for the module's units in the graph") == 1
