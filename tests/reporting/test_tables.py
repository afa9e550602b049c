import bundles

from exporter.reporting import published, tables


def two(tmp_path, **changes):
    for name in ("fp16", "bf16"):
        folder = bundles.write(tmp_path, name, cache=False, **changes)
        bundles.depth(folder, patch_embed=1e-4, blocks_0=1e-3)
    return published.find(tmp_path, "toy")[0]


def test_the_ladder_has_a_row_for_every_comparison_of_every_build(tmp_path):
    rows = tables.ladder(two(tmp_path)).rows
    assert len(rows) == 10
    assert rows[3] == ("fp16", "torch/typed", "passed", "1.0e-03", "2e-02", "0.999900", "100.0%", "9", "")
    assert rows[4] == ("fp16", "typed/engine", "not run", "", "", "", "", "", bundles.NO_GPU)


def test_depth_is_side_by_side_and_a_block_that_one_build_lacks_is_blank(tmp_path):
    first, second = two(tmp_path)
    del second.depth["blocks"][0]
    made = tables.depth([first, second])
    assert made.columns == ("block", ">fp16 error", ">fp16 added", ">bf16 error", ">bf16 added")
    assert made.rows[0] == ("patch.embed", "1.0e-04", "1.0e-04", "", "")


def test_engines_and_floors(tmp_path):
    built = two(tmp_path)
    assert tables.engines(built).rows[0] == ("fp16", "3.0", "2.0", "2", "1 of 1", "5", "7", "1:2:5", "sm80, sm89")
    assert tables.floors(built).rows[1] == ("L4", "sm89", "fp16", "9.0", "2")
    built[0].manifest["kernels"]["sm80"]["roofline_us"] = None
    assert tables.floors(built).rows[0][3] == "no figures"


def test_kernels_by_block_show_those_before_only_where_they_are_known(tmp_path):
    first, second = two(tmp_path)
    object.__setattr__(first, "before", {"blocks.0": {"copy": 3, "matmul": 2}, "gone": {"copy": 1}})
    made = tables.blocks([first, second])
    assert made.columns == ("block", ">fp16 before", ">fp16 after", ">fp16 MB", ">bf16 after", ">bf16 MB")
    assert made.rows == [("blocks.0", "5", "1", "4.0", "1", "4.0"), ("head", "0", "1", "1.0", "1", "1.0"),
                         ("gone", "1", "0", "0", "0", "0")]  # fmt: skip


def test_the_biggest_kernels_come_first(tmp_path):
    made = tables.biggest(two(tmp_path)[0])
    assert made.rows[0] == ("4.00", "80.0%", "5", "attention", "blocks.0", "_gemm_mha_v2", "MatMul_1, Softmax_2")
    assert made.caption == "fp16: the biggest 2 of 2 kernels at batch 2"


def test_equal_facts_of_several_builds_are_told_once(tmp_path):
    built = two(tmp_path)
    assert tables.shared(built, tables.rewrites) == [
        ("fp16, bf16", [("fold_constants", "3", "9 → 6", "0.0e+00"), ("remove_guards", "0", "6 → 6", "")])
    ]
    built[1].manifest["rewrites"][0]["matches"] = 4
    assert [names for names, _ in tables.shared(built, tables.rewrites)] == ["fp16", "bf16"]


def test_islands_are_ranked_with_what_they_cost_and_recover(tmp_path):
    row = {"block": "blocks.0", "error": 4e-8, "recovered": 0.4, "kernels": 2, "bytes": 2_000_000, "us": 5.0}
    free = row | {"block": "head", "kernels": 0, "bytes": -10, "recovered": 0.6}
    facts = {"goal": "MAX_ERROR=0.001", "images": 8, "kept": ["blocks.0.attn", "head"], "ranked": [free, row],
             "before": {"drop": 0.0, "relative_max": 2e-3}, "after": {"drop": 0.0, "relative_max": 9e-4}}  # fmt: skip
    first, second = two(tmp_path, islands=facts)
    made = tables.islands(first)
    assert made.rows[0][6:] == ("costs none", "costs none", "head")
    assert made.rows[1] == ("blocks.0", "4.0e-08", "40.0%", "2", "2.00", "5.0", "2.0e-08", "2.0e-08", "blocks.0.attn")
    second.manifest["islands"] = None
    assert tables.islands(second) is None
