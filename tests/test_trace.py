import gc
import hashlib
import logging
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from graphs import feed, ops, run, tiny_recipe

from exporter import onnxio, trace
from exporter.errors import UsageError
from exporter.types import TensorSpec

ROOT = Path(__file__).parents[1]


class Two(torch.nn.Module):
    """Two outputs, a layer called twice, and a layer inside a Sequential."""

    def __init__(self):
        super().__init__()
        self.shared = torch.nn.Linear(32, 32)
        self.inner = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(32, 4))

    def forward(self, x):
        h = self.shared(self.shared(x.mean((1, 2))))
        return self.inner(h), h.sigmoid()


class Branching(torch.nn.Module):
    def forward(self, x):
        return x + 1 if x.sum() > 0 else x - 1


class Looping(torch.nn.Module):
    def forward(self, x):
        while x.max() > 1:
            x = x / 2
        return x


def recipe(*outputs, **fields):
    return tiny_recipe(outputs=tuple(TensorSpec(name, name) for name in outputs or ("logits",)), **fields)


@pytest.fixture(scope="module")
def two():
    torch.manual_seed(0)
    module = Two().eval()
    return module, trace.export(module, recipe("classes", "features", opset=20))


def test_the_graph_computes_what_the_module_computes_at_any_batch(tiny_vit):
    module, model = tiny_vit
    for batch in (1, 3, 8):
        feeds = feed(model, batch)
        with torch.no_grad():
            want = module(torch.from_numpy(feeds["pixels"])).numpy()
        np.testing.assert_allclose(run(model, feeds)["logits"], want, atol=1e-5)  # FP32, values up to 1


def test_only_the_batch_is_symbolic_and_it_is_called_so(tiny_vit):
    _, model = tiny_vit
    assert [onnxio.describe(v) for v in model.graph.input] == [
        {"name": "pixels", "dtype": "float32", "shape": ["batch", 3, 32, 32]}
    ]
    assert [onnxio.describe(v) for v in model.graph.output] == [
        {"name": "logits", "dtype": "float32", "shape": ["batch", 5]}
    ]
    assert onnxio.batch_is_dynamic(model)


def test_the_model_is_valid_and_says_who_made_it(tiny_vit):
    _, model = tiny_vit
    onnxio.check(model)
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.name == "tiny" and model.producer_version == torch.__version__
    assert not model.functions and [o.domain for o in model.opset_import] == [""]
    assert "Constant" not in ops(model)


def test_weights_are_those_of_the_module_and_keep_their_names(tiny_vit):
    module, model = tiny_vit
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for name in ("cls_token", "pos_embed", "blocks.1.mlp.fc1.bias", "norm.weight"):
        np.testing.assert_array_equal(weights[name], module.state_dict()[name].numpy(), strict=True)


def test_every_node_is_named_by_its_module_and_its_position(tiny_vit):
    module, model = tiny_vit
    names = [n.name for n in model.graph.node]
    assert len(set(names)) == len(names)
    modules = dict(module.named_modules())
    for position, node in enumerate(model.graph.node):
        path, _, last = node.name.rpartition("/")
        assert last == f"{node.op_type}_{position}" and path in modules


def test_nodes_lie_in_the_module_that_computes_them(tiny_vit):
    _, model = tiny_vit
    found = Counter((n.name.rpartition("/")[0], n.op_type) for n in model.graph.node)
    for block in ("blocks.0", "blocks.1"):
        assert found[f"{block}.attn", "Softmax"] == 1 and found[f"{block}.attn", "MatMul"] == 2
        assert found[f"{block}.norm1", "LayerNormalization"] == 1
        for layer in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"):
            assert found[f"{block}.{layer}", "MatMul"] == 1
        assert found[block, "Add"] == 2  # the residuals
    assert found["patch_embed.proj", "Conv"] == 1 and found["head", "Gemm"] + found["head", "MatMul"] == 1


def test_a_module_that_is_called_twice_and_one_in_a_sequential(two):
    _, model = two
    paths = [n.name.rpartition("/")[0] for n in model.graph.node if n.op_type in ("Gemm", "MatMul")]
    assert paths == ["shared", "shared", "inner.1"]
    assert [n.name.rpartition("/")[0] for n in model.graph.node if n.op_type in ("ReduceMean", "Sigmoid")] == ["", ""]


def test_several_outputs_have_the_names_of_the_recipe_in_its_order(two):
    module, model = two
    assert [v.name for v in model.graph.output] == ["classes", "features"]
    feeds = feed(model, 3)
    with torch.no_grad():
        want = module(torch.from_numpy(feeds["pixels"]))
    for got, value in zip(run(model, feeds).values(), want, strict=True):
        np.testing.assert_allclose(got, value.numpy(), atol=1e-5)  # FP32, values up to 1


