from pathlib import Path

import pytest

from exporter import registry, sweepfile
from exporter.errors import UsageError

WHOLE = """\
models: [vit_ti, swin_t]
precisions: [fp16, int8]
batches: [1, 1:8:32]
targets: [sm80, "sm89,sm120"]
steps: [bench, engine]
settings: {weights: random, allow_unfused: true, price: l4=0.7, duration: 5}
"""


def read(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return sweepfile.read(path)


def test_every_combination_is_a_cell_in_the_order_of_the_file(tmp_path):
    found = read(tmp_path, WHOLE)
    assert found.name == "mine" and len(found.cells) == 16 == len({c.name for c in found.cells})
    assert found.cells[0] == sweepfile.Cell("vit_ti", "fp16", "1", "sm80")
    assert found.cells[-1] == sweepfile.Cell("swin_t", "int8", "1:8:32", "sm89,sm120")
    assert found.steps == ("engine", "bench")  # in the order that they must run in


def test_a_batch_is_what_is_written_and_no_number_to_the_base_of_60(tmp_path):
    assert [c.batch for c in read(tmp_path, "models: [vit_ti]\nbatches: [1:8:32]\n").cells] == ["1:8:32"]


def test_one_model_is_enough(tmp_path):
    found = read(tmp_path, "models: vit_ti\n")
    assert found.cells == (sweepfile.Cell("vit_ti", "fp16", None, None),) and found.steps == ("engine",)


def test_the_sweep_that_comes_with_the_tool_can_be_read():
    assert sweepfile.read(Path(__file__).parents[1] / "benchmarks" / "sweep.yaml").cells


@pytest.mark.parametrize("text, line, says", [
    ("models: [vit_ti]\ncolour: red\n", 2, "no key 'colour'"),
    ("models:\n  - vit_ti\n  - swin_tt\n", 3, "no recipe for the model 'swin_tt'"),
    ("models: [vit_ti]\nprecisions: [fp61]\n", 2, "no precision 'fp61'"),
    ("models: [vit_ti]\n\nbatches:\n  - 1\n  - 0\n", 5, "BATCH is out of range"),
    ("models: [vit_ti]\ntargets: [sm90]\n", 2, "no target 'sm90'"),
    ("models: [vit_ti]\nsteps: [fly]\n", 2, "no step 'fly'"),
    ("models: [vit_ti]\nmodels: [swin_t]\n", 2, "there twice"),
    ("models: [vit_ti]\nsettings:\n  wieghts: random\n", 3, "no key 'wieghts'"),
    ("models: [vit_ti]\nsettings:\n  price: cheap\n", 3, "PRICE cannot be read"),
    ("models: [vit_ti]\nsettings:\n  allow_unfused: perhaps\n", 3, "on or off"),
    ("models: [vit_ti]\nsettings:\n  vs: tensorflow\n", 3, "no contender"),
    ("models: [vit_ti]\nsettings:\n  weights: [a, b]\n", 3, "one value is due"),
    ("models: [vit_ti\nbatches: [1]\n", 2, "no YAML"),
    ("models: {vit_ti: 1}\n", 1, "a list is missing"),
    ("models: []\n", 1, "a list is missing"),
    ("models:\n", 1, "a list is missing"),
    ("models: &a [*a]\n", 1, "one value is due"),
    ("- vit_ti\n", 1, "no mapping"),
    ("precisions: [fp16]\n", 1, "names no models"),
    ("models: [vit_ti]\n--- \nmodels: [swin_t]\n", 2, "no YAML"),
])  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(tmp_path, text, line, says):
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert f"mine.yaml, line {line}: " in message and says in message and "next:" in message


@pytest.mark.parametrize("text", ["", "\n# nothing\n"])
def test_an_empty_file_names_no_models(tmp_path, text):
    with pytest.raises(UsageError, match="names no models"):
        read(tmp_path, text)


def test_a_file_that_cannot_be_read_is_the_users_mistake(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        sweepfile.read(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot be read"):
        sweepfile.read(tmp_path / "binary.yaml")


def test_nothing_in_the_file_is_executed(tmp_path):
    with pytest.raises(UsageError, match="no recipe"):
        read(
            tmp_path,
            f"models: [!!python/object/apply:os.mkdir ['{tmp_path}/made']]\n".replace("['", "'").replace("']]", "']"),
        )
    assert not (tmp_path / "made").exists()


def test_too_many_cells_are_refused(tmp_path):
    numbers = ", ".join(map(str, range(1, 1003)))
    with pytest.raises(UsageError, match="too large"):
        read(tmp_path, f"models: [vit_ti]\nbatches: [{numbers}]\n")


def test_the_words_of_a_cell_are_a_command_line(tmp_path):
    found = read(tmp_path, WHOLE)
    engine = list(sweepfile.words(found.cells[-1], "engine", found.settings, tmp_path))
    assert engine[:2] == ["engine", "swin_t"] and "--json" in engine and "--allow-unfused" in engine
    for option, value in (("--batch", "1:8:32"), ("--target", "sm89,sm120"), ("--weights", "random")):
        assert engine[engine.index(option) + 1] == value
    assert "--price" not in engine and "--price" in list(
        sweepfile.words(found.cells[0], "roofline", found.settings, tmp_path)
    )
    bench = list(sweepfile.words(found.cells[-1], "bench", found.settings, tmp_path))
    assert "--duration" in bench and "--batch" not in bench and "--target" not in bench
    from exporter.cli import _parser

    for step in sweepfile.STEPS:  # every word is one that the verb takes
        _parser().parse_args(list(sweepfile.words(found.cells[-1], step, found.settings, tmp_path)))


def test_models_of_other_sources_have_folders_of_their_own():
    names = {sweepfile.Cell(m, "fp16", None, None).name for m in ("timm:vit_a", "timm/vit_a", "timm_vit_a", "a/b.py")}
    assert len(names) == 4 and not any(set(name) & set(":/") for name in names)


def test_the_zoo_is_every_recipe_at_every_size():
    found = sweepfile.read(Path(__file__).parents[1] / "benchmarks" / "zoo.yaml")
    assert {cell.model for cell in found.cells} == set(registry.recipes())
    assert {cell.precision for cell in found.cells} == {"fp32", "fp16", "bf16", "int8"}
