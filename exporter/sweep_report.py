"""The table of a sweep."""

from __future__ import annotations

from exporter.printing import ruled, show

COLUMNS = ("model", "precision", "batch", "target", "verdict", ">kernels", ">fused", ">MB moved", ">floor us",
           ">engine MB", ">cosine", ">p50 ms", ">images/s", ">seconds")  # fmt: skip


def row(record: dict) -> tuple[str, ...]:
    """The cells of one line; empty where a step left no figures."""
    steps = record["steps"]
    engine, timed = (steps.get(step, {}).get("figures") for step in ("engine", "bench"))
    made, clock = ("",) * 6, ("", "")
    if engine:
        floor, cosine = engine.get("roofline_us"), engine.get("cosine")
        made = (
            str(engine["count"]), f"{engine['fused_attention']}/{engine['attention_due']}",
            f"{engine['bytes_moved'] / 1e6:.0f}", f"{floor:.0f}" if floor else "",
            f"{engine['engine_bytes'] / 1e6:.0f}", f"{cosine:.6f}" if cosine is not None else "not run",
        )  # fmt: skip
    if timed:
        noisy = " noisy" if timed["noisy"] else ""
        clock = (f"{timed['p50_ms']:.2f}{noisy} ({timed['backend']})", f"{timed['images_per_second']:.1f}")
    asked = (record["model"], record["precision"], record["batch"] or "recipe's", record["target"] or "default")
    return (*asked, record["status"], *made, *clock, f"{record['seconds']:.0f}")


def shown(found: dict) -> None:
    """One line a cell; what did not pass says why below."""
    table = ruled(*COLUMNS, title=f"{found['name']}: {len(found['cells'])} cells")
    for record in found["cells"]:
        table.add_row(*row(record))
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
