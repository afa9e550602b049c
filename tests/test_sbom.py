import importlib.metadata
import json

import bundles
import pytest

from exporter import sbom


def test_the_bill_names_the_model_its_files_and_every_library():
    record = bundles.manifest()
    made = json.loads(sbom.text(record))
    assert made["bomFormat"] == "CycloneDX" and made["specVersion"] == "1.6"
    model = made["metadata"]["component"]
    assert (model["name"], model["type"]) == ("toy fp16", "machine-learning-model")
    hashes = {c["name"]: c["hashes"][0]["content"] for c in model["components"]}
    assert hashes == {kind: record[kind]["sha256"] for kind in ("weights", "onnx", "engine")}
    versions = {c["name"]: c["version"] for c in made["components"]}
    for package in ("torch", "onnx", "tensorrt-rtx", "numpy", "vit-exporter"):
        assert versions[package] == importlib.metadata.version(package)
    assert "pytest" not in versions  # of an extra


def test_equal_manifests_make_equal_bytes_and_others_do_not():
    first = sbom.text(bundles.manifest())
    assert first == sbom.text(bundles.manifest()) and "timestamp" not in first
    assert first != sbom.text(bundles.manifest(engine={"sha256": "d" * 64}))


def test_the_bill_is_valid_by_cyclonedxs_own_schema():
    validation = pytest.importorskip("cyclonedx.validation.json")
    from cyclonedx.exception import MissingOptionalDependencyException
    from cyclonedx.schema import SchemaVersion

    try:
        errors = validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom.text(bundles.manifest()))
    except MissingOptionalDependencyException as error:
        pytest.skip(f"the schema's validator is not installed: {error}")
    assert errors is None
