"""From the words of the command line to a checked :class:`exporter.types.Request`, before anything is done.

Everything that can be refused without work is refused here, with the reason and what to type instead.
"""

from __future__ import annotations

import os
from pathlib import Path

from exporter import choice, eviction, goal, registry, targets
from exporter.backends import tensorrt
from exporter.errors import UsageError, nearest
from exporter.files import unwritable
from exporter.remote import is_url
from exporter.types import Batch, Precision, Recipe, Request

LARGEST_BATCH = 4096
LARGEST_IMAGE = 2048

FORMS = ("windows", "windows_packed", "windows_operator", "positions_packed", "positions_planes", "positions_apart")
"""What :mod:`exporter.forms` can write, by name, known here without importing numpy."""

VARIANTS = ("pad_keys", "slice_permutations")
"""Rewrites that any form can be followed by: ``positions_planes+pad_keys``."""


def parse(
    model: str,
    precision: str = "fp16",
    *,
    batch: str | None = None,
    target: str | None = None,
    backend: str = "tensorrt-rtx",
    weights: str = "auto",
    image: str | None = None,
    io: str = "fp32",
    out: str = "build",
    images: str | None = None,
    allow_unfused: bool = False,
    without: str = "",
    form: str | None = None,
    calib: str | None = None,
    calib_images: str | int = 512,
    observer: str = "mse",
    max_drop: str | float | None = None,
    min_top1_agreement: str | float | None = None,
    max_error: str | float | None = None,
    require_gain: bool = False,
    cache_limit: str | None = None,
    cache: str | None = None,
    command: str = "",
) -> Request:
    """Check every word; raises :class:`UsageError` for the first one that cannot be served."""
    recipe = registry.recipe(model)
    kind = registry.precision(precision)
    try:
        return Request(
            recipe=parse_image(recipe, image),
            precision=kind,
            batch=parse_batch(batch, recipe),
            targets=targets.parse(target, parse_backend(backend), kind),
            backend=backend,
            weights=weights,
            io=parse_io(io, kind),
            out=parse_out(out),
            native_image=image is None or parse_image(recipe, image) == recipe,
            images=Path(os.path.expanduser(images)) if images else None,
            allow_unfused=allow_unfused,
            without=parse_without(without, recipe),
            form=parse_form(form),
            calib=parse_calib(calib),
            calib_images=parse_calib_images(calib_images),
            observer=parse_observer(observer),
            goal=goal.parse(max_drop, min_top1_agreement, max_error),
            require_gain=require_gain,
            cache_limit=eviction.parse_limit(cache_limit),
            cache=parse_cache(cache),
            command=command,
        )
    except UsageError as error:
        error.model = error.model or recipe.name
        raise


def parse_batch(text: str | None, recipe: Recipe) -> Batch:
    """``8`` -> a static batch, ``1:8:32`` -> min, opt and max of the profile; None is the recipe's own."""
    if text is None:
        return recipe.batch
    parts = text.split(":")
    hint = f"BATCH=8   or   BATCH={recipe.batch}"
    try:
        numbers = [int(p.replace("_", "?")) for p in parts]  # Python reads 1_0 as 10
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3):
        raise UsageError("BATCH cannot be read", found=text, expected="N (static) or MIN:OPT:MAX, in images", next=hint)
    batch = Batch(*(numbers * 3 if len(numbers) == 1 else numbers))
    if batch.min < 1 or batch.max > LARGEST_BATCH:
        raise UsageError("BATCH is out of range", found=text, expected=f"1 to {LARGEST_BATCH} images", next=hint)
    if not batch.min <= batch.opt <= batch.max:
        raise UsageError("BATCH is not in order", found=text, expected="MIN <= OPT <= MAX", next=hint)
    return batch


def parse_image(recipe: Recipe, text: str | None) -> Recipe:
    """The recipe at ``224`` or ``320x256`` (height x width) pixels."""
    own = recipe.preprocessing.size
    if text is None:
        return recipe
    try:
        sizes = tuple(int(n) for n in text.lower().split("x"))
    except ValueError:
        sizes = ()
    hint = f"IMAGE={own[0]}"
    if len(sizes) not in (1, 2):
        raise UsageError("IMAGE cannot be read", found=text, expected="a size in pixels, or HEIGHTxWIDTH", next=hint)
    size = (sizes[0], sizes[-1])
    if size == own:
        return recipe
    if recipe.fixed_image:
        raise UsageError(
            "this model takes one image size only: the number of tokens is a weight's shape",
            found=text,
            expected=f"{own[0]}x{own[1]}",
            next=hint,
        )
    step = recipe.image_multiple
    if any(n < step or n > LARGEST_IMAGE or n % step for n in size):
        raise UsageError(
            "the model cannot take this image size",
            found=f"{size[0]}x{size[1]}",
            expected=f"multiples of {step} from {step} to {LARGEST_IMAGE}",
            next=f"IMAGE={min(max(round(size[0] / step), 1) * step, LARGEST_IMAGE // step * step)}",
        )
    return recipe.at(size)


