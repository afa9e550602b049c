"""One verb of the command line a file, each named as it is typed (``_`` for ``-``).

A verb has ``HELP`` (one line), ``arguments(parser)`` and ``run(arguments)``, which returns the exit code. It imports
what it needs inside ``run``: the help of a dozen verbs must not wait for torch.
"""
