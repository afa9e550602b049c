"""``make explain``: what each rewrite did to the graph and to the kernels, and what became of each block."""

from __future__ import annotations

from collections import Counter, defaultdict

from exporter import choice, emitted, pipeline, rewriting, samples
from exporter.files import unwritable, write_json
from exporter.progress import Progress, Stage
from exporter.stages import typed
from exporter.types import Request, RewriteStep


def explain(request: Request, progress: Progress) -> dict:
    """``steps``: every rewrite that matched, with kernels and bytes of the graph after it; ``blocks``: kernels by kind.

    Each intermediate graph is typed and compiled as it is. The first step is the graph as it was exported;
    ``blocks_before`` are its kernels. Every rewrite is compared with the graph before it at the smallest, an odd and
    the largest batch of the profile (``compared_at``). ``OUT/<model>/explain.<precision>.json`` keeps all of it for
    ``make report``.
    """
    build = pipeline.prepare(request, progress, pipeline.CANONICAL)
    model = build.model("trace", "raw.onnx")
    with progress.stage("as exported") as line:
        first, names = _compiled(model, request, line)
    rows = [_row("as exported", None, first, names)]
    found = None
    batches = samples.sizes(request.batch)
    answers: list[dict] = []
    wanted = [s for s in request.recipe.rewrites if s.name not in request.without]
    for step in (*wanted, *choice.choose(request).steps(without=request.without)):
        with progress.stage(_label(step)) as line:
            line.show("ONNX Runtime, the graph beside the one before")
            once = [_once(step)]
            changed, reports = rewriting.rewrite(model, request.recipe, steps=once, answers=answers, batches=batches)
            line.summary = "no match"
            if reports[0].matches:
                model = changed
                found, names = _compiled(model, request, line)
                rows.append(_row(_label(step), reports[0], found, names))
    made = {
        "model": request.recipe.name,
        "precision": request.precision.name,
        "batch": str(request.batch),
        "backend": request.backend,
        "targets": list(request.targets),
        "stages": {name: entry.key for name, entry in build.entries.items()},
        "form": choice.choose(request).form,
        "compared_at": list(batches),
        "steps": rows,
        "blocks_before": _blocks(first.sized),
        "blocks": _blocks(found.sized) if found is not None else {},
    }
    _keep(request, made)
    return made


def _keep(request: Request, made: dict) -> None:
    home = request.out / request.recipe.folder
    try:
        home.mkdir(parents=True, exist_ok=True)
        write_json(home / f"explain.{request.precision.name}.json", made)
    except OSError as error:
        raise unwritable(home, error) from None


def _once(step: RewriteStep) -> RewriteStep:
    """The step without its due count, which was checked when the canonical graph was made."""
    return RewriteStep(step.name, None, step.options)


def _label(step: RewriteStep) -> str:
    return f"{step.name} {' '.join(step.options.values())}".strip()


def _compiled(model, request: Request, line: Stage):
    """(what the compiler emitted of the graph, its attentions' names)."""
    made, *_ = typed.make(model, request, choice.Choice(choice.CANONICAL_FORM, "as it is"), line.show)
    found = emitted.weigh(made.model, request)
    line.summary = f"{len(found.engine)} kernels"
    return found, emitted.softmaxes(made.model)


def _row(label: str, report, found, names: list[str]) -> dict:
    from exporter import kernels

    totals = kernels.totals(found.engine, found.sized, names)
    facts = {"kernels": totals.count, "fused_attention": totals.fused_attention, "bytes_moved": totals.bytes_moved}
    if report is None:
        return {"rewrite": label, **facts}
    rewrite = {k: getattr(report, k) for k in ("matches", "nodes_before", "nodes_after", "max_abs_error")}
    return {"rewrite": label, **rewrite, "refused": len(report.refused), **facts}


def _blocks(kernels) -> dict[str, dict[str, int]]:
    """How many kernels of each kind a block became."""
    made: dict[str, Counter] = defaultdict(Counter)
    for kernel in kernels:
        made[kernel.block or "-"][kernel.kind] += 1
    return {block: dict(kinds) for block, kinds in made.items()}
