"""Libraries that run or compile a graph; each is imported in its own file only, and only when it is used."""
