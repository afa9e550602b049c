from dataclasses import replace

import bundles
import pytest
from graphs import tiny_recipe

from exporter import labels, registry

NAMES = ("cat", "dog")


def weights(kind="pretrained", classes=1000):
    return {"kind": kind, "classes": classes}


@pytest.mark.parametrize("kind", ["random", "checkpoint"])
def test_what_weights_mean_is_known_of_pretrained_ones_only(kind):
    assert labels.said(registry.recipe("swin_t"), weights(kind)) == []
    assert labels.said(registry.recipe("swin_t"), weights()) == "imagenet-1k"
    assert labels.said(registry.recipe("swin_t"), weights(classes=37)) == []
    assert labels.said(registry.recipe("detr_r50"), weights(classes=91)) == "coco"


@pytest.mark.parametrize("name, due", [("timm:x", "imagenet-1k"), ("tv:x", "imagenet-1k"), ("hf:x", []), ("own", [])])
def test_a_thousand_classes_are_imagenets_only_in_the_libraries_that_trained_them(name, due):
    recipe = replace(registry.recipe("swin_t"), name=name, origin="a config or a file")
    assert labels.said(recipe, weights()) == due


@pytest.mark.parametrize(
    "name, kind, due",
    [
        ("hf:x", "pretrained", ["cat", "dog"]),
        ("hf:x", "checkpoint", []),
        ("hf:x", "random", []),
        ("own", "checkpoint", ["cat", "dog"]),
        ("own", "pretrained", ["cat", "dog"]),
        ("own", "random", []),
    ],
)
def test_a_recipes_own_names(name, kind, due):
    recipe = tiny_recipe(name=name, origin="x", labels=NAMES)
    assert labels.said(recipe, weights(kind, 2)) == due
    assert labels.said(recipe, weights(kind, 3)) == []


def test_a_name_is_one_line():
    assert labels.of(bundles.manifest(labels=["a\nb ", "c"])) == ["a b", "c"]


def test_what_a_manifest_says():
    assert labels.of(bundles.manifest(labels=["cat", "dog"])) == ["cat", "dog"]
    names = labels.of(bundles.manifest(labels="imagenet-1k"))
    assert len(names) == 1000 and "tabby" in names[281] and "golden retriever" in names[207]
    names = labels.of(bundles.manifest(labels="coco"))
    assert len(names) == 91 and (names[1], names[90]) == ("person", "toothbrush")


@pytest.mark.parametrize("said", [{}, {"labels": "wordnet"}, {"labels": None}, {"labels": 3}])
def test_a_manifest_that_says_nothing_useful_names_nothing(said):
    assert labels.of(bundles.manifest(**said)) == []
