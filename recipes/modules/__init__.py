"""The torch modules of papers that no library keeps, a file a family, named as the family's recipes.

They import torch; the recipes import them when they build, so that ``make list`` does not.
"""
