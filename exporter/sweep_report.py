"""The table of a sweep."""

from __future__ import annotations

from exporter.printing import ruled, show


def shown(found: dict) -> None:
    """One line a cell; what did not pass says why below."""
    table = ruled(
        "model", "precision", "batch", "target", "verdict", ">kernels", ">fused", ">MB moved", ">floor us",
        ">engine MB", ">cosine", ">p50 ms", ">seconds",
        title=f"{found['name']}: {len(found['cells'])} cells",
    )  # fmt: skip
    for record in found["cells"]:
        steps = record["steps"]
        engine = steps.get("engine", {}).get("figures")
        made = [""] * 6
        if engine:
            floor, cosine = engine["roofline_us"], engine["cosine"]
            made = [
                str(engine["count"]), f"{engine['fused_attention']}/{engine['attention_due']}",
                f"{engine['bytes_moved'] / 1e6:.0f}", f"{floor:.0f}" if floor else "",
                f"{engine['engine_bytes'] / 1e6:.0f}", f"{cosine:.6f}" if cosine is not None else "not run",
            ]  # fmt: skip
        timed = steps.get("bench", {}).get("figures")
        p50 = f"{timed['p50_ms']:.2f}{' noisy' if timed['noisy'] else ''} ({timed['backend']})" if timed else ""
        cell = (record["model"], record["precision"], record["batch"] or "recipe's", record["target"] or "default")
        table.add_row(*cell, record["status"], *made, p50, f"{record['seconds']:.0f}")
    show(table)
    bad = [r for r in found["cells"] if r["status"] != "passed"]
    for record in bad:
        for step, result in record["steps"].items():
            if "why" in result:
                print(f"{record['status']}: {record['cell']}: {step}: {result['why']}")
    print(f"{len(found['cells']) - len(bad)} of {len(found['cells'])} passed, {len(found['reused'])} from before")
    for name, version in found["of_other_versions"].items():
        print(f"of another version, not mixed in: {name}, made by vit-exporter {version}, was made again")
    print(f"written: {found['written']}")
