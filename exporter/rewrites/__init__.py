"""One file a rewrite. Each holds ``apply(graph, shapes) -> matches`` and says what it refuses and why."""
