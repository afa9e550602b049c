import itertools
import math

import numpy as np
import pytest
from graphs import graph, ops, rewritten

NAME = "fuse_gelu"
ROOT = np.float32(math.sqrt(2))
INNER = {
    "divided": "s = Div (x, root)\n",
    "multiplied": "s = Mul (x, inverse)\n",
    "the number first": "s = Mul (inverse, x)\n",
}
ONE = {"after": "o = Add (e, one)\n", "before": "o = Add (one, e)\n"}
OUTER = {
    "x, then a half": "p = Mul (x, o)\n y = Mul (p, half)\n",
    "a half, then x": "p = Mul (o, half)\n y = Mul (x, p)\n",
    "half of x": "h = Mul (x, half)\n y = Mul (h, o)\n",
    "half of x, divided": "h = Div (x, two)\n y = Mul (o, h)\n",
    "numbers in two steps": "p = Mul (o, two)\n q = Mul (p, x)\n y = Mul (quarter, q)\n",
}
NUMBERS = {
    "root": ROOT,
    "inverse": 1 / ROOT,
    "one": np.float32(1),
    "half": np.float32([0.5]),
    "two": np.float32(2),
    "quarter": np.float32(0.25),
}


def gelu(lines, opset=22, **more):
    values = NUMBERS | more
    used = {k: v for k, v in values.items() if f" {k})" in lines or f"({k}," in lines}
    return graph(f"(float[batch, 6] x) => (float[batch, 6] y) {{ {lines} }}", opset, **used)


def written(inner="divided", one="after", outer="x, then a half"):
    return INNER[inner] + "e = Erf (s)\n" + ONE[one] + OUTER[outer]


@pytest.mark.parametrize("inner, one, outer", list(itertools.product(INNER, ONE, OUTER)))
def test_every_order_of_the_factors(inner, one, outer):
    assert ops(rewritten(NAME, gelu(written(inner, one, outer)), 1, close=True)) == ["Gelu"]


def test_what_is_multiplied_afterwards_stays():
    lines = written().replace("y =", "g =") + "y = Mul (g, half)\n"
    assert ops(rewritten(NAME, gelu(lines), 1, close=True)) == ["Gelu", "Mul"]


def test_x_is_read_by_others():
    lines = written().replace("y =", "g =") + "y = Add (g, x)\n"
    assert ops(rewritten(NAME, gelu(lines), 1, close=True)) == ["Gelu", "Add"]


def test_two_of_them():
    first = written().replace("y =", "g =")
    second = written("multiplied", "before", "half of x")
    for name in ("s", "e", "o", "h"):
        second = (
            second.replace(f"{name} =", f"{name}2 =")
            .replace(f"({name},", f"({name}2,")
            .replace(f"({name})", f"({name}2)")
            .replace(f", {name})", f", {name}2)")
        )
    second = second.replace("(x,", "(g,").replace(", x)", ", g)")
    assert ops(rewritten(NAME, gelu(first + second), 2, close=True)) == ["Gelu", "Gelu"]


REFUSED = {
    "another root": (written(), {"root": ROOT * np.float32(1.001)}),
    "another half": (written(), {"half": np.float32(0.5001)}),
    "another one": (written(), {"one": np.float32(1.0001)}),
    "one taken away": (written().replace("Add (e, one)", "Sub (e, one)"), {}),
    "no half": (written().replace("p = Mul (x, o)\n y = Mul (p, half)", "y = Mul (x, o)"), {}),
    "x twice": (written().replace("Mul (p, half)", "Mul (p, x)"), {}),
    "no x": ("s = Div (x, root)\n e = Erf (s)\n o = Add (e, one)\n y = Mul (o, half)", {}),
    "another x": ("z = Exp (x)\n" + written().replace("Mul (x, o)", "Mul (z, o)"), {}),
    "tanh": (written().replace("Erf", "Tanh"), {}),
    "a half for each column": (written(), {"half": np.full(6, 0.5, np.float32)}),
    "the product of itself": (written().replace("Mul (p, half)", "Mul (p, p)"), {}),
    "the error function is read elsewhere": (written().replace("y =", "g =") + "y = Add (g, e)\n", {}),
    "the sum is read elsewhere": (written().replace("y =", "g =") + "y = Add (g, o)\n", {}),
    "the product is read elsewhere": (written().replace("y =", "g =") + "y = Add (g, p)\n", {}),
    "x unscaled": ("e = Erf (x)\n o = Add (e, one)\n" + OUTER["x, then a half"], {}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    lines, more = REFUSED[case]
    model = gelu(lines, **more)
    assert sorted(ops(rewritten(NAME, model, 0))) == sorted(ops(model))


def test_refused_below_opset_20():
    model = gelu(written(), opset=19)
    assert sorted(ops(rewritten(NAME, model, 0))) == sorted(ops(model))


def test_refused_numbers_of_a_larger_rank():
    model = gelu(
        written().replace("y = Mul (p, half)", "q = Mul (p, wide)\n y = Squeeze (q, zero)"),
        zero=np.array([0]),
        wide=np.full((1, 1, 1), 0.5, np.float32),
    )
    matches = rewritten(NAME, model, 0)
    assert "Erf" in ops(matches)


def test_nothing_to_find():
    model = graph("(float[batch, 4] x) => (float[batch, 4] y) { y = Erf (x) }")
    assert ops(rewritten(NAME, model, 0)) == ["Erf"]
