"""What is printed on standard output: a verdict first, then tables."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from exporter import choice, registry
from exporter.printing import ruled, show


def verdict(manifest: dict, folder: Path) -> None:
    """The build in a few lines: passed or failed, then the evidence."""
    first = next(iter(manifest["kernels"].values()))
    ran = [name for name, rung in manifest["parity"].items() if rung["status"] == "passed"]
    missing = {name: rung["why"] for name, rung in manifest["parity"].items() if rung["status"] == "not run"}
    weights = manifest["weights"]
    batch = manifest["batch"]
    attention = first["fused_attention"] + len(manifest["unfused_attention"])
    print(f"{manifest['status'].upper()}  {manifest['model']} {manifest['precision']}  ->  {folder}")
    print(f"  weights     {weights['source']}" + (f" ({weights['why']})" if weights.get("why") else ""))
    print(
        f"  engine      {manifest['engine']['bytes'] / 1e6:.0f} MB for {', '.join(manifest['engine']['targets'])}, "
        f"batch {batch['min']}:{batch['opt']}:{batch['max']}, sha256 {manifest['engine']['sha256'][:12]}"
    )
    fused = f", {first['fused_attention']} of {attention} attentions fused" if attention else ""
    print(
        f"  kernels     {first['count']}{fused}; {first['bytes_moved'] / 1e6:.0f} MB and "
        f"{first['flops'] / 1e9:.0f} GFLOP at batch {first['batch']}"
    )
    bounds = [f"{k['chip']} {k['roofline_us'] / 1e3:.2f} ms" for k in manifest["kernels"].values() if k["roofline_us"]]
    if bounds:
        print(f"  floor       {', '.join(bounds)}  (roofline at batch {first['batch']}: everything from memory)")
    if manifest["islands"]:
        print(f"  islands     {_islands(manifest['islands'])}")
    if manifest["against_base"]:
        print(f"  gain        {_gain(manifest['against_base'])}")
    print(f"  parity      passed: {', '.join(ran) or 'nothing'}")
    for name, rung in manifest["parity"].items():
        if rung["status"] == "failed":
            print(f"              FAILED: {name}: {rung['why']}")
    for name, why in missing.items():
        print(f"              not run: {name}: {why}")


def _islands(facts: dict) -> str:
    """What a budget keeps in FP32, and the error without and with it."""
    kept = ", ".join(facts["kept"]) or "nothing"
    before, after = facts["before"]["relative_max"], facts["after"]["relative_max"]
    return f"{kept} in FP32 for {facts['goal']}: largest error {before:.1e} -> {after:.1e} on {facts['images']} images"


def _gain(facts: dict) -> str:
    """What eight bits gain over sixteen, by the kernels of both engines."""
    from exporter.stages.place import best_row

    base, best = facts["rows"][facts["base"]], best_row(facts)
    left = f"; {len(facts['left'])} blocks left in 16 bits for {facts['goal']}" if facts["left"] else ""
    verdict = "" if facts["gain"] > 1.0 else f"NOT FASTER: PRECISION={facts['base']} is better here; "
    return (
        f"{verdict}{facts['gain']:.2f}x {facts['base']} at batch {facts['batch']} by the compiler's kernels: "
        f"{base['total_us']:.0f} -> {best['total_us']:.0f} us, {base['bytes_moved'] / 1e6:.0f} -> "
        f"{best['bytes_moved'] / 1e6:.0f} MB, {base['kernels']} -> {best['kernels']} kernels ({facts['winner']}{left})"
    )


def parity(manifest: dict) -> None:
    """The ladder: one line a rung and output."""
    table = ruled(
        "comparison",
        "verdict",
        "output",
        ">max abs",
        ">mean abs",
        ">rel max",
        ">allowed",
        ">x noise",
        ">cosine",
        ">top-1",
        ">images",
        "batches",
        title=f"{manifest['model']} {manifest['precision']}: {manifest['status']}",
    )
    for name, rung in manifest["parity"].items():
        if not rung["outputs"]:
            table.add_row(name, rung["status"], rung["why"])
        for i, (output, e) in enumerate(rung["outputs"].items()):
            table.add_row(
                name if i == 0 else "",
                rung["status"] if i == 0 else "",
                output,
                f"{float(e['max_abs']):.2e}",
                f"{float(e['mean_abs']):.2e}",
                f"{float(e['relative_max']):.2e}",
                f"{rung['tolerance']['relative_max']:.0e}",
                f"{float(rung['times_noise']):.0f}" if i == 0 and "times_noise" in rung else "",
                f"{float(e['cosine']):.7f}",
                f"{float(rung['top1_agreement']):.1%}",
                str(rung["samples"]),
                ",".join(map(str, rung["batches"])),
            )
    show(table)
    if interval := next((r["top1_interval"] for r in manifest["parity"].values() if "top1_interval" in r), None):
        print(f"top-1: at this number of different images the true agreement lies in {_percent(interval)} (95 %)")
    if manifest["quantized"]:
        print("8 bits are judged on the images alone: seeded noise has ranges that no image was calibrated for")
    print(f"x noise: {_noise(manifest)}")
    for name, rung in manifest["parity"].items():
        if "box_iou" in rung:
            print(f"{name}: matched boxes' IoU {float(rung['box_iou']):.5f} (worst {float(rung['box_iou_min']):.4f})")


def _percent(interval: list[float]) -> str:
    return f"{interval[0]:.0%} to {interval[1]:.0%}"


def _noise(manifest: dict) -> str:
    """The noise floor, what it is made of, and the precision's tolerance in its units."""
    floor = manifest["noise_floor"]
    allowed = next((r["allowed_times_noise"] for n, r in reversed(manifest["parity"].items())
                    if "allowed_times_noise" in r), None)  # fmt: skip
    first, second = floor["threads"]
    return (
        f"in units of the noise floor, {floor['relative_max']:.1e} of the largest output: torch and ONNX Runtime "
        f"differ by {floor['torch_onnxruntime']:.1e}, {first} and {second} threads by {floor['between_threads']:.1e}"
        + (f"; the tolerance is {allowed:.0f} of it" if allowed else "")
    )


