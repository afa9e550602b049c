"""Triton's python backend, first step of an image ensemble: an encoded picture as the model's input.

Input ``image``: the bytes of one JPEG, PNG or WebP file. Outputs ``pixels``: (1, 3, H, W), preprocessed as the manifest
says; ``size``: the picture's height and width, upright.
"""

from pathlib import Path

import triton_python_backend_utils as pb


class TritonPythonModel:
    """What the backend calls; it needs the passport, no graph and no engine."""

    def initialize(self, args):
        """Read the passport of the model that the pixels are for."""
        from exporter import exchange, runtime

        self.exchange = exchange
        self.model = runtime.described(Path(args["model_repository"]) / args["model_version"] / "bundle")
        self.kind = self.model.bundle.manifest["inputs"][0]["dtype"]

    def execute(self, requests):
        """One answer a request; a picture that cannot be read is that request's error alone."""
        return [self.one(request) for request in requests]

    def one(self, request):
        """The pixels of one request's picture."""
        from exporter.errors import ExporterError

        try:
            raw = self.exchange.raw(pb.get_input_tensor_by_name(request, "image"))
            rows, size = self.model.prepared(raw)
        except ExporterError as error:
            return pb.InferenceResponse(error=pb.TritonError(str(error), pb.TritonError.INVALID_ARG))
        made = {"pixels": self.exchange.given(rows, self.kind), "size": self.exchange.given(size, "int32")}
        return pb.InferenceResponse([pb.Tensor.from_dlpack(name, value) for name, value in made.items()])
