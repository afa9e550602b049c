"""``make bench`` as tables on standard output."""

from __future__ import annotations

from exporter.contest import DIFFERENT
from exporter.printing import ruled, show


def shown(found: dict) -> None:
    """What was measured, the latencies, the ratios, and whether the machine was calm enough to tell."""
    height, width = found["image"]
    print(f"{found['model']} {found['precision']}, {height}x{width}: {found['says']}")
    here = found["machine"]
    threads = f", {found['threads']} threads" if found["threads"] else ""
    print(f"  machine   {here['cpu']}, {here['cores']} cores, {here['system']}, governor: {here['governor']}{threads}")
    plan = found["plan"]
    print(f"  plan      warm-up {plan['warm_up_ms']:g} ms, at least {plan['duration_s']:g} s and {plan['iterations']} "
          f"queries each, in turns; seed {found['seed']}")  # fmt: skip
    if found["built_by"] != found["tool"]:
        print(f"  OTHER VERSION: the bundle is of vit-exporter {found['built_by']}, this is {found['tool']}")
    _latencies(found)
    _ratios(found)
    for row in found["batches"]:
        for why in row["noisy"]:
            print(f"NOISY at batch {row['batch']}: {why}; measure again on a calm machine")
        for name, c in row["contenders"].items():
            if (c["difference"] or 0) > DIFFERENT:
                print(f"batch {row['batch']}: {name} answers otherwise than {row['ours']}, by {c['difference']:.1e}")
    print(f"written: {found['written']}")


def _latencies(found: dict) -> None:
    table = ruled("batch", "what", ">queries", ">min ms", ">p50", ">p90", ">p95", ">p99", ">max", ">mean", ">queries/s",
                  ">images/s", "versions")  # fmt: skip
    for row in found["batches"]:
        for name, c in row["contenders"].items():
            for quantity, t in c["milliseconds"].items():
                first = quantity == "latency"
                speed = [f"{c['queries_per_second']:.1f}", f"{c['images_per_second']:.1f}"] if first else ["", ""]
                versions = " ".join(f"{k} {v}" for k, v in c["versions"].items()) if first else ""
                numbers = (f"{t[k]:.3f}" for k in ("min", "p50", "p90", "p95", "p99", "max", "mean"))
                table.add_row(str(row["batch"]) if first else "", name if first else f"  {quantity}",
                              str(t["queries"]) if first else "", *numbers, *speed, versions)  # fmt: skip
    show(table)


def _ratios(found: dict) -> None:
    if not any(row["ratios"] for row in found["batches"]):
        return
    table = ruled("batch", "ours", "against", ">times as fast", "middle half", "95 % of the median", "so ours is")
    for row in found["batches"]:
        for name, r in row["ratios"].items():
            ends = f"{r['interval'][0]:.2f} to {r['interval'][1]:.2f}" if r["interval"] else "too few pairs"
            table.add_row(str(row["batch"]), row["ours"], name, f"{r['median']:.2f}x",
                          f"{r['low']:.2f} to {r['high']:.2f}", ends, r["verdict"])  # fmt: skip
    show(table)