def kernels(report: dict) -> None:
    """Every kernel, biggest first, and the share of each block."""
    listed = report["at_opt"]
    bytes_moved = sum(k["bytes"] for k in listed)
    table = ruled(
        ">MB",
        ">share",
        ">MFLOP",
        "kind",
        "block",
        "kernel",
        "ONNX nodes",
        title=f"{report['model']} {report['precision']}: {len(report['kernels'])} kernels in the engine; "
        f"sizes at batch {report['batch_at_opt']}",
    )
    for k in sorted(listed, key=lambda k: -k["bytes"]):
        table.add_row(
            f"{k['bytes'] / 1e6:.2f}",
            f"{k['bytes'] / bytes_moved:.1%}",
            f"{k['flops'] / 1e6:.0f}",
            k["kind"],
            k["block"],
            k["name"][:48],
            _short(k["nodes"]),
        )
    show(table)
    show(_by(listed, "block", bytes_moved))
    show(_by(listed, "kind", bytes_moved))
    for target, totals in report["totals"].items():
        bound = f", {totals['roofline_us']:.0f} us by the roofline on {totals['chip']}" if totals["roofline_us"] else ""
        print(
            f"{target}: {totals['count']} kernels, {totals['fused_attention']} attentions fused, "
            f"{totals['bytes_moved'] / 1e6:.0f} MB, {totals['flops'] / 1e9:.1f} GFLOP{bound}"
        )


def _short(nodes: list[str]) -> str:
    names = [n.rpartition("/")[2] for n in nodes]
    return ", ".join(names[:3]) + (f" +{len(names) - 3}" if len(names) > 3 else "")


