"""Triton's python backend, last step of an image ensemble: a model's outputs as answers.

Inputs: the model's outputs for one picture, and ``size``, the picture's height and width. Output ``answer``: JSON, the
five surest answers with ``index``, ``label``, ``share`` and, of a detector, ``box`` (left, top, right, bottom in the
picture's pixels).
"""

import json
from pathlib import Path

import triton_python_backend_utils as pb


class TritonPythonModel:
    """What the backend calls; it needs the passport, no graph and no engine."""

    def initialize(self, args):
        """Read the passport of the model that answers."""
        from exporter import exchange, runtime

        self.exchange = exchange
        self.model = runtime.described(Path(args["model_repository"]) / args["model_version"] / "bundle")
        self.names = [output["name"] for output in self.model.bundle.manifest["outputs"]]

    def execute(self, requests):
        """One answer a request."""
        return [self.one(request) for request in requests]

    def one(self, request):
        """The answers for one picture."""
        rows = {name: self.exchange.taken(pb.get_input_tensor_by_name(request, name)) for name in self.names}
        if wrong := [f"{name} has {len(value)}" for name, value in rows.items() if len(value) != 1]:
            said = f"{', '.join(wrong)} rows, expected one row: the outputs for one picture"
            return pb.InferenceResponse(error=pb.TritonError(said, pb.TritonError.INVALID_ARG))
        found = {name: value[0] for name, value in rows.items()}
        height, width = (int(n) for n in self.exchange.taken(pb.get_input_tensor_by_name(request, "size")))
        text = json.dumps(self.model.ranked(found, (height, width))).encode()
        return pb.InferenceResponse([pb.Tensor.from_dlpack("answer", self.exchange.text(text))])
