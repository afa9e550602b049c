"""Models that are no recipe of ours: ``MODEL=timm:NAME``, ``tv:NAME``, ``hf:ID or folder``, ``path/to/recipe.py``.

A source is one file here, named as its prefix; ``recipe(name)`` makes a :class:`~exporter.types.Recipe` of what the
library's own configuration says. A model of a family that the tool knows is held to that family's fusion contract; of
any other it takes the clean-ups and whatever rewrite matches, and says so.
"""
