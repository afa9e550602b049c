"""Vision transformers from PyTorch to TensorRT engines."""

__version__ = "0.1.0"

SCHEMA = 2
"""Version of every JSON file that a bundle holds; raised when a field changes its meaning."""
