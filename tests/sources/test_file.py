import re
from pathlib import Path

import pytest
from graphs import f32  # noqa: F401  (tests' helpers are on the path)

from exporter import pipeline, registry, request
from exporter.errors import UsageError
from exporter.progress import Progress

README = Path(__file__).parents[2] / "README.md"


def example() -> str:
    """The recipe of the README's section on a module of one's own."""
    text = README.read_text().split("## Your own module")[1]
    return re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)


def written(folder, text, name="my_recipe.py"):
    path = folder / name
    path.write_text(text)
    return str(path)


def built(path, folder):
    asked = request.parse(path, target="sm80", batch="1:2:4", out=str(folder / "out"))
    return pipeline.run(asked, Progress(quiet=True))


def test_the_example_of_the_readme_becomes_an_engine(tmp_path, capsys):
    made = built(written(tmp_path, example()), tmp_path)
    assert made.failures == () and made.folder == tmp_path / "out" / "my_net" / "fp16"
    assert made.manifest["kernels"]["sm80"]["fused_attention"] == 2  # torch's own encoder layers
    assert "no family that is known" in capsys.readouterr().err


def test_the_key_follows_the_file(tmp_path):
    first = registry.recipe(written(tmp_path, example()))
    second = registry.recipe(written(tmp_path, example() + "\n# changed\n"))
    assert registry.recipe_source(first) != registry.recipe_source(second)


@pytest.mark.parametrize("text, says", [
    ("x = 1 / 0", "line 1: x = 1 / 0"), ("def f(:", "line 1"), ("RECIPE = 3", "RECIPE is a int"), ("", "no RECIPE"),
    (example().replace('"my_net"', '"../../etc"'), "../../etc"), (example().replace('"my_net"', '"vit_ti"'), "taken"),
    ("import no_such_package", "no_such_package"),
])  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_with_its_line(text, says, tmp_path):
    with pytest.raises(UsageError) as caught:
        registry.recipe(written(tmp_path, text))
    assert says in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="cannot be taken"):
        registry.recipe(str(tmp_path / "none.py"))


NET = """
import torch
from exporter.types import Preprocessing, Recipe

class Net(torch.nn.Module):
    def forward(self, pixels):
        {body}

RECIPE = Recipe(name="net", build=lambda spec: {build}, classes=3,
                preprocessing=Preprocessing((32, 32), (0.5,) * 3, (0.5,) * 3))
"""


@pytest.mark.parametrize("body, build, stage, says", [
    ("return {'logits': pixels}", "Net()", "reference", "a dict of logits"),
    ("return pixels.mean((2, 3)), pixels", "Net()", "reference", "2 tensors"),
    ("return pixels.mean((0, 2, 3))", "Net()", "reference", "logits of the shape (3,) for 4 images"),
    ("return pixels.mean((2, 3)).argmax(1)", "Net()", "reference", "logits of int64"),
    ("return 'cat'", "Net()", "reference", "a str"),
    ("return pixels @ torch.ones(5, 5)", "Net()", "reference", "line 7: return pixels @ torch.ones(5, 5)"),
    ("return pixels.mean((2, 3)) if pixels.mean() > 0 else pixels.amax((2, 3))", "Net()", "trace", "line 7"),
    ("pass", "spec.klasses", "build", "line 9"),
    ("pass", "3", "build", "int"),
])  # fmt: skip
def test_what_a_module_may_do_wrong(body, build, stage, says, tmp_path, capfd):
    with pytest.raises(UsageError) as caught:
        built(written(tmp_path, NET.format(body=body, build=build)), tmp_path)
    assert caught.value.stage == stage and says in str(caught.value)
    assert "def forward" not in capfd.readouterr().err  # torch's pages of graphs
