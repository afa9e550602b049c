"""What the tool says when it must stop: never a traceback for a user's mistake.

Exit codes: 0 done, 1 a check failed (parity, fusion, rewrite contract), 2 the request cannot be served.
"""

from __future__ import annotations


class ExporterError(Exception):
    """An error that the user reads.

    ``found`` and ``expected`` are the two facts that disagree; ``next`` is the command to type now.
    ``model`` and ``stage`` are filled in by the pipeline where the raiser does not know them.
    """

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        model: str | None = None,
        stage: str | None = None,
        found: object = None,
        expected: object = None,
        next: str | None = None,
    ):
        super().__init__(what)
        self.what = what
        self.model = model
        self.stage = stage
        self.found = found
        self.expected = expected
        self.next = next

    def as_dict(self) -> dict:
        fields = ("what", "model", "stage", "found", "expected", "next")
        return {f: str(v) for f in fields if (v := getattr(self, f)) is not None} | {"exit_code": self.exit_code}

    def __str__(self) -> str:
        where = " / ".join(p for p in (self.model, self.stage) if p)
        lines = [f"{where}: {self.what}" if where else self.what]
        for label in ("found", "expected", "next"):
            value = getattr(self, label)
            if value is not None:
                lines.append(f"  {label + ':':<10}{value}")
        return "\n".join(lines)


class UsageError(ExporterError):
    """The request, a file or the machine is not what the command needs (exit 2)."""

    exit_code = 2


class CheckFailed(ExporterError):
    """The work was done and a check on it failed (exit 1)."""

    exit_code = 1


class Refusal(Exception):
    """Why a rewrite leaves something as it is that looks like its pattern; the manifest records it."""


class Declined(Refusal):
    """A refusal for the sake of the weights: the pattern is there, and the next checkpoint may have it rewritten."""


def nearest(word: str, choices, count: int = 3) -> str:
    """The ``count`` choices closest in spelling to ``word`` in lower case, or all of them when there are few."""
    import difflib

    choices = sorted(choices)
    close = difflib.get_close_matches(word.lower(), choices, n=count, cutoff=0.4)
    return ", ".join(close or choices[:12])
