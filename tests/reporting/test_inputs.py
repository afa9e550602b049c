import shutil

import bundles
import pytest

from exporter import registry, samples, weights
from exporter.errors import UsageError
from exporter.reporting import inputs, published


def one(tmp_path, **changes):
    bundles.write(tmp_path, "fp16", **changes)
    return published.find(tmp_path, "toy")[0][0]


@pytest.mark.parametrize("command, value", [
    ("x engine m --images 'a b'", "a b"), ("x engine m --images=c", "c"), ("x engine m", None), ("x --images", None),
    ("x 'unclosed", None),
])  # fmt: skip
def test_an_option_of_a_recorded_command(command, value):
    assert inputs.option(command, "images") == value


def test_photographs_are_those_of_the_build_or_an_error(tmp_path):
    bundle = one(tmp_path)
    assert inputs.photographs(tmp_path, bundle, inputs.Words()) == samples.paths(None)
    with pytest.raises(UsageError, match="images that fp16 was built with") as caught:
        shutil.copy(samples.paths(None)[0], tmp_path)
        inputs.photographs(tmp_path, bundle, inputs.Words(images=str(tmp_path)))
    assert "IMAGES=" in caught.value.next and "astronaut.png" in str(caught.value)


def test_weights_are_those_of_the_build_or_an_error(tmp_path):
    recipe = registry.recipe("vit_ti")
    right = weights.locate(recipe, "random").sha256
    bundle = one(tmp_path, weights={"sha256": right})
    assert inputs.weights(recipe, bundle, inputs.Words()).kind == "random"
    (tmp_path / "other.pt").write_bytes(b"other")
    with pytest.raises(UsageError, match="weights that fp16 was built with"):
        inputs.weights(recipe, bundle, inputs.Words(weights=str(tmp_path / "other.pt")))


def test_a_checkpoint_is_looked_for_where_the_command_says(tmp_path):
    from exporter.files import sha256_file

    path = tmp_path / "my pets.pt"
    path.write_bytes(b"weights")
    told = {"kind": "checkpoint", "source": path.name, "sha256": sha256_file(path)}
    bundle = one(tmp_path, weights=told, command=f"python -m exporter engine toy --weights '{path}'")
    assert inputs.weights(registry.recipe("vit_ti"), bundle, inputs.Words()).path == path
    bundle.manifest["command"] = "made by hand"
    with pytest.raises(UsageError) as caught:
        inputs.weights(registry.recipe("vit_ti"), bundle, inputs.Words())
    assert "does not say where" in str(caught.value) and "WEIGHTS=" in caught.value.next


def test_noise_is_known_by_its_name():
    assert inputs.is_noise("noise 1") and not inputs.is_noise("noise.png") and not inputs.is_noise("noise of cars")


def test_a_build_on_images_of_the_recipes_own_has_no_photographs(tmp_path):
    bundle = one(tmp_path)
    file = tmp_path / ".cache" / "reference" / "reference-key" / "entry.json"
    file.write_text(file.read_text().replace(samples.fingerprint(samples.paths(None)), samples.fingerprint([])))
    assert inputs.photographs(tmp_path, bundle, inputs.Words()) == []
