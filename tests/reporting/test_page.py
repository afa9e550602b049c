import itertools
import json
import re
from html.parser import HTMLParser

import bundles
import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image

from exporter import passport, report
from exporter.progress import Progress
from exporter.reporting import pictures, plots
from exporter.types import safe_name

SECTIONS = [
    "Verdict",
    "Parity through depth",
    "Differences at the output",
    "Kernels and size",
    "Latency",
    "How it was made",
]
VOID = {"meta", "img", "br", "path", "use"}


def html(out, model="toy"):
    return (out / model / report.FILE).read_text()


def made(out, model="toy", **words):
    found = report.report(model, out, Progress(quiet=True), **words)
    return found, html(out, safe_name(model))


@pytest.fixture
def no_plots(monkeypatch):
    """For tests of everything else: matplotlib is what takes the time."""
    monkeypatch.setattr(plots, "_drawn", lambda *words: Markup("<svg></svg>"))


class Elements(HTMLParser):
    """Every start tag, and whether the tags are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.broken = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag not in VOID and (not self.open or self.open.pop() != tag):
            self.broken.append(tag)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    bundles.write(folder, "fp16")
    failed = bundles.RUNG | {"status": "failed", "why": "logits at batch 3: relative max 0.4 (at most 0.1)"}
    bundles.write(folder, "bf16.failed", error=0.4, status="failed", parity={"torch/typed": failed},
                  failures=[{"what": "torch/typed disagree", "found": failed["why"]}])  # fmt: skip
    bundles.write(folder, "fp32", schema=9, cache=False)
    return folder


@pytest.fixture(scope="module")
def text(out):
    return made(out)[1]


def test_the_verdict_comes_first_and_the_sections_in_their_order(text):
    assert re.findall("<h2[^>]*>(.*?)</h2>", text) == SECTIONS
    for words in ("RANDOM WEIGHTS", "graph passed", "engine not run", "logits at batch 3: relative max 0.4",
                  bundles.NO_GPU, "its schema is 9"):  # fmt: skip
        assert words in text[: text.index("Parity through depth")]


def test_failed_and_not_run_are_shown_as_such(text):
    assert '<strong>bf16.failed</strong> <span class="badge failed">failed</span>' in text
    assert '<strong>fp32</strong> <span class="badge not-read">not read</span>' in text
    assert '<span class="badge passed">graph passed</span> <span class="badge not-run">engine not run</span>' in text
    assert not re.search('badge passed">(passed|engine)', text)


def test_without_depth_the_section_says_what_to_run(text):
    assert "Not measured yet for fp16, bf16.failed" in text and "make report MODEL=toy DEPTH=1" in text


def test_without_explain_the_section_says_what_to_run(text):
    assert "not known for fp16, bf16.failed" in text and "make explain MODEL=toy" in text


def test_kernels_before_the_rewrites_are_shown_where_explain_left_them(tmp_path, no_plots):
    bundles.write(tmp_path, "fp16")
    explained = {"batch": "1:2:5", "backend": "tensorrt-rtx", "targets": ["sm80"],
                 "blocks_before": {"old": {"copy": 3}}, "stages": bundles.MANIFEST["stages"]}  # fmt: skip
    (tmp_path / "toy" / "explain.fp16.json").write_text(json.dumps(explained))
    _, text = made(tmp_path)
    assert "Kernels before and after" in text and "fp16 before" in text and "are not known" not in text


def test_the_page_needs_nothing_from_elsewhere_and_is_small(text):
    assert "http:" not in text and "https:" not in text and "<script" not in text and "@import" not in text
    for tag, attributes in Elements(text).found:
        for name in ("src", "href", "xlink:href", "srcset"):
            assert attributes.get(name, "#").startswith(("#", "data:image/jpeg;base64,")), (tag, attributes)
        assert not any(name.startswith("on") for name in attributes)
    assert "default-src 'none'" in text and len(text.encode()) < 2_000_000


def test_the_page_is_well_formed_and_no_two_elements_have_one_name(text):
    elements = Elements(text)
    assert elements.broken == [] and elements.open == []
    names = [a["id"] for _, a in elements.found if "id" in a]
    assert len(names) == len(set(names))


def test_the_page_can_be_used_without_eyes_and_without_a_mouse(text):
    elements = Elements(text).found
    for tag, attributes in elements:
        if tag == "img":
            assert attributes["alt"]
        if attributes.get("class") == "scroll":
            assert attributes["tabindex"] == "0" and attributes["role"] == "region" and attributes["aria-label"]
        if attributes.get("role") == "img":
            assert attributes["aria-label"]
        if tag == "svg":
            assert attributes["aria-hidden"] == "true"  # its figure is labelled, and the figures are in a table
    assert ("html", {"lang": "en"}) in elements
    levels = [int(tag[1]) for tag, _ in elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_noise_is_named_as_noise_and_the_worst_photograph_is_shown_too(text):
    assert "fp16: noise 1 (noise)" in text and "no photograph" in text
    assert "fp16: hubble_deep_field.jpg" in text and 'alt="hubble_deep_field.jpg, as the model saw it"' in text


def test_the_same_files_make_the_same_bytes(out, text):
    assert made(out)[1] == text


def test_only_the_precisions_that_were_asked_for(out, no_plots):
    found, text = made(out, precisions=("fp16",))
    assert list(found["verdicts"]) == ["fp16"] and "bf16" not in text


def test_everything_from_files_is_escaped(tmp_path):
    bad = "<script>alert(1)</script>\"'&\ud800"
    folder = bundles.write(
        tmp_path, "fp16", model="<script>x", paper=bad, command=bad, without=[bad], kept_fp32={bad: bad},
        near_the_limit={bad: bad}, refused={bad: bad}, versions={bad: bad}, weights={"why": bad, "source": bad},
        parity={"typed/engine": {"status": "not run", "why": bad}}, failures=[{"what": bad, "found": bad}],
        attention_form={"name": bad, "why": bad}, status="failed",
        kernels=json.loads(json.dumps(bundles.KERNELS).replace("blocks.0", "<script>")),
    )  # fmt: skip
    bundles.depth(folder, **{"<script>": 1e-3, "b": 2e-3})
    bundles.write(tmp_path, "<script>", model="<script>x", cache=False, schema=8)
    (tmp_path / "<script>x").rename(tmp_path / safe_name("<script>x"))  # where a build would have put it
    _, text = made(tmp_path, "<script>x")
    assert "<script" not in text and "&lt;script&gt;alert(1)" in text
    assert Elements(text).broken == []


@pytest.mark.parametrize("field, value", [
    ("kernels", {"sm80": bundles.MANIFEST["kernels"]["sm80"] | {"bytes_moved": "inf", "roofline_us": "nan"}}),
    ("parity", {"torch/raw": bundles.RUNG | {"relative_max": "inf", "cosine": "nan", "tolerance": None}}),
    ("preprocessing", {"interpolation": "by hand"}),
    ("kernels", {"sm99": bundles.MANIFEST["kernels"]["sm80"] | {"chip": "no figures for sm99", "roofline_us": None}}),
])  # fmt: skip
def test_odd_values_are_shown_and_stop_nothing(tmp_path, field, value):
    bundles.write(tmp_path, "fp16", **{field: value})
    assert "How it was made" in made(tmp_path)[1]


def test_depth_is_drawn_where_it_was_measured(tmp_path):
    for name in ("fp16", "bf16"):
        bundles.depth(bundles.write(tmp_path, name), patch_embed=1e-4, blocks_0="inf" if name == "bf16" else 2e-3)
    _, text = made(tmp_path)
    assert "Not measured yet" not in text and "Relative error of each block" in text
    assert "bf16: 1.0e-04 after patch.embed, inf after blocks.0" in text and "chelsea.png" in text


def test_what_the_cache_no_longer_holds_is_said(tmp_path, no_plots):
    bundles.write(tmp_path, "fp16", cache=False)
    _, text = made(tmp_path)
    assert "no differences to show: the cache no longer holds the stage reference" in text


def test_photographs_that_are_others_now_are_not_shown(tmp_path, no_plots):
    bundles.write(tmp_path, "fp16")
    Image.new("RGB", (80, 80)).save(tmp_path / "other.png")
    _, text = made(tmp_path, images=str(tmp_path))
    assert "<img" not in text and "The photograph cannot be shown: the images that fp16 was built with" in text


def test_a_detectors_boxes_are_listed_side_by_side(tmp_path, no_plots):
    bundles.write(tmp_path, "fp16", outputs=[bundles.tensor("logits", 92), bundles.tensor("boxes", 4)])
    _, text = made(tmp_path)
    assert "Best five boxes of noise 1" in text and text.count("<h3>boxes</h3>") == 1
    table = text[text.index('<table aria-label="Best five boxes of noise 1">') :].split("</table>")[0]
    assert re.findall("<tr><td>(.*?)</td>", table) == ["torch"] * 5 + ["fp16"] * 5 and "centre x" in table


def test_a_photograph_is_shown_as_the_model_saw_it(tmp_path):
    import base64
    import io

    pixels = np.zeros((300, 600, 3), np.uint8)
    pixels[:, 200:400] = (200, 30, 30)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    how = passport.preprocessing(bundles.manifest(preprocessing={"size": [448, 448]}))
    found = pictures.as_seen(tmp_path / "a.png", how)
    shown = Image.open(io.BytesIO(base64.b64decode(found.partition(",")[2])))
    assert shown.size == (224, 224) and np.abs(np.asarray(shown)[112, 112].astype(int) - (200, 30, 30)).max() < 8
