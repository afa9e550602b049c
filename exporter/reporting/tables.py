"""The tables of the page, as columns and rows of text; a column whose name starts with '>' is right-aligned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from exporter.crosscheck_report import NAMES, besides
from exporter.naming import OWN, block_of
from exporter.reporting.published import Published

BIGGEST = 10
NODES = 3


@dataclass(frozen=True)
class Table:
    """``caption`` says what it shows; it is also what a screen reader calls the box that it scrolls in."""

    caption: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)


def number(value: object, form: str = ".1e") -> str:
    """A number of a JSON file, which has words for NaN and infinities; '' for none."""
    return "" if value is None else format(float(value), form)


def ladder(bundles: Sequence[Published]) -> Table:
    """Every comparison of every bundle."""
    rows = []
    for b in bundles:
        for name, rung in b.manifest["parity"].items():
            limit = (rung.get("tolerance") or {}).get("relative_max")
            top = number(rung.get("top1_agreement"), ".1%")
            figures = (number(rung.get("relative_max")), number(limit, ".0e"), number(rung.get("cosine"), ".6f"), top)
            rows.append((b.name, name, rung["status"], *figures, str(rung.get("samples") or ""), rung["why"]))
    columns = ("build", "comparison", "verdict", ">relative max", ">allowed", ">cosine", ">top-1", ">rows", "why")
    return Table("Every comparison", columns, rows)


def runtimes(bundles: Sequence[Published]) -> Table | None:
    """The same photographs through every runtime, of the bundles that ``make crosscheck`` measured; None of none."""
    rows = []
    for b in bundles:
        for name, way in b.manifest.get("cross_runtime", {}).items():
            top = number(way.get("top1_agreement"), ".1%")
            figures = (number(way.get("relative_max")), number(way.get("cosine"), ".6f"), top)
            rows.append(
                (b.name, NAMES.get(name, name), way["status"], *figures, str(way.get("samples") or ""), besides(way))
            )
    columns = ("build", "runtime", "verdict", ">relative max", ">cosine", ">top-1", ">images", "besides")
    return Table("The same photographs through every runtime, against torch", columns, rows) if rows else None


def depth(bundles: Sequence[Published]) -> Table:
    """Error of each block, for each bundle that has it."""
    known = [b for b in bundles if b.depth]
    found: dict[str, dict[str, dict]] = defaultdict(dict)
    for b in known:
        for row in b.depth["blocks"]:
            found[row["block"]][b.name] = row
    heads = [f">{b.name} {what}" for b in known for what in ("error", "added")]
    rows = []
    for block, by in found.items():
        cells = [number(by[b.name][key]) if b.name in by else "" for b in known for key in ("error", "own")]
        rows.append((block, *cells))
    return Table("Error of each block's output", ("block", *heads), rows)


def engines(bundles: Sequence[Published]) -> Table:
    """One line a bundle: sizes and counts."""
    rows = []
    for b in bundles:
        m = b.manifest
        first = next(iter(m["kernels"].values()), None)
        batch = m["batch"]
        attentions = first["fused_attention"] + len(m["unfused_attention"]) if first else 0
        counts = ("",) * 4
        if first:
            fused = f"{first['fused_attention']} of {attentions}" if attentions else "none there"
            counts = (str(first["count"]), fused, number(float(first["bytes_moved"]) / 1e6, ".0f"))
            counts += (number(float(first["flops"]) / 1e9, ".0f"),)
        sizes = (number(m["engine"]["bytes"] / 1e6, ".1f"), number(m["onnx"]["bytes"] / 1e6, ".1f"))
        profile = f"{batch['min']}:{batch['opt']}:{batch['max']}"
        rows.append((b.name, *sizes, *counts, profile, ", ".join(m["engine"]["targets"])))
    columns = ("build", ">engine MB", ">ONNX MB", ">kernels", "fused attention", ">MB moved", ">GFLOP", "batch", "for")
    return Table("Engines; bytes and operations at the middle of the batch", columns, rows)


def floors(bundles: Sequence[Published]) -> Table:
    """Roofline by GPU."""
    rows = []
    for b in bundles:
        for target, k in b.manifest["kernels"].items():
            bound = k.get("roofline_us")
            rows.append((k["chip"], target, b.name, number(bound, ".1f") if bound else "no figures", str(k["batch"])))
    return Table("No faster than", ("GPU", "target", "build", ">floor us", ">batch"), rows)


def blocks(bundles: Sequence[Published]) -> Table:
    """Kernels of each block, before the rewrites where that is known, and after; bytes after."""
    known = [b for b in bundles if b.kernels]
    order: dict[str, None] = {}
    cells: dict[str, dict[str, str]] = defaultdict(dict)
    heads = []
    for b in known:
        after: dict[str, list] = defaultdict(lambda: [0, 0.0])
        for kernel in b.kernels["at_opt"]:
            name = kernel["block"] or "-"
            after[name][0] += 1
            after[name][1] += float(kernel["bytes"])
        before = {name: sum(kinds.values()) for name, kinds in (b.before or {}).items()}
        order |= dict.fromkeys([*after, *before])
        shown = [f">{b.name} {what}" for what in ("before", "after", "MB")]
        heads += shown[b.before is None :]
        for name, (count, size) in after.items():
            cells[name] |= {shown[1]: str(count), shown[2]: number(size / 1e6, ".1f")}
        for name, count in before.items():
            cells[name][shown[0]] = str(count)
    rows = [(name, *(cells[name].get(head, "0") for head in heads)) for name in order]
    return Table("Kernels by block", ("block", *heads), rows)


def biggest(bundle: Published) -> Table:
    """The ten kernels that move the most."""
    listed = bundle.kernels["at_opt"]
    total = sum(float(k["bytes"]) for k in listed) or 1.0
    rows = []
    for k in sorted(listed, key=lambda k: -float(k["bytes"]))[:BIGGEST]:
        size = float(k["bytes"])
        figures = (number(size / 1e6, ".2f"), number(size / total, ".1%"), number(float(k["flops"]) / 1e6, ".0f"))
        rows.append((*figures, k["kind"], k["block"], k["name"], _some(k["nodes"])))
    batch = bundle.kernels["batch_at_opt"]
    caption = f"{bundle.name}: the biggest {len(rows)} of {len(listed)} kernels at batch {batch}"
    return Table(caption, (">MB", ">share", ">MFLOP", "kind", "block", "kernel", "ONNX nodes"), rows)


def _some(nodes: list[str]) -> str:
    short = [n.rpartition("/")[2] for n in nodes]
    return ", ".join(short[:NODES]) + (f" +{len(short) - NODES}" if len(short) > NODES else "")


def rewrites(manifest: dict) -> list[tuple[str, ...]]:
    """Rows of the table of rewrites."""
    return [
        (r["name"], str(r["matches"]), f"{r['nodes_before']} → {r['nodes_after']}", number(r.get("max_abs_error")))
        for r in manifest["rewrites"]
    ]


def islands(bundle: Published) -> Table | None:
    """The blocks by their error, with what each costs in FP32 and recovers; None where no budget asked for it."""
    found = bundle.manifest.get("islands")
    if not found:
        return None
    rows = []
    for r in found["ranked"]:
        error, kernels, mb = float(r["error"]), r["kernels"], float(r["bytes"]) / 1e6
        each = [number(error / cost) if cost > 0 else "costs none" for cost in (kernels, mb)]
        kept = [name for name in found["kept"] if block_of(name.removesuffix(OWN)) == r["block"]]
        figures = (
            number(error),
            number(r["recovered"], ".1%"),
            str(kernels),
            number(mb, ".2f"),
            number(r["us"], ".1f"),
        )
        rows.append((r["block"], *figures, *each, ", ".join(kept) or "no"))
    goal = f"{found['goal']} on {found['images']} images"
    return Table(f"{bundle.name}: FP32 islands for {goal}", ISLANDS, rows)


ISLANDS = ("block", ">squared error", ">share", ">kernels added", ">MB added", ">us added", ">error a kernel",
           ">error a MB", "in FP32")  # fmt: skip
REWRITES = ("rewrite", ">matches", ">nodes", ">max error")


def shared(bundles: Iterable[Published], make) -> list[tuple[str, object]]:
    """(names of the bundles, ``make(manifest)``): each different result once, in the order of its first bundle."""
    groups: list[tuple[list[str], object]] = []
    for b in bundles:
        made = make(b.manifest)
        group = next((names for names, other in groups if other == made), None)
        if group is None:
            groups.append(([b.name], made))
        else:
            group.append(b.name)
    return [(", ".join(names), made) for names, made in groups]
