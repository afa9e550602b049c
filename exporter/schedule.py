"""Two lanes of stages side by side: one builds in the caller's thread, one proves what was built in another.

Tracing and rewriting are Python on one core, comparisons are matrix products on all of them, the compiler is a
process of its own: beside each other they take two thirds of the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor


def run(stages: Sequence, bring: Callable[[object], None], stop: Callable[[], None]) -> None:
    """``bring(stage)`` for every stage, in order within its lane (``PROOF``) and after its ``NEEDS``.

    ``stop`` is called where the caller's lane ends early, by an error or Ctrl-C: it makes the other lane's work end
    soon. What the caller's lane raised is raised, else what the other one did.
    """
    done: dict[str, Future] = {stage.NAME: Future() for stage in stages}

    def work(lane: list) -> None:
        try:
            for stage in lane:
                for need in stage.NEEDS:
                    if need in done:  # a stage that this request does not want is not waited for
                        done[need].result()
                bring(stage)
                done[stage.NAME].set_result(None)
        except BaseException as error:
            for stage in lane:
                if not done[stage.NAME].done():
                    done[stage.NAME].set_exception(error)
            raise

    proofs = [stage for stage in stages if getattr(stage, "PROOF", False)]
    with ThreadPoolExecutor(1, "proofs") as pool:
        proving = pool.submit(work, proofs)
        try:
            work([stage for stage in stages if stage not in proofs])
            proving.result()
        except BaseException:
            stop()
            raise
