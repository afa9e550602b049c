"""One file a stage. A stage says what its output depends on (``parts``), which stages and modules it is made from
(``NEEDS``, ``CODE``), how it is made (``run``) and what the reader is told of it (``summary``).

``run(build, folder)`` writes files into ``folder`` and returns ``(meta, memory)``: facts for the manifest, and
objects that the next stages of the same process may use instead of reading the files.
"""
