import bundles
import pytest

from exporter.reporting import verdicts
from exporter.reporting.published import Published, Unread

NOT_RUN = {"status": "not run", "why": "no GPU"}


def bundle(tmp_path, name="fp16", **changes):
    return Published(name, tmp_path, bundles.manifest(**changes))


def test_an_engine_that_was_not_run_did_not_pass(tmp_path):
    found = verdicts.of(bundle(tmp_path))
    assert found.status == "passed" and found.label == "graph passed, engine not run"
    assert found.badges == (("passed", "graph passed"), ("not run", "engine not run"))
    assert found.line == f"graph passed: {', '.join(bundles.LADDER)}; engine not run: {bundles.NO_GPU}"


def test_an_engine_that_ran_and_passed_says_so(tmp_path):
    found = verdicts.of(bundle(tmp_path, parity={"typed/engine": bundles.RUNG}))
    assert found.label == "graph passed, engine passed" and "not run" not in found.line


@pytest.mark.parametrize("parity", [{}, dict.fromkeys((*bundles.LADDER, "typed/engine"), NOT_RUN)])
def test_where_nothing_was_executed_nothing_passed(tmp_path, parity):
    made = bundle(tmp_path)
    made.manifest["parity"] = parity
    found = verdicts.of(made)
    assert found.status == "not run" and "passed" not in found.label + found.line


def test_a_failed_comparison_comes_first_and_hides_no_other(tmp_path):
    failed = bundles.RUNG | {"status": "failed", "why": "logits at batch 1: relative max 0.5"}
    failures = [{"what": "torch/typed disagree", "found": failed["why"]}, {"what": "not fused", "found": "0 fused"}]
    changes = {"status": "failed", "failures": failures, "parity": {"torch/typed": failed}}
    found = verdicts.of(bundle(tmp_path, "fp16.failed", **changes))
    assert found.status == "failed" and found.badges == (("failed", "failed"),)
    assert found.line.startswith(
        "torch/typed failed: logits at batch 1: relative max 0.5; check failed: not fused (0 fu"
    )
    assert found.line.count("torch/typed") == 1 and "engine not run" in found.line
    assert "graph passed" not in found.line and "other comparisons passed: torch/raw, raw/rewritten" in found.line


def test_a_failed_engine_is_a_failure(tmp_path):
    found = verdicts.of(bundle(tmp_path, parity={"typed/engine": bundles.RUNG | {"status": "failed", "why": "NaN"}}))
    assert (
        found.label == "failed" and found.line.startswith("typed/engine failed: NaN") and "engine not" not in found.line
    )


def test_a_bundle_among_the_failed_ones_failed_even_if_it_does_not_say_why(tmp_path):
    assert verdicts.of(bundle(tmp_path, "fp16.failed")).status == "failed"


def test_a_precision_that_types_nothing_says_so(tmp_path):
    found = verdicts.of(bundle(tmp_path, parity={"rewritten/typed": NOT_RUN | {"why": "FP32 types nothing"}}))
    assert found.line.endswith("rewritten/typed not run: FP32 types nothing")
    assert "graph passed: torch/raw, raw/rewritten, torch/typed;" in found.line


def test_a_bundle_that_cannot_be_read_has_no_verdict():
    found = verdicts.of(Unread("bf16", "its schema is 9"))
    assert found.label == "not read" and "its schema is 9" in found.line


def test_random_weights_are_told_with_their_reason(tmp_path):
    random = [bundle(tmp_path, name) for name in ("fp16", "bf16")]
    trained = bundle(tmp_path, "fp32", weights={"kind": "pretrained"})
    assert verdicts.randomness([*random, trained]) == {"asked for": ["fp16", "bf16"]}


def test_cautions_name_what_the_verdict_does_not(tmp_path):
    made = bundle(
        tmp_path, without=["fuse_gelu"], unfused_allowed=True, unfused_attention=["a"], near_the_limit={"x": "y"}
    )
    said = " ".join(verdicts.cautions(made))
    assert "fuse_gelu" in said and "attentions that are not fused: 1" in said and "near the limit" in said
    assert verdicts.cautions(bundle(tmp_path)) == []
