import functools
import re
from xml.etree import ElementTree

import pytest

from exporter.reporting import plots

SERIES = {"fp16": {"blocks.0": 1e-3, "blocks.1": 2e-3}, "bf16.failed": {"blocks.0": 1e-2, "blocks.1": float("inf")}}


@functools.cache
def drawn():
    return {
        "depth": plots.depth(SERIES),
        "histogram": plots.histogram("logits", [1e-3, 1e-2, 1e-1], {"fp16": [0.2, 0.7], "bf16": [0.0, 0.0]}),
        "bars": plots.bars("floor", "us", {"A100 80GB": {"fp16": 3.0, "bf16": 4.0}, "L4": {"fp16": 9.0}}),
    }


@pytest.mark.parametrize("name", ["depth", "histogram", "bars"])
def test_a_plot_is_drawn_for_phones_and_for_desks_with_the_pages_colours(name):
    text = str(drawn()[name])
    both = ElementTree.fromstring(f"<p>{text}</p>")
    assert [svg.attrib["class"] for svg in both] == ["plot narrow", "plot wide"]
    assert "http" not in text and "font-family" not in text and "<style" not in text and "var(--ink)" in text
    assert not re.findall("#[0-9a-f]{6}", text.replace("#m", "").replace("#p", ""))


@pytest.mark.parametrize("name", ["depth", "histogram", "bars"])
def test_names_inside_a_plot_are_used_and_no_two_plots_share_one(name):
    texts = {key: str(value) for key, value in drawn().items()}
    ids = {key: re.findall(r' id="([^"]+)"', text) for key, text in texts.items()}
    assert len(ids[name]) == len(set(ids[name])) > 0
    assert all(f"#{one}" in texts[name] for one in ids[name])
    assert not any(set(ids[name]) & set(other) for key, other in ids.items() if key != name)


def test_the_same_figures_make_the_same_bytes():
    assert drawn.__wrapped__() == drawn()


def test_a_users_settings_do_not_matter(monkeypatch):
    import matplotlib

    before = drawn()["depth"]
    monkeypatch.setitem(matplotlib.rcParams, "lines.linewidth", 9.0)
    assert plots.depth(SERIES) == before and matplotlib.rcParams["lines.linewidth"] == 9.0


def test_series_differ_by_more_than_their_colour():
    looks = [plots.look(name) for name in ("fp32", "tf32", "fp16", "bf16")]
    for what in ("colour", "marker", "dash"):
        assert len({getattr(look, what) for look in looks}) == 4
    assert plots.look("fp16.failed").hollow and plots.look("fp16.failed").colour == plots.look("fp16").colour
    assert plots.look("int8") == plots.look("int8")


def test_names_from_files_are_escaped():
    text = plots.depth({"fp16": {"<script>": 1.0, r"$\frac{$": 2.0, "\0": 3.0}})
    assert "<script>" not in text and r"$\frac{$" in text and "\0" not in text


def test_nothing_finite_is_drawn_without_an_error():
    assert plots.depth({"fp16": {"a": float("nan"), "b": 0.0}})
    assert plots.histogram("x", [1e-3, 1e-2], {"fp16": [0.0]})
    assert plots.bars("x", "us", {"A100": {"fp16": float("inf")}})
