"""``make roofline`` as tables on standard output."""

from __future__ import annotations

from exporter.chips import nearest
from exporter.printing import ruled, show

FEW = 12
"""Kernels that are listed; the JSON has all."""


def shown(found: dict) -> None:
    """The chips, the kernels that cost most, ResNet-50 beside it, growth, and where all of this is weak."""
    height, width = found["image"]
    what = f"{found['model']} {found['precision']}, {height}x{width}, batch {found['batch']}"
    moved = f", {len(found['kernels'])} kernels move {found['bytes_moved'] / 1e6:.0f} MB" if found["kernels"] else ""
    print(f"{what}: {found['flops'] / 1e9:.1f} GFLOP{moved}. Bounds by arithmetic, nothing was measured.")
    _chips(found)
    if found["kernels"]:
        _kernels(found)
        _beside(found)
    _growth(found)
    print("Weak points of this model:")
    for line in found["weak"]:
        print(f"  - {line}")
    for source in dict.fromkeys(chip["source"] for chip in found["chips"].values()):
        print(f"  source: {source}")
    if found["written"]:
        print(f"written: {found['written']}")
    elif found["kernels"]:
        print(f"not written: no bundle of these kernels; next: make engine MODEL={found['model']}")


def _times(chip: dict, *keys: str) -> list[str]:
    found = (chip.get(f"{key}_us") for key in keys)
    return ["" if us is None else f"{us:.{0 if us >= 10 else 1}f}" for us in found]


def _chips(found: dict) -> None:
    priced = any("images_per_dollar" in c for c in found["chips"].values())
    dollars = [">$/h", ">M images/$"] if priced else []
    table = ruled(
        "GPU", "from", ">us if L2", ">roofline", ">launches", ">of peak", ">images/s", "bound by", *dollars, ">GB",
        ">of",
        title="Microseconds: what fits in L2 for nothing; all from memory; launches too. Ranges: launches to roofline",
    )  # fmt: skip
    for chip in found["chips"].values():
        if "refused" in chip:
            table.add_row(chip["chip"], f"refused: {chip['refused']}")
            continue
        share, speed = chip["peak_share"], chip["images_per_second"]
        bounds = ", ".join(f"{n} {name}" for name, n in chip.get("bounds", {}).items())
        row = [chip["chip"], chip["from"], *_times(chip, "resident", "floor", "launched"), _range(share, "{:.0%}"),
               _range(speed, "{:.0f}"), bounds]  # fmt: skip
        if priced:
            per = {k: v / 1e6 for k, v in chip.get("images_per_dollar", {}).items()}
            row += [f"{chip['dollars_per_hour']:g}", _range(per, "{:.1f}")] if per else ["", ""]
        fits = "" if chip["fits"] else "  DOES NOT FIT"
        table.add_row(*row, f"{chip['needed_bytes'] / 1e9:.2f}{fits}", f"{chip['gb']:g}")
    show(table)


def _range(values: dict[str, float], how: str) -> str:
    """From the figure with launches to the roofline's; the one with all in the cache is in the JSON."""
    ends = [how.format(values[key]) for key in ("launched", "floor") if key in values]
    return "-".join(dict.fromkeys(ends))


def _kernels(found: dict) -> None:
    stands_for = nearest(found["targets"][0]).name
    name = next((n for n, c in found["chips"].items() if c["chip"] == stands_for), "")
    name = name if name in found["kernels"][0]["on"] else next(iter(found["kernels"][0]["on"]))
    listed = sorted(found["kernels"], key=lambda k: -k["on"][name]["floor_us"])
    table = ruled(
        ">us", "bound by", ">MB", ">MFLOP", ">FLOP/byte", "kind", "block", "kernel",
        title=f"The {FEW} kernels that take longest on {found['chips'][name]['chip']}",
    )  # fmt: skip
    for k in listed[:FEW]:
        on = k["on"][name]
        intensity = "" if k["flops_per_byte"] is None else f"{k['flops_per_byte']:.0f}"
        table.add_row(f"{on['floor_us']:.1f}", on["bound"], f"{k['bytes'] / 1e6:.2f}", f"{k['flops'] / 1e6:.0f}",
                      intensity, k["kind"], k["block"], k["name"][:40])  # fmt: skip
    show(table)


def _beside(found: dict) -> None:
    other = found["resnet50"]
    table = ruled(
        "GPU", f">{found['model']} of peak", ">ResNet-50", f">{found['model']} images/s", ">ResNet-50", ">FLOP/s",
        title=f"ResNet-50 ({other['source']}, {other['precision']}, {other['kernels']} kernels, "
        f"{other['bytes_moved'] / 1e6:.0f} MB, {other['flops'] / 1e9:.1f} GFLOP); ratio with launches",
    )  # fmt: skip
    for name, chip in found["chips"].items():
        beside = other["chips"].get(name)
        if beside is None or "launched_us" not in chip:
            continue
        ratio = (found["flops"] / chip["launched_us"]) / (other["flops"] / beside["launched_us"])
        table.add_row(
            chip["chip"], _range(chip["peak_share"], "{:.0%}"), _range(beside["peak_share"], "{:.0%}"),
            _range(chip["images_per_second"], "{:.0f}"),
            _range(beside["images_per_second"], "{:.0f}"), f"{ratio:.2f}x",
        )  # fmt: skip
    show(table)


def _growth(found: dict) -> None:
    table = ruled(
        "image", ">GFLOP", ">attention", ">grows as pixels^", ">GB needed", ">GB of attention matrices",
        title="Growth with the image, for one (attention: pixels^1 is linear, as windows; ^2 is quadratic, as global)",
    )  # fmt: skip
    for row in found["growth"]["image"]:
        power = row["attention_power"]
        table.add_row(
            "x".join(map(str, row["image"])), f"{row['flops'] / 1e9:.1f}",
            f"{row['attention_flops'] / row['flops']:.1%}",
            "" if power is None else f"{power:.2f}", f"{row['needed_bytes'] / 1e9:.3f}",
            f"{row['attention_bytes'] / 1e9:.3f}",
        )  # fmt: skip
    show(table)
    table = ruled("batch", ">GFLOP", ">GB needed", ">GB of attention matrices", title="Growth with the batch")
    for row in found["growth"]["batch"]:
        table.add_row(str(row["batch"]), f"{row['flops'] / 1e9:.1f}", f"{row['needed_bytes'] / 1e9:.3f}",
                      f"{row['attention_bytes'] / 1e9:.3f}")  # fmt: skip
    show(table)
    print("GB needed: the weights and the largest operator's activations, the least that an engine can do with; the")
    print("attention matrices of all layers are what a graph without fused attention writes in the course of one pass.")
