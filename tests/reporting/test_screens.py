"""The page in a real browser, where there is one: no sideways scrolling on a phone, and something to see."""

import shutil
import subprocess

import bundles
import numpy as np
import pytest
from PIL import Image

from exporter import report
from exporter.progress import Progress

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "chrome-headless-shell")
BROWSER = next((path for name in BROWSERS if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser here: none of {', '.join(BROWSERS)}")

FRAME = """<!doctype html><meta charset="utf-8"><body><iframe src="{page}" width="{width}" height="900"></iframe>
<script>
onload = () => {{
  const inside = document.querySelector("iframe").contentDocument, all = [...inside.querySelectorAll("*")];
  const seen = all.filter(e => e.checkVisibility({{ contentVisibilityAuto: true }}));
  const boxes = all.filter(e => e.matches(".scroll"));
  document.body.dataset.widest = inside.documentElement.scrollWidth;
  document.body.dataset.plots = seen.filter(e => e.matches("svg.narrow")).length + " narrow "
    + seen.filter(e => e.matches("svg.wide")).length + " wide";
  document.body.dataset.own = boxes.filter(e => e.scrollWidth > e.clientWidth).length;
}};
</script>"""


def chromium(*words):
    words = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *words]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    long = "python -m exporter engine toy --weights " + "a-very-long-folder-without-an-end/" * 9
    for name in ("fp16", "bf16", "fp32"):
        folder = bundles.write(out, name, command=long, paper="W" * 200, kept_fp32={"n" * 200: "w" * 200})
        bundles.depth(folder, **{f"layers_{i}": 1e-3 * (i + 1) for i in range(30)})
    return report.report("toy", out, Progress(quiet=True))["report"]


@pytest.mark.parametrize("width, plots", [(320, "4 narrow 0 wide"), (1280, "0 narrow 4 wide")])
def test_wide_things_scroll_in_their_own_box_and_one_plot_of_each_is_shown(page, tmp_path, width, plots):
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(page=f"file://{page}", width=width))
    dom = chromium("--allow-file-access-from-files", "--virtual-time-budget=4000", "--dump-dom", str(frame)).stdout
    found = dict(part.split('="') for part in dom[dom.index("<body ") + 6 :].split('">')[0].split('" '))
    assert int(found["data-widest"]) <= width
    assert found["data-plots"] == plots and int(found["data-own"]) > 0


@pytest.mark.parametrize("dark", [False, True])
def test_a_screenshot_shows_ink_on_paper(page, tmp_path, dark):
    shot = tmp_path / "shot.png"
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]
    done = chromium(*scheme, "--window-size=800,1200", f"--screenshot={shot}", f"file://{page}")
    assert shot.exists(), done.stderr
    grey = np.asarray(Image.open(shot).convert("L"))
    paper = np.bincount(grey.ravel()).argmax()
    assert (paper < 60) == dark and 0.01 < np.mean(np.abs(grey.astype(int) - int(paper)) > 80) < 0.5