def parse_backend(name: str) -> str:
    if name not in tensorrt.MODULES:
        raise UsageError(
            f"there is no backend {name!r}",
            found=name,
            expected=", ".join(tensorrt.MODULES),
            next="make blame ONNX=<file> judges a graph in ONNX Runtime; BACKEND=tensorrt-rtx builds an engine"
            if name.lower() in ("onnx", "onnxruntime", "ort")
            else f"BACKEND={nearest(name, tensorrt.MODULES).split(', ')[0]}",
        )
    return name


def parse_io(text: str, precision: Precision) -> str:
    """``fp32``, or the precision's own 16-bit type."""
    allowed = ["fp32"] + ([precision.base] if precision.element_type != "float32" else [])
    if text not in allowed:
        raise UsageError(
            f"inputs and outputs cannot be {text or 'empty'} at precision {precision.name}",
            found=text,
            expected=" or ".join(allowed),
            next=f"IO={allowed[-1]}",
        )
    return text


def parse_without(text: str, recipe: Recipe) -> tuple[str, ...]:
    """Rewrites to leave out, comma-separated."""
    known = [*(step.name for step in recipe.rewrites), choice.ABSORB, choice.JOIN]
    names = tuple(n.strip() for n in text.split(",") if n.strip())
    for name in names:
        if name not in known:
            raise UsageError(
                f"there is no rewrite {name!r} in its recipe",
                found=name,
                expected=", ".join(known),
                next=f"WITHOUT={nearest(name, known).split(', ')[0]}",
            )
    return names


def parse_form(name: str | None) -> str | None:
    """A form of attention by name, with variants after a ``+`` each; None is the tuned one."""
    if name is None:
        return None
    form, *variants = name.split("+")
    wrong = [(form, FORMS)] if form not in FORMS else [(v, VARIANTS) for v in variants if v not in VARIANTS]
    for word, known in wrong:
        what = "form" if known is FORMS else "variant of a form"
        raise UsageError(
            f"there is no {what} of attention {word!r}",
            found=name,
            expected=", ".join(known),
            next=f"FORM={form + '+' if known is VARIANTS else ''}{nearest(word, known).split(', ')[0]}",
        )
    if len(set(variants)) < len(variants):
        raise UsageError(
            "a form has each of its variants once", found=name, expected=", ".join(VARIANTS), next=f"FORM={form}"
        )
    return "+".join([form, *(v for v in VARIANTS if v in variants)])


OBSERVERS = ("minmax", "percentile", "entropy", "mse")
"""The methods of :mod:`calibration.observers`, known here without importing numpy."""


def parse_calib(text: str | None) -> Path | None:
    """A folder of images, or an array of them (.npy, .npz)."""
    if not text:
        return None
    path = Path(os.path.expanduser(text))
    if not os.path.exists(path):
        raise UsageError(
            f"the calibration images {text} do not exist",
            found="no such file or folder",
            expected="a folder of images, or a .npy or .npz file of preprocessed ones",
            next="CALIB=<folder>",
        )
    return path


def parse_calib_images(text: str | int) -> int:
    """How many images to calibrate on."""
    try:
        count = int(text)
    except ValueError:
        count = 0
    if not 1 <= count <= 1_000_000:
        raise UsageError(
            "CALIB_IMAGES is out of range", found=text, expected="1 to 1000000 images", next="CALIB_IMAGES=512"
        )
    return count


def parse_observer(name: str) -> str:
    """How clipping ranges are chosen."""
    if name not in OBSERVERS:
        raise UsageError(
            f"there is no observer {name!r}",
            found=name,
            expected=", ".join(OBSERVERS),
            next=f"OBSERVER={nearest(name, OBSERVERS).split(', ')[0]}",
        )
    return name


def parse_out(text: str) -> Path:
    """The folder for bundles and cache."""
    if not text.strip():
        raise UsageError("OUT is empty", found=repr(text), expected="a folder", next="OUT=build")
    return writable(Path(text))


def parse_cache(text: str | None) -> str | None:
    """The folder or address of a cache; a folder must be one that this user may write."""
    if not text:
        return None
    return text if is_url(text) else str(writable(Path(os.path.expanduser(text))))


def writable(out: Path) -> Path:
    """``out`` if a file can be made in it or where it will be made; nothing is created."""
    existing = out
    while not os.path.exists(existing) and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise unwritable(out, NotADirectoryError(20, f"{existing} is a file"))
    if not os.access(existing, os.W_OK | os.X_OK):
        raise unwritable(out, PermissionError(13, f"{existing} is read-only for this user"))
    return out
