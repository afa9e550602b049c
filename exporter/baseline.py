"""ResNet-50 beside every model: the network that the papers' plots compare with (He 2016, arXiv:1512.03385).

Where the registry has a recipe ``resnet50`` it goes through the same pipeline; else torchvision's module is exported
and typed as it is, and the compiler folds its batch norms. Weights are random: a compiler does not look at them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from exporter import registry
from exporter.files import write_json
from exporter.goal import Goal
from exporter.kernels import Kernel
from exporter.progress import Progress
from exporter.stages.reference import versions
from exporter.store import key_of
from exporter.types import ModuleSpec, Preprocessing, Recipe, Request, TensorSpec

NAME = "resnet50"
STAGE = "baseline"
CODE = ("baseline", "trace", "casting", "emitted", "kernels", "layers", "flops")


@dataclass(frozen=True)
class Baseline:
    """ResNet-50's kernels at the batch of the request; ``precision`` is 16 bits beside an 8-bit model."""

    source: str
    precision: str
    batch: int
    kernels: list[Kernel]

    @property
    def flops(self) -> int:
        return sum(k.flops for k in self.kernels)


def resnet50(request: Request, progress: Progress) -> Baseline:
    """Compiled for the request's targets at its optimum batch, from the cache where it was before."""
    batch = replace(request.batch, min=request.batch.opt, max=request.batch.opt)
    asked = replace(
        request,
        recipe=_recipe(),
        precision=registry.precision(request.precision.base),
        batch=batch,
        weights="random",
        io="fp32",
        form=None,
        without=(),
        native_image=True,
        goal=Goal(),
        require_gain=False,
        allow_unfused=True,
    )
    if NAME in registry.recipes():
        return Baseline(
            "recipe resnet50", asked.precision.name, batch.opt, _by_the_pipeline(asked, Progress(quiet=True))
        )
    return Baseline("torchvision resnet50", asked.precision.name, batch.opt, _plainly(asked, progress))


def _recipe() -> Recipe:
    """The registry's own, or torchvision's module without any promise."""
    found = registry.recipes().get(NAME)
    return found or Recipe(
        name=NAME,
        family="torchvision",
        paper="He et al. 2016, arXiv:1512.03385",
        build=_module,
        preprocessing=Preprocessing((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        outputs=(TensorSpec("logits", "class scores before the softmax"),),
        published=(25.6, 4.1),
        image_multiple=32,
        rewrites=(),
    )


def _module(spec: ModuleSpec):
    from torchvision.models import resnet50

    return resnet50(num_classes=spec.classes).eval()


def _by_the_pipeline(asked: Request, progress: Progress) -> list[Kernel]:
    import json

    from exporter import pipeline

    progress.banner = lambda text: None  # of the random weights, which are meant here
    build = pipeline.prepare(asked, progress, pipeline.COMPILED)
    report = json.loads(build.file("compile", "kernels.json").read_text())
    return [Kernel.from_dict(k) for k in report["at_opt"]]


def _plainly(asked: Request, progress: Progress) -> list[Kernel]:
    import json

    from exporter import pipeline
    from exporter.backends import tensorrt

    store = pipeline.store(asked, progress.warn)
    parts = {
        "precision": asked.precision.name,
        "batch": asked.batch.opt,
        "targets": asked.targets,
        "backend": (asked.backend, tensorrt.version(asked.backend)),
        "versions": versions("torch", "torchvision", "onnx"),
        "code": [registry.source(f"exporter.{name}") for name in CODE],
    }
    with progress.stage(STAGE) as line, store.lock(f"{NAME}.{STAGE}"):
        key = key_of(parts)
        entry = store.find(STAGE, key)
        line.reused = entry is not None
        entry = entry or store.build(STAGE, key, parts, partial(_compile, asked))
        line.summary = f"torchvision's resnet50, {entry.meta['kernels']} kernels"
    return [Kernel.from_dict(k) for k in json.loads(entry.path("kernels.json").read_text())]


def _compile(asked: Request, folder) -> tuple[dict, dict]:
    import torch

    from exporter import casting, emitted, onnxio, trace

    recipe = asked.recipe
    torch.manual_seed(0)
    model = trace.export(recipe.build(ModuleSpec(recipe.preprocessing.size, recipe.classes)), recipe)
    model = casting.cast(model, asked.precision, asked.io).model
    onnxio.fix_batch(model, asked.batch.opt)
    found = emitted.weigh(model, asked)
    write_json(folder / "kernels.json", [k.as_dict() for k in found.sized])
    return {"kernels": len(found.sized)}, {}
