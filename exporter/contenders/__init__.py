"""What a user would run instead, one a file, each named as ``--vs`` takes it (``_`` for ``-`` and ``.``).

A contender has ``COMPUTES`` (what it is, one line), ``PACKAGES`` (whose versions are recorded, and which must be
installed) and ``make(subject)``, which returns a function without arguments that runs one query and returns the
outputs as arrays, in order. Making it may take as long as it takes: no set-up is timed. It raises
:class:`exporter.errors.UsageError` where it cannot run here.
"""
