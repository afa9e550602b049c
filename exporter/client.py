"""A client of a served model over gRPC, in arrays; it asks again where the server was at fault.

An inference changes nothing, so asking twice is safe: a server that is away, that was killed in the middle of a request
or whose worker died is asked until a deadline. What the request itself has wrong is an error at once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from tritonclient import grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

FAULTS_OF_THE_REQUEST = ("INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "PERMISSION_DENIED", "UNAUTHENTICATED")
PAUSE_SECONDS = 0.05
TRY_SECONDS = 20.0
"""How long one try may take: the largest model's batch in a long queue, on a CPU."""


@dataclass
class Client:
    """One connection; use one a thread. ``retried`` counts the answers that were asked for again."""

    port: int
    model: str
    input: str
    output: str
    patience: float = 60.0
    """Seconds that one answer may take with all its retries."""
    retried: int = 0
    _client: grpc.InferenceServerClient | None = field(default=None, repr=False)

    def infer(self, rows: np.ndarray) -> np.ndarray:
        """The output of a batch; ``InferenceServerException`` for a bad request, or at the end of the patience."""
        return self.answer(rows)[1]

    def answer(self, rows: np.ndarray) -> tuple[int, np.ndarray]:
        """The version of the model that answered, and its output."""
        version, found = self.outputs(rows)
        return version, found[self.output]

    def outputs(self, rows: np.ndarray) -> tuple[int, dict[str, np.ndarray]]:
        """The version of the model that answered, and all its outputs by name."""
        tensor = grpc.InferInput(self.input, list(rows.shape), np_to_triton_dtype(rows.dtype))
        tensor.set_data_from_numpy(rows)
        end = time.monotonic() + self.patience
        while True:
            try:
                self._client = self._client or grpc.InferenceServerClient(f"127.0.0.1:{self.port}")
                left = max(end - time.monotonic(), 0.001)
                found = self._client.infer(self.model, [tensor], client_timeout=min(left, TRY_SECONDS))
                answer = found.get_response()
                return int(answer.model_version), {o.name: found.as_numpy(o.name) for o in answer.outputs}
            except InferenceServerException as error:
                status = str(error.status() or "")
                if status.endswith(FAULTS_OF_THE_REQUEST) or time.monotonic() + PAUSE_SECONDS > end:
                    raise
            self.retried += 1
            self.close()  # a channel to a dead server waits longer and longer before it tries again
            time.sleep(PAUSE_SECONDS)

    def statistics(self):
        """What the server counted of the model: ``inference_count`` rows in ``execution_count`` runs, and times."""
        with grpc.InferenceServerClient(f"127.0.0.1:{self.port}") as client:
            return client.get_inference_statistics(self.model).model_stats[0]

    def close(self) -> None:
        """End the connection; the next request opens another one."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *caught) -> None:
        self.close()
