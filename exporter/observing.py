"""Activation ranges over many images, streamed: what each channel reached, then a histogram of each tensor.

Reductions and samples are taken inside ONNX Runtime, beside each tensor, so that no tensor ever leaves it whole: a
Swin-B has 200 MB of them an image. Of a tensor with many elements every k-th is counted, k without a common factor
with its channels, so that all of them are seen.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from math import gcd, prod

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from calibration import observers
from exporter import onnxio
from exporter.errors import UsageError
from exporter.shapes import infer

BATCH = 8
SAMPLE = 1 << 15
"""Elements of a tensor and image that are counted, about."""


def batches(rows: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """(n, 3, H, W) with n up to ``BATCH``, from single images."""
    pending: list[np.ndarray] = []
    for row in rows:
        pending.append(row)
        if len(pending) == BATCH:
            yield np.stack(pending)
            pending = []
    if pending:
        yield np.stack(pending)


def channels(
    model: onnx.ModelProto,
    names: Iterable[str],
    images: Iterable[np.ndarray],
    note: Callable[[int], None],
    rows: Container[str] = (),
) -> dict[str, np.ndarray]:
    """(C,) the largest absolute value of each channel of every tensor in ``names``, over all images.

    Channels are on the last axis, of the tensors in ``rows`` on the last but one.

    Raises :class:`UsageError` naming the tensor where a value is not finite, and where there is no image.
    """
    names = list(dict.fromkeys(names))
    ranks = {name: len(shape) for name, shape in infer(model, 1).shapes.items() if shape is not None}
    found: dict[str, np.ndarray] = {}
    probe = _Probe(model)
    for name in names:
        axes = np.delete(np.arange(ranks[name]), -2 if name in rows else -1)
        probe.after(
            name,
            helper.make_node("Abs", [name], [f"{name}/abs"]),
            helper.make_node("ReduceMax", [f"{name}/abs", probe.constant(axes)], [f"{name}/channels"], keepdims=0),
        )
    for made in probe.run(images, note):
        for name, values in made.items():
            found[name] = np.maximum(found[name], values) if name in found else values
    if not found:
        raise UsageError(
            "there is nothing to calibrate on",
            stage="calibrate",
            found="no images",
            expected="at least one",
            next="CALIB=<folder>",
        )
    for name, values in found.items():
        if not np.isfinite(values).all():
            raise UsageError(
                f"the activations of {name} cannot be quantised",
                stage="calibrate",
                found="NaN or Inf on the calibration images",
                expected="finite values",
                next="make blame names the block that makes them; CALIB=<other images>",
            )
    return found


def histograms(
    model: onnx.ModelProto, names: Iterable[str], images: Iterable[np.ndarray], note: Callable[[int], None]
) -> dict[str, observers.Histogram]:
    """Absolute values of each tensor in ``names``, over all images."""
    shapes = infer(model, 1).shapes
    seen = {name: observers.Histogram() for name in names}
    probe = _Probe(model)
    for name in seen:
        step = stride(prod(shapes[name]), shapes[name][-1])
        flat, absolute = f"{name}/flat", f"{name}/abs"
        bounds = [probe.constant(np.array([n])) for n in (0, np.iinfo(np.int64).max, 0, step)]
        probe.after(
            name,
            helper.make_node("Abs", [name], [absolute]),
            helper.make_node("ReduceMax", [absolute], [f"{name}/largest"], keepdims=0),
            helper.make_node("Unsqueeze", [f"{name}/largest", probe.constant(np.array([0]))], [f"{name}/first"]),
            helper.make_node("Reshape", [absolute, probe.constant(np.array([-1]))], [flat]),
            helper.make_node("Slice", [flat, *bounds], [f"{name}/some"]),
            helper.make_node("Concat", [f"{name}/first", f"{name}/some"], [f"{name}/sample"], axis=0),
        )
    for made in probe.run(images, note):
        for name, values in made.items():
            seen[name].add(values[1:], float(values[0]))
    return seen


def stride(elements: int, width: int) -> int:
    """Every how many elements one is counted: a step that visits every channel of a row of ``width``."""
    step = max(1, elements // SAMPLE)
    while gcd(step, width) != 1:
        step += 1
    return step


class _Probe:
    """A graph that computes what is wanted of each tensor right after the tensor."""

    def __init__(self, model: onnx.ModelProto):
        self.shell, self.arrays = onnxio.detach(model)
        self._after: dict[str, tuple[onnx.NodeProto, ...]] = {}
        self._constants: set[str] = set()

    def constant(self, values: np.ndarray) -> str:
        """The name of an int64 constant."""
        name = f"probe/{values.tolist()}"
        if name not in self._constants:
            self._constants.add(name)
            self.shell.graph.initializer.append(numpy_helper.from_array(values.astype(np.int64), name))
        return name

    def after(self, name: str, *nodes: onnx.NodeProto) -> None:
        """``nodes`` run as soon as the tensor is there; the last one's output is what is wanted of it."""
        self._after[name] = nodes

    def run(self, images: Iterable[np.ndarray], note: Callable[[int], None]) -> Iterator[dict[str, np.ndarray]]:
        """What is wanted of each tensor, batch by batch; ``note`` is told the number of images done."""
        from exporter.backends.onnxruntime import session

        feed = self.shell.graph.input[0].name
        nodes = [*self._after.get(feed, ())]
        for node in self.shell.graph.node:
            nodes.append(node)
            for name in node.output:
                nodes += self._after.get(name, ())
        graph = onnx.GraphProto(node=nodes)
        del self.shell.graph.node[:], self.shell.graph.output[:]
        self.shell.graph.node.extend(graph.node)
        wanted = {name: nodes[-1].output[0] for name, nodes in self._after.items()}
        self.shell.graph.output.extend(
            helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in wanted.values()
        )
        made, done = session(self.shell, self.arrays, in_order=True), 0
        for batch in batches(images):
            yield dict(zip(wanted, made.run(list(wanted.values()), {feed: batch}), strict=True))
            done += len(batch)
            note(done)
