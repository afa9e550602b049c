"""``make why``: which stages of a build would be reused, which made again, and what changed in their keys.

Nothing is built. A stage's key is the hash of its parts; they are compared with those of the latest cached entry of the
same stage and model. Behind a stage that must be made again the keys are not known yet: there only the parts of the
stage's own are compared.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exporter import pipeline
from exporter.build import Build
from exporter.store import ENTRY, key_of
from exporter.types import Request

REUSED, MADE = "reused", "made"
BEHIND = "what it is made from is made again"


def why(request: Request, warn=lambda text: None) -> list[dict[str, Any]]:
    """A row a stage: ``stage``, ``status``, ``key`` (None where it is not known yet), ``changed`` and ``seconds``.

    ``changed`` maps the parts that differ from the latest entry to (then, now); ``seconds`` are what that entry took.
    """
    build = Build(request, pipeline.store(request, warn))
    rows = []
    for stage in pipeline.STAGES:
        if getattr(stage, "wanted", lambda request: True)(request):
            rows.append(_row(stage, build))
    return rows


def _row(stage, build: Build) -> dict[str, Any]:
    missing = [name for name in stage.NEEDS if name in _of(build.request) and name not in build.entries]
    try:
        parts = pipeline.parts_of(stage, build)
    except (KeyError, AttributeError):  # it asks an entry that is not there yet
        return {"stage": stage.NAME, "status": MADE, "key": None, "changed": {"needs": [BEHIND, ", ".join(missing)]},
                "seconds": None}  # fmt: skip
    key = None if missing else key_of(parts)
    entry = build.store.find(stage.NAME, key) if key else None
    if entry is not None:
        build.entries[stage.NAME] = entry
        return {"stage": stage.NAME, "status": REUSED, "key": key, "changed": {}, "seconds": entry.seconds}
    then = latest(build.store.root / stage.NAME, pipeline.explained(parts))
    changed = _changed(then["parts"], pipeline.explained(parts), missing) if then else {"all": ["no entry yet", ""]}
    return {"stage": stage.NAME, "status": MADE, "key": key, "changed": changed,
            "seconds": then["seconds"] if then else None}  # fmt: skip


def _of(request: Request) -> list[str]:
    """The stages of this build."""
    return [s.NAME for s in pipeline.STAGES if getattr(s, "wanted", lambda request: True)(request)]


def latest(folder: Path, parts: dict) -> dict | None:
    """The record of the newest entry of a stage, of the same model where the parts tell; None where there is none."""
    best: tuple[tuple, dict] | None = None
    for file in folder.glob(f"*/{ENTRY}"):
        try:
            record = json.loads(file.read_text())
            same = sum(record["parts"].get(key) == value for key, value in parts.items())
            rank = (record["parts"].get("name") == parts.get("name"), same, file.stat().st_mtime)
        except (OSError, ValueError, KeyError, AttributeError):
            continue
        if best is None or rank > best[0]:
            best = (rank, record)
    return best[1] if best else None


def _changed(then: dict, now: dict, missing: Sequence[str]) -> dict[str, list]:
    """The parts that differ, as [then, now]; of a part that holds several, each by its name."""
    found = {}
    for key in sorted(then.keys() | now.keys()):
        if key == "needs":
            if missing:
                found[key] = [BEHIND, ", ".join(missing)]
            elif then.get(key) != now.get(key):
                found[key] = ["another entry", "was made of what it needs"]
        elif isinstance(then.get(key), dict) and isinstance(now.get(key), dict):
            inner = {k for k in then[key].keys() | now[key].keys() if then[key].get(k) != now[key].get(k)}
            found |= {f"{key}: {k}": [_short(then[key].get(k)), _short(now[key].get(k))] for k in sorted(inner)}
        elif then.get(key) != now.get(key):
            found[key] = [_short(then.get(key)), _short(now.get(key))]
    return found or {"nothing": ["the entry is gone", ""]}


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    if text.startswith("sha256:"):
        return text[:19]
    return text if len(text) <= 60 else f"{text[:57]}..."


def seconds(rows: Sequence[dict]) -> float:
    """What the stages that must be made again took the last time."""
    return sum(row["seconds"] or 0.0 for row in rows if row["status"] == MADE)
