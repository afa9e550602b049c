import os
from dataclasses import replace

import pytest

from exporter import request, targets
from exporter.errors import UsageError
from exporter.registry import precision, recipe
from exporter.types import Batch


def test_defaults_are_those_of_the_contract(tmp_path):
    asked = request.parse("swin_b", out=str(tmp_path))
    assert asked.precision.name == "fp16"
    assert asked.batch == Batch(1, 8, 32)
    assert asked.targets == ("sm80", "sm86", "sm89", "sm120")
    assert (asked.backend, asked.weights, asked.io) == ("tensorrt-rtx", "auto", "fp32")
    assert asked.recipe == recipe("swin_b") and asked.native_image


@pytest.mark.parametrize(
    "words, says",
    [
        ({"batch": "0"}, "out of range"),
        ({"batch": "-1"}, "out of range"),
        ({"batch": "8:4:16"}, "not in order"),
        ({"batch": "1:8:4"}, "not in order"),
        ({"batch": "1:2"}, "cannot be read"),
        ({"batch": "many"}, "cannot be read"),
        ({"batch": ""}, "cannot be read"),
        ({"batch": "1_0"}, "cannot be read"),
        ({"batch": "1:8:100000"}, "out of range"),
        ({"image": "225"}, "cannot take"),
        ({"image": "0"}, "cannot take"),
        ({"image": "-224"}, "cannot take"),
        ({"image": "1000000"}, "cannot take"),
        ({"image": "big"}, "cannot be read"),
        ({"image": "224x224x3"}, "cannot be read"),
        ({"target": "sm90"}, "Hopper"),
        ({"target": "sm80,sm8"}, "does not know"),
        ({"target": ","}, "names no compute capability"),
        ({"target": "sm75,sm80", "precision": "bf16"}, "cannot run bf16"),
        ({"target": "sm75", "precision": "tf32"}, "cannot run tf32"),
        ({"backend": "onnx"}, "no backend"),
        ({"io": "fp16", "precision": "fp32"}, "cannot be fp16"),
        ({"io": "int8"}, "cannot be int8"),
        ({"without": "fuse_everything"}, "no rewrite"),
        ({"precision": "fp4"}, "no precision"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_next_command(words, says, tmp_path):
    with pytest.raises(UsageError) as caught:
        request.parse("swin_t", out=str(tmp_path / "out"), **words)
    assert says in str(caught.value)
    assert caught.value.found is not None and caught.value.expected is not None and caught.value.next
    assert not (tmp_path / "out").exists()


def test_what_the_next_command_of_a_refusal_says_is_served(tmp_path):
    with pytest.raises(UsageError) as caught:
        request.parse("vit_b", image="230", out=str(tmp_path))
    assert request.parse_image(recipe("vit_b"), caught.value.next.removeprefix("IMAGE="))
    with pytest.raises(UsageError) as caught:
        request.parse("vit_b", target="sm75,sm80,sm86", precision="bf16", out=str(tmp_path))
    others = caught.value.next.removeprefix("TARGET=")
    assert targets.parse(others, "tensorrt-rtx", precision("bf16")) == ("sm80", "sm86")


def test_a_form_and_its_variants_in_one_order():
    assert request.parse_form(None) is None and request.parse_form("windows") == "windows"
    assert request.parse_form("windows+slice_permutations+pad_keys") == "windows+pad_keys+slice_permutations"
    for name, says, command in (
        ("window", "no form of attention 'window'", "FORM=windows"),
        ("windows+pad_key", "no variant of a form of attention 'pad_key'", "FORM=windows+pad_keys"),
        ("windows+pad_keys+pad_keys", "once", "FORM=windows"),
        ("windows+", "no variant", "FORM=windows+"),
    ):
        with pytest.raises(UsageError, match=says) as told:
            request.parse_form(name)
        assert told.value.next.startswith(command)


def test_a_static_batch_and_a_profile():
    model = recipe("vit_ti")
    assert request.parse_batch("8", model) == Batch(8, 8, 8) and request.parse_batch("8", model).static
    assert request.parse_batch("1:8:32", model) == Batch(1, 8, 32)


def test_another_image_size_changes_the_input_and_nothing_else():
    model = recipe("swin_t")
    wide = request.parse_image(model, "256x320")
    assert wide.inputs[0].shape == (3, 256, 320)
    assert replace(wide, preprocessing=model.preprocessing) == model
    assert request.parse_image(model, "224") == model


def test_a_model_with_a_fixed_number_of_tokens_takes_its_own_size_only():
    assert request.parse_image(recipe("mixer_b"), "224") == recipe("mixer_b")
    with pytest.raises(UsageError, match="one image size only"):
        request.parse_image(recipe("mixer_b"), "256")


def test_an_out_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="cannot write"):
        request.parse("vit_ti", out=str(tmp_path / "file" / "out"))
    assert (tmp_path / "file").read_text() == "mine"


def test_an_empty_out_is_refused():
    with pytest.raises(UsageError, match="OUT is empty"):
        request.parse("vit_ti", out="")


def test_the_name_of_a_gpu_leads_to_its_compute_capability():
    with pytest.raises(UsageError) as error:
        request.parse("vit_ti", target="a100")
    assert error.value.next == "TARGET=sm80"


def test_an_unwritable_out_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the suite may run as root, who may write anywhere
    with pytest.raises(UsageError, match="cannot write"):
        request.parse("vit_ti", out=str(tmp_path / "out"))


def test_paths_that_cannot_be_are_left_to_those_who_open_them(tmp_path):
    asked = request.parse("vit_ti", images="~nobody-has-this-name/x", out=str(tmp_path / ("a" * 300)))
    assert str(asked.images) == "~nobody-has-this-name/x" and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words, says",
    [
        ({"calib": "/no/such/folder"}, "do not exist"),
        ({"calib_images": "0"}, "CALIB_IMAGES"),
        ({"calib_images": "many"}, "CALIB_IMAGES"),
        ({"observer": "entropie"}, "entropie"),
        ({"max_drop": "-1"}, "MAX_DROP"),
        ({"max_drop": "half"}, "MAX_DROP"),
        ({"target": "sm80", "precision": "fp8"}, "FP8 tensor cores begin with sm89"),
        ({"io": "bf16"}, "cannot be bf16"),
    ],
)
def test_what_an_8_bit_precision_cannot_take_is_refused(words, says, tmp_path):
    with pytest.raises(UsageError, match=says) as caught:
        request.parse("vit_ti", **{"precision": "int8", "out": str(tmp_path)} | words)
    assert caught.value.next


def test_the_default_targets_are_those_that_can(tmp_path):
    assert request.parse("vit_ti", precision="fp8", out=str(tmp_path)).targets == ("sm89", "sm120")


def test_the_boundary_of_an_8_bit_engine_is_fp32_or_its_16_bit_type(tmp_path):
    assert request.parse("vit_ti", precision="int8", io="fp16", out=str(tmp_path)).io == "fp16"
    assert request.parse("vit_ti", precision="INT8-BF16", io="bf16", out=str(tmp_path)).precision.base == "bf16"


@pytest.mark.parametrize("name", ["onnx", "onnxruntime", "ORT"])
def test_the_runtime_that_is_no_backend_leads_to_the_verb_that_uses_it(name):
    with pytest.raises(UsageError) as caught:
        request.parse("vit_ti", backend=name)
    assert "make blame" in caught.value.next and "BACKEND=tensorrt-rtx" in caught.value.next


def test_a_cache_is_a_folder_that_can_be_written_or_an_address(tmp_path):
    assert request.parse("vit_ti").cache is None
    assert request.parse("vit_ti", cache="s3://bucket/x").cache == "s3://bucket/x"
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write"):
        request.parse("vit_ti", cache=str(tmp_path / "file" / "x"))
