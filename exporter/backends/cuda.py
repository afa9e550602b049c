"""Times an engine on the GPU: transfers, computation and the host's share apart, with CUDA graphs and without.

What talks to CUDA is a few lines of torch and of Polygraphy's runner; the order of events is tested with stand-ins,
the rest has not run on the machine that this tool was written on, which has no GPU. One query is in flight at a time,
as for one caller who waits: trtexec lets transfers of the next query overlap unless ``--exposeDMA`` is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from exporter.timing import Query


def engine_query(active: Any, tensors: Sequence[Mapping], batch: int, graphs: bool, spin: bool = True) -> Query:
    """A query of an engine that a Polygraphy runner has activated.

    ``tensors`` are the manifest's inputs and outputs; ``graphs``: the computation is one captured CUDA graph.
    """
    import torch

    context, stream = active.context, torch.cuda.Stream()
    pairs = {}
    for tensor in tensors:
        shape = [batch if isinstance(n, str) else n for n in tensor["shape"]]
        host = torch.zeros(shape, dtype=getattr(torch, tensor["dtype"])).pin_memory()
        device = host.cuda()
        pairs[tensor["name"]] = (host, device)
        context.set_tensor_address(tensor["name"], device.data_ptr())
        if tensor["input"]:
            context.set_input_shape(tensor["name"], tuple(shape))

    def launch() -> None:
        if not context.execute_async_v3(stream.cuda_stream):
            raise RuntimeError("the engine does not run: execute_async_v3 says no")

    launch()  # kernels are loaded, and those of a free batch are specialised, before anything is captured
    stream.synchronize()
    if graphs:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            launch()
        launch = graph.replay
    inputs = [pairs[t["name"]] for t in tensors if t["input"]]
    outputs = [pairs[t["name"]] for t in tensors if not t["input"]]

    def on_stream(work: Callable[[], None]) -> None:
        with torch.cuda.stream(stream):
            work()

    return staged(
        lambda: [device.copy_(host, non_blocking=True) for host, device in inputs],
        launch,
        lambda: [host.copy_(device, non_blocking=True) for host, device in outputs],
        [torch.cuda.Event(enable_timing=True) for _ in range(4)],
        on_stream,
        spin,
    )


def staged(send, launch, fetch, events: Sequence, on_stream, spin: bool, clock=time.perf_counter) -> Query:
    """A query in three steps between four events; the quantities are trtexec's, in seconds.

    ``latency`` = ``h2d`` + ``gpu`` + ``d2h``; ``enqueue`` is the host's time to ask for all of it, ``host`` until it is
    done. ``spin``: the host asks again and again instead of sleeping until the GPU wakes it.
    """

    def enqueue() -> None:
        events[0].record()
        send()
        events[1].record()
        launch()
        events[2].record()
        fetch()
        events[3].record()

    def query() -> Mapping[str, float]:
        started = clock()
        on_stream(enqueue)
        enqueued = clock()
        if spin:
            while not events[3].query():
                pass
        else:
            events[3].synchronize()
        done = clock()
        h2d, gpu, d2h = (events[i].elapsed_time(events[i + 1]) / 1e3 for i in range(3))
        return {
            "latency": h2d + gpu + d2h,
            "h2d": h2d,
            "gpu": gpu,
            "d2h": d2h,
            "enqueue": enqueued - started,
            "host": done - started,
        }

    return query
