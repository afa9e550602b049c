import json

import bundles
import pytest

from exporter import SCHEMA
from exporter.errors import UsageError
from exporter.reporting import published
from exporter.store import Entry


def test_bundles_come_from_wide_to_narrow_and_failed_ones_with_them(tmp_path):
    for name in ("bf16", "fp16.failed", "fp32", "fp16", "zz8"):
        bundles.write(tmp_path, name, cache=False)
    (tmp_path / "toy" / ".fp16.1234.tmp").mkdir()
    (tmp_path / "toy" / "model.fp32.onnx").write_bytes(b"")
    found, unread = published.find(tmp_path, "toy")
    assert [b.name for b in found] == ["fp32", "fp16", "fp16.failed", "bf16", "zz8"] and unread == []
    assert [b.name for b in published.find(tmp_path, "toy", ("fp16",))[0]] == ["fp16", "fp16.failed"]
    assert found[2].failed and found[2].precision == "fp16" and not found[1].failed


def test_no_bundle_is_an_error_that_says_what_to_run(tmp_path):
    with pytest.raises(UsageError) as caught:
        published.find(tmp_path, "toy")
    assert caught.value.exit_code == 2 and caught.value.next == f"make engine MODEL=toy OUT={tmp_path}"
    with pytest.raises(UsageError, match="no bf16 bundle") as caught:
        bundles.write(tmp_path, "fp16", cache=False)
        published.find(tmp_path, "toy", ("bf16",))
    assert caught.value.next == f"make engine MODEL=toy PRECISION=bf16 OUT={tmp_path}"


def test_a_bundle_of_another_schema_is_named_and_not_mixed_in(tmp_path):
    bundles.write(tmp_path, "fp16", cache=False)
    bundles.write(tmp_path, "bf16", cache=False, schema=SCHEMA + 1)
    found, unread = published.find(tmp_path, "toy")
    assert [b.name for b in found] == ["fp16"]
    assert [u.name for u in unread] == ["bf16"] and f"schema is {SCHEMA + 1}" in unread[0].why


def test_where_no_bundle_can_be_read_the_reasons_are_in_the_error(tmp_path):
    bundles.write(tmp_path, "bf16", cache=False, schema=SCHEMA + 1)
    (bundles.write(tmp_path, "fp16", cache=False) / "manifest.json").write_text("{")
    with pytest.raises(UsageError, match="no bundle to report on") as caught:
        published.find(tmp_path, "toy")
    assert "bf16: its schema is" in str(caught.value) and "manifest.json is no JSON" in str(caught.value)


def test_a_manifest_without_a_field_is_damaged(tmp_path):
    folder = bundles.write(tmp_path, "fp16", cache=False)
    bundles.write(tmp_path, "bf16", cache=False)
    record = json.loads((folder / "manifest.json").read_text())
    del record["kernels"]["sm89"]["bytes_moved"]
    (folder / "manifest.json").write_text(json.dumps(record))
    assert published.find(tmp_path, "toy")[1][0].why == "manifest.json: kernels.sm89.bytes_moved is missing"


def test_other_damaged_files_are_named_and_the_bundle_is_read_without_them(tmp_path):
    folder = bundles.write(tmp_path, "fp16", cache=False)
    (folder / "kernels.json").write_text("[")
    (folder / "depth.json").write_text('{"onnx": 1}')
    (bundle,) = published.find(tmp_path, "toy")[0]
    assert bundle.kernels is None and bundle.depth is None
    assert [p.split()[0] for p in bundle.problems] == ["kernels.json", "depth.json:"]


def test_depth_of_another_graph_is_not_taken(tmp_path):
    folder = bundles.write(tmp_path, "fp16", cache=False)
    bundles.depth(folder, blocks_0=1e-3)
    assert published.find(tmp_path, "toy")[0][0].depth["blocks"][0]["block"] == "blocks.0"
    record = json.loads((folder / "depth.json").read_text()) | {"onnx": "of an older build"}
    (folder / "depth.json").write_text(json.dumps(record))
    assert published.find(tmp_path, "toy")[0][0].depth is None


def test_kernels_before_the_rewrites_are_taken_only_from_the_same_build(tmp_path):
    bundles.write(tmp_path, "fp16", cache=False)
    explained = {"batch": "1:2:5", "backend": "tensorrt-rtx", "targets": ["sm80"], "stages": bundles.MANIFEST["stages"],
                 "blocks_before": {"blocks.0": {"copy": 3, "matmul": 2}}}  # fmt: skip
    path = tmp_path / "toy" / "explain.fp16.json"
    path.write_text(json.dumps(explained))
    assert published.find(tmp_path, "toy")[0][0].before == explained["blocks_before"]
    for change in ({"batch": "1"}, {"backend": "tensorrt"}, {"stages": {"trace": "trace-key", "rewrite": "other"}}):
        path.write_text(json.dumps(explained | change))
        assert published.find(tmp_path, "toy")[0][0].before is None


def test_a_cached_stage_is_read_only_if_it_is_whole_and_is_never_deleted(tmp_path):
    bundles.write(tmp_path, "fp16")
    (bundle,) = published.find(tmp_path, "toy")[0]
    assert isinstance(published.entry(tmp_path, bundle, "reference"), Entry)
    assert "no longer holds" in published.entry(tmp_path, bundle, "rewrite")
    stored = tmp_path / ".cache" / "reference" / "reference-key" / "reference.npz"
    stored.write_bytes(b"?")
    assert "has changed" in published.entry(tmp_path, bundle, "reference") and stored.exists()
    (stored.parent / "entry.json").write_text("{}")
    assert "files is missing" in published.entry(tmp_path, bundle, "reference")


def test_a_model_is_found_by_its_name_and_by_its_folder(tmp_path):
    own = tmp_path / "my.py"
    own.write_text(
        "from exporter.types import Preprocessing, Recipe\n"
        "RECIPE = Recipe(name='my_net', build=None, preprocessing=Preprocessing((32, 32), (0, 0, 0), (1, 1, 1)))\n"
    )
    for folder, names in {"my_net": (str(own), "my_net"), "timm_x": ("timm:x", "timm_x")}.items():
        bundles.write(tmp_path, "fp16", model=folder, cache=False)
        for name in names:
            assert [b.folder for b in published.find(tmp_path, name)[0]] == [tmp_path / folder / "fp16"]
