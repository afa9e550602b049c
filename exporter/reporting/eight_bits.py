"""What 8 bits gained and what they cost: the compiler's candidates beside the 16-bit base, and the search for a budget.

Every figure is one that the stages ``calibrate`` and ``place`` left in the manifest; nothing is judged anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from exporter.reporting.published import Published
from exporter.reporting.tables import Table, number
from exporter.stages.place import WITHIN

CANDIDATES = ("graph", ">us by kernels", ">floor us", ">kernels", ">MB moved", "fused attention", "verdict")
SEARCH = (">blocks in 16 bits", "taken back last", ">points of top-1 lost", ">largest error", ">us saved",
          ">error of that block")  # fmt: skip


@dataclass(frozen=True)
class EightBits:
    """One bundle of an 8-bit precision. ``line`` is the verdict on its gain, ``facts`` how it came about."""

    name: str
    line: str
    pays: bool
    facts: tuple[str, ...]
    candidates: Table
    search: Table | None
    left: Table | None


def of(bundles: Sequence[Published]) -> list[EightBits]:
    """Those of ``bundles`` that were measured against a 16-bit engine."""
    return [_one(b) for b in bundles if b.manifest.get("against_base")]


def _one(bundle: Published) -> EightBits:
    manifest, found = bundle.manifest, bundle.manifest["against_base"]
    gain, pays = float(found["gain"]), float(found["gain"]) > 1.0
    line = f"{gain:.2f}x {found['base']} at batch {found['batch']}, by launches and floors of the compiler's kernels"
    if not pays:
        line = f"not faster: {line}; PRECISION={found['base']} is better here"
    left = manifest.get("left_in_16_bit") or {}
    return EightBits(bundle.name, line, pays, _facts(manifest), _candidates(bundle, found), _search(bundle, found),
                     Table(f"{bundle.name}: products left in 16 bits", ("node", "why"), list(left.items()))
                     if left else None)  # fmt: skip


def _facts(manifest: dict) -> tuple[str, ...]:
    said = [f"{len(manifest.get('quantized') or [])} products in 8 bits"]
    if how := manifest.get("calibration"):
        skipped = f", {how['skipped']} files skipped" if how["skipped"] else ""
        said.append(f"calibrated on {how['images']} images of {how['source']} ({how['method']}{skipped})")
    return tuple(said)


def _candidates(bundle: Published, found: dict) -> Table:
    built = WITHIN if found["left"] else found["winner"]
    rows = []
    for name, row in found["rows"].items():
        verdict = "built" if name == built else "to compare with" if name == found["base"] else "slower"
        if "refused" in row:
            rows.append((name, "", "", "", "", "", f"refused by the compiler: {row['refused']}"))
            continue
        figures = (number(row["total_us"], ".0f"), number(row["floor_us"], ".0f"), str(row["kernels"]))
        fused = f"{row['fused']} of {row['due']}" if row["due"] else "none there"
        rows.append((name, *figures, number(row["bytes_moved"] / 1e6, ".0f"), fused, verdict))
    return Table(f"{bundle.name}: what the compiler made of each candidate", CANDIDATES, rows)


def _search(bundle: Published, found: dict) -> Table | None:
    if not found["search"]:
        return None
    rows = [
        (str(len(row["left"])), row["left"][-1] if row["left"] else "", number(row["drop"], ".2f"),
         number(row["relative_max"]), number(row["saved_us"], ".0f"), number(row.get("own")))
        for row in found["search"]
    ]  # fmt: skip
    return Table(f"{bundle.name}: blocks back to 16 bits until {found['goal']} holds", SEARCH, rows)
