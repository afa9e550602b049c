"""Triton's python backend from encoded pictures to answers: preprocessing, the model beside it, labels.

Input ``image``: one encoded JPEG, PNG or WebP a row. Outputs ``label`` and ``share``: the five surest answers, and of
a detector ``box`` (left, top, right, bottom in shares of the picture).
"""

from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    """What the backend calls; the model itself is asked through the server, so its batches are shared."""

    def initialize(self, args):
        """Read the passport of the model beside this one; no engine is loaded here."""
        from exporter import runtime

        self.model = runtime.described(Path(args["model_repository"]) / args["model_version"] / "bundle", self.ask)
        self.name = args["model_name"].removesuffix("_image")

    def ask(self, pixels):
        """The model's outputs for (N, 3, H, W), by the server."""
        names = [output["name"] for output in self.model.bundle.manifest["outputs"]]
        request = pb.InferenceRequest(
            model_name=self.name, requested_output_names=names, inputs=[pb.Tensor(self.model.input, pixels)]
        )
        answer = request.exec()
        if answer.has_error():
            raise pb.TritonModelException(answer.error().message())
        return {name: pb.get_output_tensor_by_name(answer, name).as_numpy() for name in names}

    def execute(self, requests):
        """One answer a request; a picture that cannot be read is that request's error alone."""
        from exporter.errors import ExporterError

        made = []
        for request in requests:
            try:
                pictures = pb.get_input_tensor_by_name(request, "image").as_numpy().reshape(-1).tolist()
                made.append(pb.InferenceResponse(self.tensors(self.model.predict(pictures))))
            except ExporterError as error:
                made.append(pb.InferenceResponse(error=pb.TritonError(str(error))))
        return made

    def tensors(self, rows):
        """The outputs of some pictures."""
        label = np.array([[answer["label"].encode() for answer in row] for row in rows], dtype=object)
        share = np.array([[answer["share"] for answer in row] for row in rows], dtype=np.float32)
        found = [pb.Tensor("label", label), pb.Tensor("share", share)]
        if self.model.bundle.detects:
            found.append(pb.Tensor("box", np.array([[a["box"] for a in row] for row in rows], dtype=np.float32)))
        return found
