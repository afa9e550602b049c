"""Weights of the recipes in ``recipes/digits.py``, and the script that made them."""
