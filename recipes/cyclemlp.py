"""CycleMLP: linear layers that read their input channels from neighbouring places in turn; no attention (Chen 2022).

Nobody keeps the module, it is :mod:`recipes.modules.cyclemlp`; the authors' checkpoints load into it as they are.
"""

from __future__ import annotations

from functools import partial

from exporter.types import ModuleSpec, Preprocessing, Recipe, canonical
from recipes._shallow import shallow


def build(spec: ModuleSpec, depths: tuple[int, int, int, int]):
    """CycleMLP in eval mode with random weights, for images of multiples of 32 pixels."""
    from recipes.modules.cyclemlp import CycleMLP

    return CycleMLP(spec.classes, depths).eval()


def adapt(state_dict: dict, module) -> dict:
    """The authors' checkpoints hold each CycleFC's offsets too, which are no weights."""
    return {name: value for name, value in state_dict.items() if not name.endswith(".offset")}


@shallow(depths=(1, 1, 1, 1))
def _cyclemlp(size: str, depths: tuple[int, int, int, int], published: tuple[float, float]) -> Recipe:
    return Recipe(
        name=f"cyclemlp_{size}",
        family="cyclemlp",
        paper="Chen et al. 2022, arXiv:2107.10224",
        build=partial(build, depths=depths),
        adapt=adapt,
        url=f"https://github.com/ShoufaChen/CycleMLP/releases/download/v0.1/CycleMLP_{size.upper()}.pth",
        preprocessing=Preprocessing((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), crop_pct=0.9),
        published=published,
        image_multiple=32,
        attention_blocks=0,
        rewrites=canonical(),
    )


RECIPES = (
    _cyclemlp("b1", depths=(2, 2, 4, 2), published=(15.2, 2.1)),  # the paper prints 15 M
    _cyclemlp("b2", depths=(2, 3, 10, 3), published=(26.8, 3.9)),  # and 27 M
)
