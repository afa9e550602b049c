"""``make roofline`` on a model of two blocks, with a small ResNet in the place of ResNet-50."""

import json

import pytest
from models import VIT

from exporter import baseline, floors, floors_report, pipeline, registry
from exporter.errors import UsageError
from exporter.kernels import Kernel, Tensor
from exporter.progress import Progress
from exporter.types import Batch, Request


def request(out, precision="fp16", batch=VIT.batch):
    return Request(recipe=VIT, precision=registry.precision(precision), batch=batch, targets=("sm80",),
                   backend="tensorrt-rtx", weights="random", io="fp32", out=out, command="test")  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A bundle and its roofline."""
    from torchvision.models import resnet18

    out = tmp_path_factory.mktemp("out")
    pipeline.run(request(out), Progress(quiet=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baseline, "_module", lambda spec: resnet18(num_classes=spec.classes).eval())
        patch.setattr(baseline, "NAME", "no such recipe")
        prices = floors.parse_prices("a100-80=2")
        yield out, [floors.floors(request(out), Progress(quiet=True), prices) for _ in range(2)]


def test_every_chip_has_its_bounds_in_order(made):
    found = made[1][0]
    assert set(found["chips"]) == set(floors.CATALOGUE)
    for name, chip in found["chips"].items():
        assert chip["fits"] and chip["needed_bytes"] > 2 * 400_000
        if name == "h100":
            assert chip["from"] == "graph" and "launched_us" not in chip
        else:
            assert 0 < chip["resident_us"] <= chip["floor_us"] < chip["launched_us"]
            assert sum(chip["bounds"].values()) == len(found["kernels"])
    assert found["chips"]["a100-80"]["from"] == "engine" and found["chips"]["l4"]["from"] == "sm80's kernels"


def test_the_floor_is_that_of_the_manifest_and_the_sum_of_its_kernels(made):
    out, (found, _) = made
    manifest = json.loads((out / "tiny_vit" / "fp16" / "manifest.json").read_text())
    floor = found["chips"]["a100-80"]["floor_us"]
    assert floor == manifest["kernels"]["sm80"]["roofline_us"]
    assert floor == pytest.approx(sum(k["on"]["a100-80"]["floor_us"] for k in found["kernels"]), abs=0.1)


def test_the_price_reaches_its_chip_only(made):
    chips = made[1][0]["chips"]
    assert [name for name, chip in chips.items() if "images_per_dollar" in chip] == ["a100-80"]


def test_a_resnet_stands_beside_the_model_and_is_compiled_once(made):
    out, (first, second) = made
    assert first["resnet50"] == second["resnet50"]
    # 1.82 G multiply-adds an image at 224 pixels (He 2016, table 1: 1.8 GFLOPs), at batch 2
    assert first["resnet50"]["flops"] == pytest.approx(2 * 2 * 1.82e9, rel=0.02) and first["resnet50"]["batch"] == 2
    assert len(list((out / ".cache" / "baseline").iterdir())) == 1


def test_the_bundle_of_these_kernels_gets_the_figures(made):
    out, (found, _) = made
    path = out / "tiny_vit" / "fp16" / "roofline.json"
    assert found["written"] == str(path)
    written = json.loads(path.read_text())
    assert {"schema", "tool", "chips", "kernels", "resnet50", "growth", "weak"} <= set(written)


def test_another_bundles_folder_is_left_alone(made, monkeypatch):
    out, _ = made
    kernels = [Kernel("k", "gemm", "matmul", (Tensor("x", (9,), "Half"),), (), (), (), "", 9)]
    monkeypatch.setattr(baseline, "resnet50", lambda *_: baseline.Baseline("", "fp16", 3, kernels))
    before = (out / "tiny_vit" / "fp16" / "roofline.json").read_bytes()
    found = floors.floors(request(out, batch=Batch(3, 3, 3)), Progress(quiet=True), {})
    assert found["written"] is None and (out / "tiny_vit" / "fp16" / "roofline.json").read_bytes() == before


def test_the_tables_say_both_bounds_and_where_they_are_weak(made, capsys):
    floors_report.shown(made[1][0])
    text = capsys.readouterr().out
    for word in (
        "A100 80GB",
        "H100",
        "RTX PRO",
        "ResNet-50",
        "L2",
        "launches",
        "source: NVIDIA",
        "nothing was measured",
    ):
        assert word in text


@pytest.mark.parametrize("targets", [["sm121"], ["sm90"], ["sm86", "sm80"]])
def test_a_target_without_a_chip_of_its_own_is_shown_on_the_nearest(made, targets, capsys):
    floors_report.shown(made[1][0] | {"targets": targets})
    assert "kernels that take longest on" in capsys.readouterr().out


def test_the_graph_alone_needs_no_compiler(tmp_path, capsys):
    found = floors.floors(request(tmp_path, "bf16"), Progress(quiet=True), {}, graph_only=True)
    assert found["kernels"] == [] and not (tmp_path / ".cache").exists()
    assert "refused" in found["chips"]["t4"] and found["chips"]["l4"]["from"] == "graph"
    floors_report.shown(found)
    assert "Growth with the image" in capsys.readouterr().out


def test_prices_are_for_all_chips_or_for_some():
    assert set(floors.parse_prices("2.5").values()) == {2.5} and len(floors.parse_prices("2.5")) == 9
    assert floors.parse_prices("l4=0.7, t4=0.35") == {"l4": 0.7, "t4": 0.35}
    assert floors.parse_prices(None) == {}


@pytest.mark.parametrize("text", ["cheap", "-1", "0", "nan", "a1000=2", "l4=", "l4=x", ","])
def test_a_price_that_is_none_is_refused_with_what_to_type(text):
    with pytest.raises(UsageError, match="PRICE") as caught:
        floors.parse_prices(text)
    assert "PRICE=" in caught.value.next
