"""Plots as inline SVG by matplotlib: no fonts, no colours of their own, the same bytes every time.

Colours are names of the page's style sheet (``var(--ink)``), so one plot serves light, dark and paper. Each plot is
drawn twice, for a phone and for a desk; the style sheet shows one of them. Series differ by colour, marker and dash.
"""

from __future__ import annotations

import functools
import io
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10
from xml.etree import ElementTree

from markupsafe import Markup

from exporter.reporting import published

INK, FAINT, PAPER = "#000001", "#000002", "#000003"
SERIES = tuple(f"#0000a{i}" for i in range(7))
COLOURS = {INK: "var(--ink)", FAINT: "var(--line)", PAPER: "var(--paper)"} | {
    colour: f"var(--series-{i})" for i, colour in enumerate(SERIES)
}
"""What stands in matplotlib's output, and what takes its place."""

MARKERS = "osD^vXP"
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)))
PLACES = {name: place for place, name in enumerate(published.ORDER)}
WIDTHS = {"narrow": 300, "wide": 680}
"""Of a plot in units that are about a pixel of the screen."""

SEEN = 1 / 2000
"""A histogram's share that its axis reaches out for."""

LABEL = 18
"""Characters of a block's name below an axis."""

SVG = "{http://www.w3.org/2000/svg}"


@dataclass(frozen=True)
class Look:
    """How a bundle's series looks; that of a failed build is hollow."""

    colour: str
    marker: str
    dash: str
    hollow: bool

    def line(self) -> dict:
        return {
            "color": self.colour,
            "marker": self.marker,
            "linestyle": self.dash,
            "markerfacecolor": PAPER if self.hollow else self.colour,
        }


def look(name: str) -> Look:
    """The look of a bundle's series, by its folder's name: the same in every plot and every report."""
    precision, failed, _ = name.partition(".failed")
    place = PLACES.get(precision, sum(precision.encode()) % len(SERIES))
    return Look(SERIES[place], MARKERS[place], DASHES[place], bool(failed))


