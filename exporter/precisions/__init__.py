"""One file a precision: what the graph's tensors are typed as, and what must not be.

TensorRT's networks are strongly typed: a layer computes in the type of its tensors and nothing else, so a
precision is a graph with casts (:mod:`exporter.casting`), not a flag of the builder.
"""
