from exporter.errors import CheckFailed, UsageError, nearest


def test_an_error_names_model_stage_found_expected_and_the_next_command():
    error = UsageError("no", model="swin_b", stage="compile", found=3, expected=4, next="make list")
    lines = str(error).splitlines()
    assert lines[0] == "swin_b / compile: no"
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["found", "expected", "next"]
    assert error.as_dict() == {
        "what": "no", "model": "swin_b", "stage": "compile", "found": "3", "expected": "4", "next": "make list",
        "exit_code": 2,
    }  # fmt: skip


def test_exit_codes():
    assert (UsageError("x").exit_code, CheckFailed("x").exit_code) == (2, 1)


def test_nearest_offers_the_closest_names_first():
    assert nearest("swin_bb", ["vit_b", "swin_b", "mixer_b"]).split(", ")[0] == "swin_b"
    assert nearest("SWIN_B", ["vit_b", "swin_b", "mixer_b"]) == "swin_b, vit_b, mixer_b"
    assert nearest("qqqq", ["b", "a"]) == "a, b"
