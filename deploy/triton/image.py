"""Triton's python backend from an encoded picture to answers: preprocessing, the model beside it, labels.

Input ``image``: the bytes of one JPEG, PNG or WebP file. Output ``answer``: JSON, the five surest answers with
``index``, ``label``, ``share`` and, of a detector, ``box`` (left, top, right, bottom in shares of the picture).
"""

import json
from pathlib import Path

import torch
import triton_python_backend_utils as pb


class TritonPythonModel:
    """What the backend calls; the model itself is asked through the server, so its batches are shared."""

    def initialize(self, args):
        """Read the passport of the model beside this one; no engine is loaded here."""
        from exporter import runtime

        self.model = runtime.described(Path(args["model_repository"]) / args["model_version"] / "bundle", self.ask)
        spec = self.model.bundle.manifest["inputs"][0]
        self.kind = getattr(torch, spec["dtype"])
        self.name = args["model_name"].removesuffix("_image")

    def ask(self, pixels):
        """The model's outputs for (N, 3, H, W), by the server."""
        names = [output["name"] for output in self.model.bundle.manifest["outputs"]]
        tensor = pb.Tensor.from_dlpack(self.model.input, torch.from_numpy(pixels).to(self.kind))
        request = pb.InferenceRequest(model_name=self.name, requested_output_names=names, inputs=[tensor])
        answer = request.exec()
        if answer.has_error():
            raise RuntimeError(answer.error().message())
        found = {name: pb.get_output_tensor_by_name(answer, name) for name in names}
        return {name: torch.from_dlpack(value.to_dlpack()).float().numpy() for name, value in found.items()}

    def execute(self, requests):
        """One answer a request; a picture that cannot be read is that request's error alone."""
        from exporter.errors import ExporterError

        made = []
        for request in requests:
            try:
                raw = torch.from_dlpack(pb.get_input_tensor_by_name(request, "image").to_dlpack()).numpy().tobytes()
                text = json.dumps(self.model.predict([raw])[0]).encode()
                answer = pb.Tensor.from_dlpack("answer", torch.frombuffer(bytearray(text), dtype=torch.uint8))
                made.append(pb.InferenceResponse([answer]))
            except (ExporterError, RuntimeError) as error:
                made.append(pb.InferenceResponse(error=pb.TritonError(str(error))))
        return made
