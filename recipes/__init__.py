"""One file a family. A file's ``RECIPES`` tuple is its entry in the registry; there is no other list."""
