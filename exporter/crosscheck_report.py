"""What ``crosscheck`` prints: a line a runtime."""

from __future__ import annotations

from exporter.printing import ruled, show

NAMES = {
    "onnxruntime": "ONNX Runtime",
    "served": "tritonserver, pixels",
    "ensemble": "tritonserver, files",
    "cpp": "C++ preprocessing",
}


def table(record: dict) -> None:
    """Every runtime against torch, and what else was compared of it."""
    made = ruled("runtime", "verdict", ">rel max", ">allowed", ">cosine", ">top-1", ">images", "besides")
    for name, way in record["ways"].items():
        if way["status"] == "not run":
            made.add_row(NAMES[name], "not run", "", "", "", "", "", way["why"])
            continue
        figures = ("", "", "", "")
        if "relative_max" in way:
            figures = (f"{float(way['relative_max']):.1e}", f"{way['tolerance']['relative_max']:.0e}",
                       f"{float(way['cosine']):.6f}", f"{float(way['top1_agreement']):.1%}")  # fmt: skip
        made.add_row(NAMES[name], way["status"], *figures, str(way["samples"]), besides(way))
    show(made)


def besides(way: dict) -> str:
    """What a runtime was compared with other than torch, in words."""
    said = []
    if "from_onnxruntime" in way:
        said.append(f"{float(way['from_onnxruntime']):.1e} from ONNX Runtime here")
    if "alike" in way:
        said.append(f"{way['alike']} with the runtime's answers in its order, shares within {float(way['share']):.1e}")
    if "box" in way:
        said.append(f"boxes within {float(way['box']):.1e} pixels")
    if "pixels" in way:
        said.append(f"pixels within {float(way['pixels']):.1e} of Python's")
    return "; ".join([*said, way["why"]] if way["why"] else said)
