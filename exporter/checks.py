"""The checks that decide whether a build passed: parity, the fusion contract, and what eight bits gain if asked."""

from __future__ import annotations

import json

from exporter import ladder
from exporter.build import Build
from exporter.errors import CheckFailed


def failed(build: Build) -> tuple[CheckFailed, ...]:
    """The checks that this build fails: comparisons outside their tolerance, and the fusion contract."""
    blame = f"make blame MODEL={build.recipe.name} PRECISION={build.request.precision.name} names the block"
    failures = [
        CheckFailed(
            f"{name} disagree",
            model=build.recipe.name,
            stage="parity",
            found=rung["why"],
            expected="every output of every batch inside its tolerance",
            next=blame,
        )
        for name, rung in ladder.rungs(build).items()
        if rung["status"] == "failed"
    ]
    if (unfused := fusion_failure(build)) and not build.request.allow_unfused:
        failures.append(unfused)
    if build.request.require_gain and (loss := no_gain(build)):
        failures.append(loss)
    return tuple(failures)


def fusion_failure(build: Build) -> CheckFailed | None:
    """The fusion contract: how many attention blocks the recipe says lie in one kernel each, FP32 islands aside."""
    from exporter.naming import block_of, part_of, path_of
    from exporter.stages import islands

    precision = build.request.precision
    due = build.recipe.fused_attention.get(precision.name, build.recipe.fused_attention.get(precision.base, 0))
    meta, wide = build.entries["compile"].meta, islands.kept(build)
    places = {name: (block_of(path_of(name)), part_of(path_of(name))) for name in meta["unfused_attention"]}
    unfused = [name for name, place in places.items() if wide.isdisjoint(place)]
    due -= len(places) - len(unfused)  # the compiler fuses no attention in FP32
    if len(meta["fused_attention"]) >= due:
        return None
    blocks = list(dict.fromkeys(places[name][0] for name in unfused))
    report = json.loads(build.file("compile", "kernels.json").read_text())
    kernels = [k["name"] for k in report["kernels"] if set(k["nodes"]) & set(unfused)]
    return CheckFailed(
        "the compiler did not fuse the attention that the recipe says it fuses",
        model=build.recipe.name,
        stage="compile",
        found=f"{len(meta['fused_attention'])} fused; not {', '.join(blocks[:4])}: {', '.join(kernels[:4])}",
        expected=f"{due} attention blocks in one kernel each, the contract of the family {build.recipe.family}",
        next=f"make kernels MODEL={build.recipe.name} PRECISION={build.request.precision.name} ALLOW_UNFUSED=1",
    )


def no_gain(build: Build) -> CheckFailed | None:
    """An 8-bit engine that the compiler's kernels make no faster than the 16-bit one of the same batch and target."""
    if "place" not in build.entries:
        return None
    meta, request = build.entries["place"].meta, build.request
    if meta["gain"] > 1.0:
        return None
    return CheckFailed(
        f"{request.precision.name} is not faster than {meta['base']}",
        model=build.recipe.name,
        stage="place",
        found=f"{meta['gain']:.2f}x at batch {meta['batch']} on {request.targets[0]}, by the compiler's kernels",
        expected="more than 1x",
        next=f"make engine MODEL={build.recipe.name} PRECISION={meta['base']}",
    )
