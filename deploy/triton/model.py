"""Triton's python backend over a bundle: the same code as ``exporter.runtime``, requests of a batch run together.

The bundle lies beside this file. Where a GPU of the engine's targets is the engine runs, elsewhere the numerics twin.
Tensors change hands by DLPack: the server's stub was compiled for numpy 1 and misreads numpy 2's arrays.
"""

from pathlib import Path

import torch
import triton_python_backend_utils as pb


class TritonPythonModel:
    """What the backend calls; one object an instance."""

    def initialize(self, args):
        """Load and check the bundle of this version; an exception keeps the version from being served."""
        from exporter import runtime

        folder = Path(args["model_repository"]) / args["model_version"] / "bundle"
        self.model = runtime.load(folder)
        self.kinds = {o["name"]: getattr(torch, o["dtype"]) for o in self.model.bundle.manifest["outputs"]}
        pb.Logger.log_info(f"{args['model_name']} version {args['model_version']}: {self.model.runs}")

    def execute(self, requests):
        """One answer a request; the rows of all of them run as one batch."""
        inputs = [pb.get_input_tensor_by_name(request, self.model.input) for request in requests]
        rows = [torch.from_dlpack(tensor.to_dlpack()).float() for tensor in inputs]
        found = {k: torch.from_numpy(v) for k, v in self.model.infer(torch.cat(rows).numpy()).items()}
        parts = {k: v.to(self.kinds[k]).split([len(part) for part in rows]) for k, v in found.items()}
        return [
            pb.InferenceResponse([pb.Tensor.from_dlpack(name, part[i].contiguous()) for name, part in parts.items()])
            for i in range(len(requests))
        ]
