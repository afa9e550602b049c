"""Recipes made from timm's, torchvision's and transformers' own configurations; nothing is downloaded."""

import pytest
import torch
from safetensors.torch import save_file

from exporter import pipeline, registry, request, weights
from exporter.errors import UsageError
from exporter.progress import Progress
from exporter.types import ModuleSpec


@pytest.mark.parametrize("name, family, attentions, size, classes", [
    ("timm:swin_base_patch4_window12_384", "swin", 24, (384, 384), 1000),
    ("timm:deit3_small_patch16_224.fb_in22k_ft_in1k", "vit", 12, (224, 224), 1000),
    ("timm:mixer_b16_224", "mixer", 0, (224, 224), 1000),
    ("timm:vit_base_patch14_dinov2.lvd142m", None, None, None, None),
    ("timm:resnet50", "generic", None, (224, 224), 1000),
    ("tv:swin_v2_t", "swin_v2", 12, (256, 256), 1000),
    ("tv:vit_b_32", "vit", 12, (224, 224), 1000),
    ("tv:resnet18", "generic", None, (224, 224), 1000),
])  # fmt: skip
def test_facts_come_from_the_librarys_configuration(name, family, attentions, size, classes):
    if family is None:
        with pytest.raises(UsageError, match="cannot be taken") as caught:
            registry.recipe(name)  # a backbone without a head
        assert "0 classes" in caught.value.found
        return
    found = registry.recipe(name)
    assert (found.name, found.family, found.attention_blocks) == (name, family, attentions)
    assert found.preprocessing.size == size and found.classes == classes
    assert (found.fused_attention.get("fp16", 0) or None) == (attentions or None)
    assert "/" not in found.folder and ":" not in found.folder


def test_preprocessing_is_the_librarys():
    ours, theirs = registry.recipe("timm:swin_base_patch4_window7_224"), registry.recipe("swin_b")
    assert ours.preprocessing == theirs.preprocessing and ours.hub == theirs.hub
    how = registry.recipe("tv:swin_t").preprocessing
    assert how.interpolation == "bicubic" and how.crop_pct == pytest.approx(224 / 232)


def test_the_module_is_the_librarys_and_takes_its_checkpoints(tmp_path):
    import timm

    module = timm.create_model("vit_tiny_patch16_224", num_classes=7)
    save_file(module.state_dict(), tmp_path / "mine.safetensors")
    found = registry.recipe("timm:vit_tiny_patch16_224")
    located = weights.locate(found, str(tmp_path / "mine.safetensors"))
    assert weights.count_classes(found, located) == 7
    made = weights.module(found, located, ModuleSpec((224, 224), 7))
    assert all(torch.equal(a, b) for a, b in zip(made.parameters(), module.parameters(), strict=True))


@pytest.mark.parametrize("name, near", [
    ("timm:swin_base_patch4_window7", "timm:swin_base_patch4_window7"), ("timm:vit_base_patch16_224.none", "vit_base"),
    ("tv:swin_x", "tv:swin_"), ("tv:mvit_v1_b", "tv:"), ("nolib:model", "make list"), ("timm:", "make list"),
])  # fmt: skip
def test_an_unknown_name_is_told_the_nearest_ones(name, near):
    with pytest.raises(UsageError) as caught:
        registry.recipe(name)
    assert near in caught.value.next


def test_the_key_follows_the_configuration():
    first, second = (registry.recipe(f"timm:vit_{size}_patch16_224") for size in ("tiny", "small"))
    assert registry.recipe_source(first) != registry.recipe_source(second)


# transformers: folders written here


def saved(folder, name):
    import transformers as t

    shape = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 192}
    swin = {"embed_dim": 48, "depths": [2, 2], "num_heads": [3, 6]}
    kinds = {
        "vit": lambda: t.ViTForImageClassification(t.ViTConfig(image_size=64, num_labels=10, **shape)),
        "deit": lambda: t.DeiTForImageClassificationWithTeacher(t.DeiTConfig(image_size=64, num_labels=10, **shape)),
        "dinov2": lambda: t.Dinov2ForImageClassification(
            t.Dinov2Config(image_size=70, patch_size=14, mlp_ratio=2, num_labels=10, **shape)
        ),
        "swinv2": lambda: t.Swinv2ForImageClassification(
            t.Swinv2Config(image_size=64, window_size=4, num_labels=10, **swin)
        ),
    }
    torch.manual_seed(0)
    module = kinds[name]().eval()
    module.save_pretrained(folder)
    return module


