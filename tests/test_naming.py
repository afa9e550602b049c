import pytest

from exporter.naming import ROOT, block_of, inside, part_of, path_of


@pytest.mark.parametrize("name, path", [
    ("layers.0.blocks.1.attn/MatMul_3", "layers.0.blocks.1.attn"), ("/Add_10", ""), ("MatMul", ""),
])  # fmt: skip
def test_path_of(name, path):
    assert path_of(name) == path


@pytest.mark.parametrize("path, block", [
    ("layers.2.blocks.5.attn.qkv", "layers.2.blocks.5"),
    ("layers.1.downsample.norm", "layers.1"),
    ("blocks.11", "blocks.11"),
    ("patch_embed.proj", "patch_embed"),
    ("model.encoder.layers.3.mlp.fc1", "model.encoder.layers.3"),
    ("model.backbone.model.layer1.0.downsample.0", "model.backbone.model.layer1.0"),
    ("bbox_predictor.layers.2", "bbox_predictor.layers.2"),
    ("", ROOT),
])  # fmt: skip
def test_block_of(path, block):
    assert block_of(path) == block


@pytest.mark.parametrize("path, part", [
    ("layers.0.blocks.1.attn.qkv", "layers.0.blocks.1.attn"), ("layers.0.blocks.1", "layers.0.blocks.1 (own)"),
    ("layers.1.downsample.norm", "layers.1.downsample"), ("head", "head (own)"), ("", "(model) (own)"),
    ("patch_embed.proj", "patch_embed.proj"),
])  # fmt: skip
def test_the_part_of_a_block(path, part):
    assert part_of(path) == part != block_of(path)


def test_a_path_lies_in_a_module_or_is_one():
    roots = (ROOT, "head", "model.decoder.box")
    assert [inside(p, roots) for p in ("", "head", "head.fc.0", "model.decoder.box", "model.decoder.box.1")] == [
        ROOT, "head", "head", "model.decoder.box", "model.decoder.box",
    ]  # fmt: skip
    assert [inside(p, roots) for p in ("heads", "model", "model.decoder", "model.decoder.boxes")] == [None] * 4
