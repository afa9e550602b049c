from exporter.progress import Progress


def test_without_a_terminal_each_stage_is_one_plain_line(capsys):
    with Progress().stage("trace") as line:
        line.show("torch.onnx.export")
        line.summary = "3 nodes [x]"
    with Progress().stage("type") as line:
        line.summary, line.reused = "same", True
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert out == ""
    assert first.split() == ["trace", "0.0", "s", "done", "3", "nodes", "[x]"]
    assert second.split()[3] == "reused"


def test_quiet_shows_warnings_and_banners_only(capsys):
    progress = Progress(quiet=True)
    with progress.stage("trace"):
        pass
    progress.warn("a cache entry was damaged")
    progress.banner("RANDOM WEIGHTS")
    err = capsys.readouterr().err
    assert "trace" not in err and "damaged" in err and "RANDOM WEIGHTS" in err


def test_a_stage_that_fails_prints_no_line(capsys):
    try:
        with Progress().stage("compile") as line:
            line.summary = "done"
            raise ValueError
    except ValueError:
        pass
    assert capsys.readouterr().err == ""


def test_on_a_terminal_rich_shows_the_same_words(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress = Progress()
    with progress.stage("trace") as line:
        line.show("exporting [bold]")
        line.summary = "3 nodes [x]"
    err = capsys.readouterr().err
    assert "trace" in err and "3 nodes [x]" in err


def test_two_stages_at_a_time_share_the_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress = Progress()
    with progress.stage("rewrite") as building:
        with progress.stage("raw_parity") as proving:
            building.show("fuse_gelu")
            proving.show("ONNX Runtime")
            shown = str(progress._status.status)
            proving.summary = "passed"
        assert "rewrite fuse_gelu" in shown and "raw_parity ONNX Runtime" in shown
        assert "raw_parity" not in str(progress._status.status)
    assert "passed" in capsys.readouterr().err
