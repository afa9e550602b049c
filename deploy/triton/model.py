"""Triton's python backend over a bundle: the same code as ``exporter.runtime``, requests of a batch run together.

The bundle lies beside this file. Where a GPU of the engine's targets is the engine runs, elsewhere the numerics twin.
"""

from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb


class TritonPythonModel:
    """What the backend calls; one object an instance."""

    def initialize(self, args):
        """Load and check the bundle of this version; an exception keeps the version from being served."""
        from exporter import runtime

        folder = Path(args["model_repository"]) / args["model_version"] / "bundle"
        self.model = runtime.load(folder)
        pb.Logger.log_info(f"{args['model_name']} version {args['model_version']}: {self.model.runs}")

    def execute(self, requests):
        """One answer a request; the rows of all of them run as one batch."""
        rows = [pb.get_input_tensor_by_name(request, self.model.input).as_numpy() for request in requests]
        found = self.model.infer(np.concatenate(rows))
        ends = np.cumsum([len(part) for part in rows])
        parts = [{k: v[end - len(part) : end] for k, v in found.items()} for part, end in zip(rows, ends, strict=True)]
        return [pb.InferenceResponse([pb.Tensor(name, value) for name, value in part.items()]) for part in parts]
