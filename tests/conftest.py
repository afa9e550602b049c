import pytest


@pytest.fixture(scope="session")
def tiny_vit():
    """A ViT of two blocks at 32x32 pixels, and its graph as it comes out of the tool's own export."""
    import torch
    from graphs import tiny_recipe

    from exporter import trace

    torch.manual_seed(0)
    recipe = tiny_recipe()
    module = recipe.build(None)
    return module, trace.export(module, recipe)
