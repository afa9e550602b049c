"""Triton's python backend over a bundle: the same code as ``exporter.runtime``, requests of a batch run together.

The bundle lies beside this file. Where a GPU of the engine's targets is the engine runs, elsewhere the numerics twin.
Tensors change hands by DLPack (``exporter.exchange``): the server's stub was compiled for numpy 1 and misreads
numpy 2's arrays.
"""

from pathlib import Path

import triton_python_backend_utils as pb


class TritonPythonModel:
    """What the backend calls; one object an instance."""

    def initialize(self, args):
        """Load and check the bundle of this version; an exception keeps the version from being served."""
        from exporter import exchange, runtime

        folder = Path(args["model_repository"]) / args["model_version"] / "bundle"
        self.model = runtime.load(folder)
        self.kinds = {o["name"]: o["dtype"] for o in self.model.bundle.manifest["outputs"]}
        self.taken, self.given = exchange.taken, exchange.given
        pb.Logger.log_info(f"{args['model_name']} version {args['model_version']}: {self.model.runs}")

    def execute(self, requests):
        """One answer a request; the rows of all of them run as one batch."""
        parts = [self.taken(pb.get_input_tensor_by_name(request, self.model.input)) for request in requests]
        answers = self.model.infer_parts(parts)
        return [
            pb.InferenceResponse([
                pb.Tensor.from_dlpack(name, self.given(rows, self.kinds[name])) for name, rows in answer.items()
            ])
            for answer in answers
        ]  # fmt: skip
