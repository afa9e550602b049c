"""Which form an attention is given: the winner of ``make tune`` for this model, precision, target and batch.

The table ``recipes/tuned.json`` is data: what was built, what the compiler emitted and what it scored, by model,
precision, target and batch. A request that is not in it gets its model's winner at another free batch, its
family's winner, else the rule that the table shows: ``positions_planes`` where the batch is fixed; where it is
free ``positions_apart`` if the queries need no bias, else ``positions_packed``.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from exporter.types import Recipe, Request, RewriteStep

TABLE = Path(__file__).parents[1] / "recipes" / "tuned.json"
CANONICAL_FORM = "windows"
ABSORB, JOIN = "absorb_query_biases", "join_position_terms"
"""The rewrites that the forms of 16 bits have beside their own."""
APART = "positions_apart"


@dataclass(frozen=True)
class Choice:
    """A form (``+`` a rewrite that follows it) and why it was chosen.

    ``compiler`` is the version that the table was made with, '' for a rule. ``balanced`` as
    :mod:`exporter.rewrites.attention_form` has it.
    """

    form: str
    why: str
    compiler: str = ""
    balanced: bool = False

    def stale(self, backend: str) -> str:
        """A sentence where the table was made with another compiler than the one that will read the graph, or ''."""
        from exporter.backends import tensorrt

        here = f"{backend} {tensorrt.version(backend)}"
        if not self.compiler or self.compiler == here:
            return ""
        return f"attention was tuned with {self.compiler}, this is {here}: the table is stale; make tune renews it"

    def steps(self, unbiased: int | None = None, without: Collection[str] = ()) -> tuple[RewriteStep, ...]:
        """The rewrites that turn the canonical graph into this form; ``unbiased`` as the recipe has it.

        ``without`` may leave out ABSORB and JOIN; the form itself and the order of its rows are ``FORM=``'s. Where any
        rewrite is left out no count is due.
        """
        form, *variants = self.form.split("+")
        further = tuple(map(RewriteStep, variants))
        if form == CANONICAL_FORM:
            return further
        steps = (
            RewriteStep(ABSORB, None if without else unbiased),
            RewriteStep("attention_form", options={"form": form} | ({"balanced": True} if self.balanced else {})),
            RewriteStep(JOIN),
            RewriteStep("cancel_permutations"),
            *further,
        )
        return tuple(step for step in steps if step.name not in {ABSORB, JOIN}.intersection(without))


def choose(request: Request) -> Choice:
    """The form for this request; in 8 bits it is that of the 16 bits around them, but for ``positions_apart``.

    The compiler puts three products together only where they are of 16 bits: ViT digits, INT8, sm80, batch 32, has 44
    kernels with three and 36 with planes; with a free batch it has 56, 60 with planes, and 40 with one packed product.
    """
    found = _choose(request)
    if not request.precision.quantized:
        return found
    found = replace(found, balanced=True)
    if request.form is None and found.form.startswith(APART):
        other = "positions_planes" if request.batch.static else "positions_packed"
        return replace(found, form=found.form.replace(APART, other), why=f"{found.why}, {other} in 8 bits")
    return found


def _choose(request: Request) -> Choice:
    if request.form is not None:
        return Choice(request.form, "asked for")
    recipe = request.recipe
    if recipe.attention_blocks == 0:
        return Choice(CANONICAL_FORM, "there is no attention")
    for whose, names in (("this model", {recipe.name}), ("its family", _family(recipe))):
        row, elsewhere = _row(request, names)
        if row is not None:
            return Choice(row["winner"], f"tuned for {whose}{elsewhere}", row["compiler"])
    if request.precision.element_type == "float32":
        return Choice(CANONICAL_FORM, "no fused attention in FP32")
    free = APART if recipe.unbiased else "positions_packed"
    return Choice("positions_planes" if request.batch.static else free, "by rule")


def key(model: str, request: Request) -> str:
    """A row's key: ``swin_t fp16 sm80 batch 1:8:32``; the kernels are the same for all targets of one build.

    An 8-bit precision takes the form of the 16-bit one around it.
    """
    return f"{model} {request.precision.base} {request.targets[0]} batch {request.batch}"


def _family(recipe: Recipe) -> set[str]:
    from exporter import registry

    return {r.name for r in registry.recipes().values() if r.family == recipe.family}


def _row(request: Request, names: set[str]) -> tuple[dict | None, str]:
    """(the first row of these models for the request, ''), or one for another free batch and a word of that.

    Of a fixed batch the size matters, so a row of another one tells nothing.
    """
    kind, _, batch = key("", request).strip().rpartition(" ")
    rows: dict[str, dict] = {}
    for name, row in read().items():
        model, _, rest = name.partition(" ")
        if model in names and rest.rpartition(" ")[0] == kind:
            rows.setdefault(rest.rpartition(" ")[2], row)
    if batch in rows or request.batch.static:
        return rows.get(batch), ""
    return next(((row, f" at batch {other}") for other, row in rows.items() if ":" in other), (None, ""))


def read() -> dict[str, dict]:
    """The table; empty where there is none yet."""
    try:
        return json.loads(TABLE.read_text())
    except FileNotFoundError:
        return {}