def test_the_opset_is_the_one_asked_for(tiny_vit, two):
    assert onnxio.opset(tiny_vit[1]) == 22 and onnxio.opset(two[1]) == 20


def texts(model):
    yield from re.findall(rb"[\x20-\x7e]{4,}", model.SerializeToString())


def test_no_paths_and_no_metadata_are_in_the_bytes(tiny_vit):
    _, model = tiny_vit
    raw = model.SerializeToString()
    for forbidden in (
        str(ROOT),
        str(Path.home()),
        sys.prefix,
        str(Path(torch.__file__).parent),
        ".py",
        "site-packages",
        "pkg.torch",
        "stack_trace",
        "Traceback",
        'File "',
        "VisionTransformer",
    ):
        assert forbidden.encode() not in raw, forbidden
    assert not any(re.match(rb"/[a-z]+/[a-z]+", text) for text in texts(model))
    graph = model.graph
    for part in (
        model,
        graph,
        *graph.node,
        *graph.initializer,
        *graph.input,
        *graph.output,
        *graph.value_info,
    ):
        assert not part.metadata_props and not part.doc_string


def test_equal_modules_are_equal_bytes(tiny_vit):
    module, model = tiny_vit
    again = trace.export(module, tiny_recipe())
    assert again.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


def test_another_process_in_another_folder_writes_the_same_bytes(two, tmp_path):
    script = tmp_path / "again.py"
    script.write_text(
        "import hashlib, torch\nfrom test_trace import Two, recipe\nfrom exporter import trace\n"
        "torch.manual_seed(0)\nmodel = trace.export(Two().eval(), recipe('classes', 'features', opset=20))\n"
        "print(hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest())\n"
    )
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "PYTHONHASHSEED": "5",
    }
    out = subprocess.run([sys.executable, script], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert out.stdout.split()[-1] == hashlib.sha256(two[1].SerializeToString(deterministic=True)).hexdigest()


@pytest.mark.parametrize("module", [Branching, Looping])
def test_data_dependent_control_flow_is_a_usage_error_in_words(module):
    level = logging.getLogger("torch.onnx").level
    with pytest.raises(UsageError) as caught:
        trace.export(module().eval(), recipe())
    error = caught.value
    assert (error.model, error.stage, error.exit_code) == ("tiny", "trace", 2)
    assert "data-dependent" in error.expected and "(32, 32)" in error.expected
    said = str(error)
    assert "Traceback" not in said and 'File "' not in said and f"{Path(__file__).name} line" in error.found
    assert error.found.strip() and "\n" not in error.found and len(error.found) < 400
    assert gc.isenabled() and logging.getLogger("torch.onnx").level == level


def test_the_exporter_says_nothing(capfd):
    trace.export(Two().eval(), recipe("a", "b"))
    out, err = capfd.readouterr()
    assert out == "" and err == ""


def test_a_module_stays_as_it_is(two):
    module = Two().eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trace.export(module, recipe("a", "b"))
    assert not module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    "scopes, path",
    [
        ("['', 'blocks.0', 'blocks.0.attn', 'matmul']", "blocks.0.attn"),
        ("['', 'add']", ""),
        ("['add']", ""),
        ("[]", ""),
        (None, ""),
        ("not a list (", ""),
        ("['', '_empty_nn_module_stack_from_metadata_hook', 'x']", ""),
    ],
)
def test_module_path(scopes, path):
    assert trace.module_path({} if scopes is None else {"pkg.torch.onnx.name_scopes": scopes}) == path


class Clips(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = torch.nn.Conv3d(3, 3, 3, stride=(1, 2, 2), padding=1, groups=3, bias=False)
        self.head = torch.nn.Linear(3, 5)

    def forward(self, pixels):
        return self.head(self.pool(pixels).mean((2, 3, 4)))


def test_clips_through_a_3d_convolution_without_bias():
    recipe = tiny_recipe()
    recipe = replace(recipe, preprocessing=replace(recipe.preprocessing, size=(8, 8), frames=4))
    module = Clips().eval()
    model = trace.export(module, recipe)
    onnx.checker.check_model(model, full_check=True)
    assert [len(n.input) for n in model.graph.node if n.op_type == "Conv"] == [2]
    x = torch.randn(3, *recipe.inputs[0].shape, generator=torch.Generator().manual_seed(0))
    assert x.shape == (3, 3, 4, 8, 8)
    (found,) = run(model, {"pixels": x.numpy()}).values()
    np.testing.assert_allclose(found, module(x).detach().numpy(), atol=1e-6)


class Counts(torch.nn.Module):
    def forward(self, pixels):
        return pixels.mean((2, 3)) / len(pixels)


def test_a_module_that_makes_a_number_of_its_batch_is_refused():
    with pytest.raises(UsageError, match="fixes its batch") as caught:
        trace.export(Counts().eval(), tiny_recipe())
    assert "2 images" in caught.value.found and "x.shape[0] in place of len(x)" in caught.value.next
