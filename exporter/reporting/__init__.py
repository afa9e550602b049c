"""The parts of the report: what was published, what is concluded from it, plots, and the page itself.

Everything here reads what a build left in OUT and computes nothing of the model; :mod:`exporter.reporting.depth` alone
runs it, and only when it is asked to.
"""
