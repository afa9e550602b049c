import bundles

from exporter.reporting import labels


def test_classes_are_named_only_where_it_is_known_what_they_are():
    for kind in ("random", "checkpoint"):
        assert labels.of(bundles.manifest(weights={"kind": kind, "classes": 1000})) == []
    assert labels.of(bundles.manifest(weights={"kind": "pretrained", "classes": 37})) == []
    names = labels.of(bundles.manifest(weights={"kind": "pretrained", "classes": 1000}))
    assert len(names) == 1000 and "tabby" in names[281] and "golden retriever" in names[207]


def test_a_detectors_classes_are_those_of_coco():
    made = bundles.manifest(
        weights={"kind": "pretrained", "classes": 91}, outputs=[{"name": "logits"}, {"name": "boxes"}]
    )
    names = labels.of(made)
    assert labels.is_detection(made) and len(names) == 91 and (names[1], names[90]) == ("person", "toothbrush")
