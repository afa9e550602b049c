"""What ``make blame`` prints: the verdict first, then the evidence."""

from __future__ import annotations

from exporter.printing import ruled, show

SHOWN = 8
"""Units in a table."""


def blamed(found: dict) -> None:
    """The verdict first, then the rungs, then the units that add the most."""
    guilty = found["guilty"]
    subject = found["onnx"] or f"{found['model']} {found['precision']}"
    failed = [name for name, rung in found["rungs"].items() if rung["status"] == "failed"]
    if guilty:
        print(f"GUILTY  {guilty['unit']}  ({guilty['rung']}, {subject})")
        print(f"  {guilty['diagnosis']}")
    elif failed:
        print(f"FAILED  {', '.join(failed)}: no unit adds more than rounding does, the error accumulates")
    else:
        print(f"NOBODY  {subject}: no unit of the network adds more than rounding explains")
    if guilty and guilty.get("node"):
        print(f"  at {guilty['operator']} {guilty['node']}")
    if guilty and "own" in guilty:
        errors = {key: f"{float(guilty[key]):.1e}" for key in ("entering", "leaving", "own")}
        print(f"  error entering {errors['entering']}, leaving {errors['leaving']}, its own {errors['own']}")
    if guilty and guilty.get("range"):
        r = guilty["range"]
        print(
            f"  values: amax {r['amax']:.3g}; {r['above']:.2%} beyond {r['element_type']}, {r['below']:.2%} subnormal; "
            f"{r['nan']} NaN, {r['inf']} Inf"
        )
    for remark in found["remarks"]:
        print(f"  remark: {remark}")
    for name, rung in found["rungs"].items():
        if rung["status"] == "not run":
            print(f"  {name}: not run: {rung['why']}")
            continue
        print(f"  {name}: {rung['status']}" + (f": {rung['why']}" if rung["why"] else f", units known by {rung['by']}"))
    for name, rung in found["rungs"].items():
        here = [u for u in rung.get("units", ()) if u["tensor"]]
        if guilty and guilty["rung"] == name:
            _units(f"{name}: up to the fault", _before(rung["units"], guilty["seen_at"]))
        elif here:
            _units(f"{name}: who adds the most", sorted(here, key=lambda u: -float(u["own"]))[:SHOWN])


def _before(units: list[dict], last: str) -> list[dict]:
    """The units that were compared before ``last`` and itself."""
    place = next((i for i, u in enumerate(units) if u["unit"] == last), len(units) - 1)
    return [*[u for u in units[:place] if u["tensor"]][-SHOWN:], units[place]]


def _units(title: str, units: list[dict]) -> None:
    table = ruled("unit", "operator", ">entering", ">leaving", ">own", title=title)
    for u in units:
        errors = [f"{float(u[k]):.1e}" if k in u else "-" for k in ("entering", "leaving", "own")]
        table.add_row(u["unit"], u["operator"] or "not found", *errors)
    show(table)
