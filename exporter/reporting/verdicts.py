"""What may be said of a bundle: passed only for what was executed, and for everything else why not."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.reporting.published import Published, Unread

PASSED, FAILED, NOT_RUN, UNREAD = "passed", "failed", "not run", "not read"
ENGINE = "typed/engine"
"""The comparison that runs the engine itself."""


@dataclass(frozen=True)
class Part:
    """One fact: ``status`` of ``what``, and ``why``."""

    status: str
    what: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.what} {self.status}" + (f": {self.why}" if self.why else "")


@dataclass(frozen=True)
class Verdict:
    """``status`` is ``failed`` if any part is, ``passed`` if any part was executed and passed; ``line`` says which."""

    name: str
    status: str
    parts: tuple[Part, ...]

    @property
    def badges(self) -> tuple[tuple[str, str], ...]:
        """(status, a few words) for each: ``failed`` first, and never ``passed`` for what was not executed."""
        if self.status in (FAILED, UNREAD):
            return ((self.status, self.status),)
        return tuple((p.status, f"{p.what} {p.status}") for p in self.parts if p.what in ("graph", "engine"))

    @property
    def label(self) -> str:
        """The badges' words."""
        return ", ".join(words for _, words in self.badges)

    @property
    def line(self) -> str:
        """All parts in one line, what failed first."""
        return "; ".join(map(str, self.parts))


def of(bundle: Published | Unread) -> Verdict:
    """The verdict on one bundle."""
    if isinstance(bundle, Unread):
        return Verdict(bundle.name, UNREAD, (Part(UNREAD, "bundle", bundle.why),))
    manifest = bundle.manifest
    rungs = manifest["parity"]
    parts = [Part(FAILED, name, rung["why"]) for name, rung in rungs.items() if rung["status"] == FAILED]
    named = {f"{part.what} disagree" for part in parts}
    parts += [Part(FAILED, "check", _reason(f)) for f in manifest["failures"] if f["what"] not in named]
    if not parts and (manifest["status"] == FAILED or bundle.failed):
        parts.append(Part(FAILED, "build", "the bundle does not say why"))
    ran = [name for name, rung in rungs.items() if rung["status"] == PASSED and name != ENGINE]
    what = "other comparisons" if any(rung["status"] == FAILED for rung in rungs.values()) else "graph"
    parts += [Part(PASSED, what, ", ".join(ran))] if ran else []
    parts += _engine(rungs)
    others = {n: r["why"] for n, r in rungs.items() if r["status"] not in (PASSED, FAILED) and n != ENGINE}
    parts += [Part(NOT_RUN, name, why) for name, why in others.items()]
    statuses = {part.status for part in parts}
    status = next((s for s in (FAILED, PASSED) if s in statuses), NOT_RUN)
    return Verdict(bundle.name, status, tuple(dict.fromkeys(parts)))


def _engine(rungs: dict) -> list[Part]:
    """What is known of the engine itself; nothing where it failed, which was said already."""
    rung = rungs.get(ENGINE)
    if rung is None:
        return [Part(NOT_RUN, "engine", "no comparison with the engine was made")]
    if rung["status"] == FAILED:
        return []
    if rung["status"] == PASSED:
        return [Part(PASSED, "engine", ENGINE)]
    return [Part(NOT_RUN, "engine", rung["why"] or "no reason was recorded")]


def _reason(failure: dict) -> str:
    return failure["what"] + (f" ({failure['found']})" if failure.get("found") else "")


def randomness(bundles: list[Published]) -> dict[str, list[str]]:
    """Why weights are random, and the bundles' names whose weights are."""
    found: dict[str, list[str]] = {}
    for b in bundles:
        if b.manifest["weights"]["kind"] == "random":
            found.setdefault(str(b.manifest["weights"].get("why", "")), []).append(b.name)
    return found


def cautions(bundle: Published) -> list[str]:
    """What a reader of the verdict must know besides: allowances, what was left out, files that cannot be read."""
    manifest = bundle.manifest
    said = list(bundle.problems)
    if manifest.get("unfused_allowed"):
        said.append(f"attentions that are not fused: {len(manifest['unfused_attention'])}; the request allowed that")
    said += manifest["weights"].get("resampled") or []
    if manifest["without"]:
        said.append(f"built without the rewrites {', '.join(manifest['without'])}")
    if manifest["near_the_limit"]:
        count = len(manifest["near_the_limit"])
        said.append(f"tensors near the limit of the type: {count}, listed below")
    return said