def _by(listed: list[dict], what: str, total: int):
    sums: dict[str, list[float]] = defaultdict(lambda: [0, 0, 0])
    for k in listed:
        for i, value in enumerate((1, k["bytes"], k["flops"])):
            sums[k[what]][i] += value
    table = ruled(what, ">kernels", ">MB", ">share", ">MFLOP")
    for name, (count, size, flops) in sorted(sums.items(), key=lambda item: -item[1][1]):
        table.add_row(name or "-", f"{count:.0f}", f"{size / 1e6:.2f}", f"{size / total:.1%}", f"{flops / 1e6:.0f}")
    return table


def model_rows() -> list[dict]:
    """Every recipe as a row of ``make list``."""
    return [
        {
            "model": r.name,
            "family": r.family,
            "parameters_m": r.published[0],
            "gflops": r.published[1],
            "input": "x".join(map(str, r.preprocessing.shape)),
            "attention_blocks": r.attention_blocks,
            "precisions": list(r.tolerances),
            "weights": r.hub,
            "paper": r.paper,
        }
        for r in registry.recipes().values()
    ]


def models() -> None:
    """The recipes as a table."""
    columns = ("model", "family", ">params M", ">GFLOPs", "input", ">attentions", "precisions", "pretrained", "paper")
    table = ruled(*columns)
    for row in model_rows():
        table.add_row(
            row["model"],
            row["family"],
            f"{row['parameters_m']:.1f}",
            f"{row['gflops']:.1f}",
            row["input"],
            str(row["attention_blocks"] or "-"),
            " ".join(row["precisions"]),
            "yes" if row["weights"] else "none published",
            row["paper"].rpartition(" ")[2],
        )
    show(table)


def tuned(request, row: dict) -> None:
    """The candidates of ``make tune``, best first, and the winner."""
    table = ruled(
        "form", ">kernels", ">fused", ">MB", ">floor us", ">score us", ">measured us", "refused",
        title=f"{choice.key(request.recipe.name, request)}, {row['compiler']}",
    )  # fmt: skip
    for form, c in sorted(row["candidates"].items(), key=lambda item: item[1].get("total_us", float("inf"))):
        if "refused" in c:
            table.add_row(form, *6 * ("",), c["refused"])
            continue
        figures = (f"{c['bytes_moved'] / 1e6:.0f}", f"{c['floor_us']:.0f}", f"{c['total_us']:.0f}")
        measured = f"{c['measured_us']:.0f}" if "measured_us" in c else "no GPU"
        table.add_row(form, str(c["kernels"]), f"{c['fused']} of {c['due']}", *figures, measured, "")
    show(table)
    print(f"winner: {row['winner']}, which make engine now uses for this model, precision, target and batch")


def findings(found: list) -> None:
    """What ``make doctor`` looked at: one line each, and what to type below those that are not well."""
    for finding in found:
        print(f"{finding.status.upper():<8} {finding.what:<12} {finding.found}")
        if finding.next:
            print(f"{'':<21} next: {finding.next}")


def explained(found: dict) -> None:
    """What each rewrite did, and what each block became."""
    table = ruled(
        "rewrite", ">matches", ">left alone", ">nodes", ">max error", ">kernels", ">fused", ">MB moved",
        title=f"{found['model']} {found['precision']} batch {found['batch']} for {', '.join(found['targets'])}; each "
        f"rewrite compared with the graph before it at batch {', '.join(map(str, found['compared_at']))}",
    )  # fmt: skip
    for row in found["steps"]:
        first = row.get("matches") is None
        error = "" if first or row["max_abs_error"] is None else f"{row['max_abs_error']:.1e}"
        nodes = "" if first else f"{row['nodes_before']} -> {row['nodes_after']}"
        counts = ("", "") if first else (str(row["matches"]), str(row["refused"] or ""))
        emitted = (str(row["kernels"]), str(row["fused_attention"]), f"{row['bytes_moved'] / 1e6:.0f}")
        table.add_row(row["rewrite"], *counts, nodes, error, *emitted)
    show(table)
    table = ruled("block", ">kernels", "what they are")
    for block, kinds in found["blocks"].items():
        table.add_row(block, str(sum(kinds.values())), ", ".join(f"{n} {kind}" for kind, n in kinds.items()))
    show(table)