@pytest.mark.parametrize("name, family, attentions", [
    ("vit", "vit", 2), ("deit", "vit", 2), ("dinov2", "vit", 2), ("swinv2", "swin_v2", 4),
])  # fmt: skip
def test_a_folder_of_transformers_is_built_with_its_own_weights(name, family, attentions, tmp_path):
    module = saved(tmp_path / "model", name)
    found = registry.recipe(f"hf:{tmp_path / 'model'}")
    assert (found.family, found.attention_blocks, found.classes) == (family, attentions, 10)
    made = weights.module(found, weights.locate(found, "auto"), ModuleSpec(found.preprocessing.size, 10))
    pixels = torch.randn(2, 3, *found.preprocessing.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(made(pixels), module(pixel_values=pixels).logits, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["deit", "dinov2"])
def test_a_folder_of_transformers_becomes_an_engine(name, tmp_path):
    saved(tmp_path / "my model", name)
    words = {"target": "sm80", "batch": "1:2:4", "out": str(tmp_path / "out")}
    made = pipeline.run(request.parse(f"hf:{tmp_path / 'my model'}", **words), Progress(quiet=True))
    assert made.failures == () and made.manifest["weights"]["kind"] == "pretrained"
    assert made.manifest["kernels"]["sm80"]["fused_attention"] == 2
    assert made.folder.parent.parent == tmp_path / "out" and " " not in made.folder.parent.name


@pytest.mark.parametrize(
    "said, due",
    [({0: "cat", 1: "dog"}, ("cat", "dog")), ({0: "LABEL_0", 1: "LABEL_1"}, ()), ({0: "cat", 1: ""}, ())],
)
def test_the_names_of_classes_are_those_of_the_config(said, due, tmp_path):
    import transformers

    sizes = {"image_size": 32, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    transformers.ViTConfig(id2label=said, **sizes).save_pretrained(tmp_path)
    assert registry.recipe(f"hf:{tmp_path}").labels == due


@pytest.mark.parametrize("kind, a_set", [("RTDetr", True), ("Detr", False)])
def test_queries_that_a_detector_picks_are_a_set(kind, a_set, tmp_path):
    import transformers

    getattr(transformers, f"{kind}Config")().save_pretrained(tmp_path)
    found = registry.recipe(f"hf:{tmp_path}")
    assert (found.task, found.set_of_queries) == ("detection", a_set)


def test_preprocessor_config_is_read(tmp_path):
    import json

    saved(tmp_path, "vit")
    said = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 1], "resample": 2, "size": {"height": 64, "width": 64}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    how = registry.recipe(f"hf:{tmp_path}").preprocessing
    assert (how.mean, how.interpolation, how.mode, how.size) == ((0.1, 0.2, 0.3), "bilinear", "squash", (64, 64))
    said |= {"size": {"shortest_edge": 80}, "do_center_crop": True, "crop_size": {"height": 64, "width": 64}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    how = registry.recipe(f"hf:{tmp_path}").preprocessing
    assert (how.mode, how.crop_pct, how.size) == ("crop", 0.8, (64, 64))


def test_a_folder_without_weights_is_an_error_unless_random_ones_are_asked_for(tmp_path):
    saved(tmp_path, "vit")
    (tmp_path / "model.safetensors").unlink()
    found = registry.recipe(f"hf:{tmp_path}")
    with pytest.raises(UsageError, match="not where they should be") as caught:
        weights.locate(found, "auto")
    assert "no model.safetensors" in caught.value.found and "WEIGHTS=random" in caught.value.next
    assert weights.locate(found, "random").kind == "random"


@pytest.mark.parametrize("config", [
    "{}", "no json", '{"model_type": "bert"}', '{"model_type": "from_tomorrow"}',
])  # fmt: skip
def test_a_config_that_is_none_of_an_image_classifier_is_refused(config, tmp_path):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(UsageError, match="cannot be taken"):
        registry.recipe(f"hf:{tmp_path}")
