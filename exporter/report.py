"""``make report``: one HTML file that says what was built of a model, how faithful it is and what it is made of.

It is made from what is in OUT and runs nothing; ``depth`` measures the error block by block first, where nobody did.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from exporter import registry
from exporter.errors import UsageError, nearest
from exporter.files import unwritable, write_atomically
from exporter.progress import Progress
from exporter.reporting import published, verdicts

FILE = "report.html"
ALL = "all"


def report(
    model: str,
    out: Path,
    progress: Progress,
    *,
    precisions: Collection[str] = (),
    depth: bool = False,
    weights: str | None = None,
    images: str | None = None,
) -> dict[str, Any]:
    """Write ``out/<model>/report.html``; returns its path, its bytes and the verdicts.

    ``precisions``: only those; none means all. ``weights`` and ``images`` are where those of the builds are now, if
    not where the manifests say. Raises :class:`UsageError` where there is nothing to report on.
    """
    home = folder(out, model)
    bundles, unread = published.find(out, model, precisions)
    for bundle in unread:
        progress.warn(f"{model}/{bundle.name} is not in the report: {bundle.why}")
    from exporter.reporting import inputs, page  # numpy and jinja2, not needed for an error

    words = inputs.Words(weights, images)
    if depth:
        from exporter.reporting import depth as measure

        for bundle in bundles:
            measure.bring(out, bundle, words, progress)
        bundles, unread = published.find(out, model, precisions)
    with progress.stage("report") as line:
        line.show("plots and tables")
        raw = page.render(out, model, bundles, unread, words).encode(errors="replace")
        try:
            write_atomically(home / FILE, raw)
        except OSError as error:
            raise unwritable(home, error) from None
        line.summary = f"{home / FILE}, {len(raw) / 1e3:.0f} kB"
    said = {b.name: verdicts.of(b) for b in (*bundles, *unread)}
    return {
        "model": model,
        "report": str(home / FILE),
        "bytes": len(raw),
        "verdicts": {name: {"verdict": v.label, "why": v.line} for name, v in said.items()},
        "random_weights": sorted(name for names in verdicts.randomness(bundles).values() for name in names),
    }


def folder(out: Path, model: str) -> Path:
    """Where a model's bundles lie; :class:`UsageError` for a name that is no model's and has no bundles."""
    home = out / registry.folder(model)
    if not home.is_dir():
        registry.recipe(model)
    return home


def parse_precisions(text: str, out: Path, model: str) -> tuple[str, ...]:
    """``all`` -> (); ``fp16,bf16`` -> those, each a precision or a bundle that is there."""
    names = tuple(dict.fromkeys(n.strip().lower() for n in text.split(",") if n.strip()))
    if names == (ALL,):
        return ()
    for name in names:
        if name not in registry.precisions() and not (out / registry.folder(model) / name).is_dir():
            known = [ALL, *registry.precisions()]
            raise UsageError(
                f"there is no precision {name!r}",
                found=name,
                expected=", ".join(known),
                next=f"PRECISION={nearest(name, known).split(', ')[0]}",
            )
    if not names:
        raise UsageError("PRECISION is empty", found=repr(text), expected="all, or precisions", next="PRECISION=all")
    return names


def show(found: dict[str, Any]) -> None:
    """The verdicts, then where the report is."""
    for name, verdict in found["verdicts"].items():
        print(f"{verdict['verdict'].upper()}  {found['model']} {name}")
        print(f"  {verdict['why']}")
    if found["random_weights"]:
        print(f"RANDOM WEIGHTS: {', '.join(found['random_weights'])}")
    print(f"report: {found['report']} ({found['bytes'] / 1e3:.0f} kB)")
