"""What a bundle was made with, as a CycloneDX 1.6 bill of materials: ``sbom.cdx.json``.

The model is the described component, with the hashes of its weights, graph and engine; the others are the Python
distributions that this tool needs, and what they need. It has no time of its own, so equal bundles have equal bytes.
"""

from __future__ import annotations

import importlib.metadata
import json
import uuid
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FILE = "sbom.cdx.json"
ROOT = "vit-exporter"


def text(manifest: dict[str, Any]) -> str:
    """The bill of a manifest's bundle, as JSON with a final newline."""
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    hashes = {kind: manifest[kind]["sha256"] for kind in ("weights", "onnx", "engine")}
    name = f"{manifest['model']} {manifest['precision']}"
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_OID, " ".join(hashes.values())))
    bom.metadata.component = Component(
        name=name, type=ComponentType.MACHINE_LEARNING_MODEL, bom_ref="model",
        version=hashes["engine"][:12], description=manifest["paper"] or None,
        components=[
            Component(name=kind, type=ComponentType.FILE, bom_ref=kind,
                      hashes=[HashType(alg=HashAlgorithm.SHA_256, content=value)])
            for kind, value in hashes.items()
        ],
    )  # fmt: skip
    for package, version in sorted(needed().items()):
        address = PackageURL("pypi", name=package, version=version)
        bom.components.add(
            Component(name=package, version=version, purl=address, bom_ref=str(address), type=ComponentType.LIBRARY)
        )
    bom.register_dependency(bom.metadata.component, bom.components)
    made = json.loads(JsonV1Dot6(bom).output_as_string())
    made["metadata"].pop("timestamp", None)
    return json.dumps(made, indent=1, sort_keys=True) + "\n"


def needed(root: str = ROOT) -> dict[str, str]:
    """Versions of every installed distribution that ``root`` needs, directly or not, by canonical name."""
    found: dict[str, str] = {}
    pending = [root]
    while pending:
        name = canonicalize_name(pending.pop())
        if name in found:
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # another platform's
            continue
        found[name] = distribution.version
        for line in distribution.requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                pending.append(requirement.name)
    return found