def depth(series: Mapping[str, Mapping[str, float]]) -> Markup:
    """Error by block (log scale), a line for each bundle; blocks in the order of the network."""
    blocks = list(dict.fromkeys(block for points in series.values() for block in points))

    def draw(figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        for name, points in series.items():
            drawn = [(i, points[b]) for i, b in enumerate(blocks) if b in points]
            good = [(i, v) for i, v in drawn if isfinite(v) and v > 0]
            axes.plot(
                [i for i, _ in good], [v for _, v in good], label=_plain(name), markersize=4.5, **look(name).line()
            )
            for i in (i for i, v in drawn if not isfinite(v)):
                axes.plot(i, 0.97, "x", color=look(name).colour, transform=axes.get_xaxis_transform())
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.set_ylim(10 ** floor(log10(low)), 10 ** ceil(log10(high)))  # whole decades
        axes.set_ylabel("relative error")
        step = -(-len(blocks) // (8 if narrow else 20))
        names = [_short(block) for block in blocks[::step]]
        axes.set_xticks(range(0, len(blocks), step), names, rotation=60, ha="right", rotation_mode="anchor")
        _legend(axes, len(series))

    return _both("depth", 290, draw)


def histogram(output: str, edges: Sequence[float], series: Mapping[str, Sequence[float]]) -> Markup:
    """Shares of an output's values by size of their difference (log scale), a step line for each bundle."""

    def draw(figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        middles = [(a * b) ** 0.5 for a, b in itertools.pairwise(edges)]
        used = [i for shares in series.values() for i, share in enumerate(shares) if share >= SEEN]
        first, last = (max(min(used) - 1, 0), min(max(used) + 2, len(middles))) if used else (0, len(middles))
        for name, shares in series.items():
            style = look(name).line()
            percent = [100 * s for s in shares]
            axes.plot(
                middles[first:last],
                percent[first:last],
                drawstyle="steps-mid",
                markersize=4,
                label=_plain(name),
                **style,
            )
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("difference / largest reference value")
        axes.set_ylabel("% of values")
        _legend(axes, len(series))

    return _both(f"histogram {output}", 220, draw)


def bars(title: str, unit: str, groups: Mapping[str, Mapping[str, float]]) -> Markup:
    """A figure for each bundle in each group, as points at the end of lines from zero: ``{group: {bundle: value}}``."""
    count = sum(len(values) + 1 for values in groups.values())

    def draw(figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        place, ticks, seen = 0, [], set()
        for group, all_values in groups.items():
            values = {name: value for name, value in all_values.items() if isfinite(value)}
            ticks.append((place + (len(values) - 1) / 2, _plain(group)))
            for name, value in values.items():
                style, label = look(name), None if name in seen else _plain(name)
                seen.add(name)
                axes.hlines(place, 0, value, color=style.colour, linestyle=style.dash)
                axes.plot([value], [place], markersize=6, label=label, **style.line() | {"linestyle": "none"})
                place += 1
            place += 1
        axes.set_yticks([at for at, _ in ticks], [_wrapped(name) if narrow else name for _, name in ticks])
        axes.set_ylim(place - 1.3, -0.7)
        axes.set_xlim(left=0)
        axes.margins(x=0.08)
        axes.set_xlabel(unit)
        axes.grid(axis="y", visible=False)
        axes.locator_params(axis="x", nbins=4 if narrow else 8)
        if seen != set(groups):
            _legend(axes, len(seen))

    return _both(title, 85 + 16 * count, draw)


def scatter(
    title: str,
    axes_names: tuple[str, str],
    series: Mapping[str, Sequence[tuple[float, float]]],
    roofs: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    logarithmic: bool = False,
    most: float | None = None,
) -> Markup:
    """Points of each bundle; ``roofs``: broken lines with names at their ends; ``most``: where the second axis ends."""

    def draw(figure, narrow: bool) -> None:
        axes = figure.add_subplot()
        for name, line in (roofs or {}).items():
            axes.plot(*zip(*line, strict=True), color=INK, linewidth=1, marker="none")
            axes.annotate(_plain(name), line[-1], xytext=(-2, 3), textcoords="offset points", ha="right", va="bottom")
        for name, points in series.items():
            good = [point for point in points if all(map(isfinite, point)) and (not logarithmic or min(point) > 0)]
            style = look(name).line() | {"linestyle": "none"}
            axes.plot(
                [x for x, _ in good], [y for _, y in good], label=_plain(name), markersize=5, clip_on=False, **style
            )
        if logarithmic:
            axes.set_xscale("log")
            axes.set_yscale("log")
        else:
            axes.margins(0.12)
        if most is not None:
            axes.set_ylim(top=min(most, axes.get_ylim()[1]))
        axes.set_xlabel(axes_names[0])
        axes.set_ylabel(axes_names[1])
        _legend(axes, len(series))

    return _both(title, 290, draw)


def _short(block: str) -> str:
    """A block's name without its first parts where it is long: ``encoder.layers.0``."""
    parts = block.split(".")
    while len(".".join(parts)) > LABEL and len(parts) > 3:
        del parts[0]
    return _plain(".".join(parts))


def _plain(text: str) -> str:
    """Text that matplotlib takes for text: no formulas, no control characters."""
    return "".join(c if c.isprintable() else "?" for c in text).replace("$", r"\$")


def _wrapped(name: str) -> str:
    """A long name on two lines."""
    head, _, tail = name.partition(" ")
    return f"{head}\n{tail}" if tail else head


def _legend(axes, count: int) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.figure.legend(loc="outside upper left", ncols=min(count, 4), frameon=False, numpoints=1)


def _both(name: str, height: int, draw: Callable) -> Markup:
    drawn = (_drawn(f"{name} {variant}", width, height, draw, variant) for variant, width in WIDTHS.items())
    return Markup("\n").join(drawn)


def _drawn(name: str, width: int, height: int, draw: Callable, variant: str) -> Markup:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the user's matplotlibrc says
        matplotlib.rcParams.update(_settings() | {"svg.hashsalt": name})
        figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
        draw(figure, variant == "narrow")
        drawn = io.BytesIO()
        figure.savefig(drawn, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return inline(drawn.getvalue(), variant)


@functools.cache
def _settings() -> dict:
    inks = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
    return dict.fromkeys(inks, INK) | {
        "svg.fonttype": "none",
        "font.size": 10,
        "axes.edgecolor": FAINT,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "savefig.facecolor": "none",
        "axes.grid": True,
        "grid.color": FAINT,
        "grid.linewidth": 0.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.labelcolor": INK,
        "axes.titlesize": 10,
    }


def inline(svg: bytes, kind: str) -> Markup:
    """matplotlib's file as an element of a page: without prologue, name spaces, fonts, and names that nothing uses."""
    root = ElementTree.fromstring(svg)
    text = ElementTree.tostring(root, encoding="unicode")
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text))
    used = {name for pair in used for name in pair if name}
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        for key in list(element.attrib):
            value = element.attrib.pop(key)
            if key != "id" or value in used:
                element.attrib[key.rpartition("}")[2]] = _restyled(value) if key == "style" else value
    for parent in list(root.iter()):
        for child in [c for c in parent if c.tag in ("style", "metadata")]:
            parent.remove(child)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib |= {"class": f"plot {kind}", "aria-hidden": "true"}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _restyled(style: str) -> str:
    style = re.sub(r"font-family: [^;]*;? ?", "", style)
    style = re.sub(r"font: ([0-9.]+px) [^;]*", r"font-size: \1", style)
    return re.sub(r"#0000[0-9a-f]{2}", lambda found: COLOURS.get(found[0], found[0]), style)
