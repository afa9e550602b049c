"""Checkpoints as scripts write them and as downloads break them; random weights; a hub of our own."""

import http.server
import os
import pickle
import socket
import threading
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from exporter import registry, weights
from exporter.checkpoint import read, unwrap
from exporter.errors import UsageError
from exporter.types import ModuleSpec


def _vit(spec):
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=spec.image, patch_size=16, embed_dim=32, depth=2, num_heads=2, num_classes=spec.classes
    ).eval()


def _swin(spec):
    from timm.models.swin_transformer import SwinTransformer

    return SwinTransformer(
        img_size=spec.image,
        embed_dim=16,
        depths=(2, 2),
        num_heads=(1, 2),
        window_size=7,
        num_classes=spec.classes,
    ).eval()


VIT = replace(registry.recipe("vit_ti").at((32, 32)), build=_vit, hub=None, classes=10)
SWIN = replace(registry.recipe("swin_t").at((56, 56)), build=_swin, hub=None, classes=10)
SMALL = replace(VIT, name="small", hub="someone/small", adapt=None)
RANDOM = weights.locate(SMALL, "random")


def made(recipe, classes=10):
    return weights.module(recipe, weights.locate(recipe, "random"), ModuleSpec(recipe.preprocessing.size, classes))


@pytest.fixture(scope="module")
def trained():
    return made(SMALL, 37).state_dict()


def saved(state, path):
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


def loaded(path, recipe=SMALL, classes=37):
    return weights.module(
        recipe, weights.locate(recipe, str(path)), ModuleSpec(recipe.preprocessing.size, classes)
    ).state_dict()


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def refusal(function, *arguments):
    with pytest.raises(UsageError) as raised:
        function(*arguments)
    return raised.value


# Files that are what they should be


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".bin"])
def test_a_checkpoint_fills_the_module_and_gives_the_number_of_classes(suffix, trained, tmp_path):
    path = saved(trained, tmp_path / f"mine{suffix}")
    located = weights.locate(SMALL, str(path))
    assert (located.kind, located.source, located.path) == ("checkpoint", path.name, path)
    assert weights.count_classes(SMALL, located) == 37
    assert same(loaded(path), trained)


def test_the_hash_follows_the_content_and_not_the_name(trained, tmp_path):
    first, again = (
        weights.locate(SMALL, str(saved(trained, tmp_path / n))) for n in ("a.safetensors", "b.safetensors")
    )
    other = saved(trained | {"head.bias": torch.ones(37)}, tmp_path / "c.safetensors")
    assert first.sha256 == again.sha256 != weights.locate(SMALL, str(other)).sha256


def test_a_path_may_start_at_the_home_folder(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = saved(trained, tmp_path / "mine.safetensors")
    assert weights.locate(SMALL, "~/mine.safetensors").path == path


def prefixed(prefix):
    return lambda state: {prefix + k: v for k, v in state.items()}


@pytest.mark.parametrize("wrap", [
    lambda s: {"state_dict": s},
    lambda s: {"model": s},
    lambda s: {"model_state_dict": s, "epoch": 3},
    lambda s: {"model": s, "epoch": 3, "best": 0.8, "args": None, "names": ["cat"],
               "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}},
    lambda s: {"model": s, "iteration": torch.tensor(7)},
    lambda s: {"checkpoint": 1, "model": {"state_dict": s}},
    lambda s: {"state_dict": prefixed("model.")(s), "pytorch-lightning_version": "2.4"},
    lambda s: {"n_averaged": torch.tensor(5), **prefixed("module.")(s)},
    prefixed("module."),
    prefixed("_orig_mod."),
    prefixed("model."),
    prefixed("backbone."),
    prefixed("module._orig_mod."),
    prefixed("_orig_mod.module."),
])  # fmt: skip
def test_what_training_scripts_put_around_the_weights_is_taken_off(wrap, trained, tmp_path):
    path = saved(wrap(trained), tmp_path / "mine.pt")
    assert same(loaded(path), trained)
    assert weights.count_classes(SMALL, weights.locate(SMALL, str(path))) == 37


def test_a_compiled_module_inside_of_lightning_is_unwrapped(trained, tmp_path):
    path = saved({"state_dict": prefixed("model._orig_mod.")(trained)}, tmp_path / "mine.ckpt")
    assert same(loaded(path), trained)


@pytest.mark.parametrize("average", ["state_dict_ema", "model_ema", "ema_state_dict", "ema"])
@pytest.mark.parametrize("plain", ["state_dict", "model", "model_state_dict"])
def test_the_moving_average_is_preferred_to_the_plain_weights(average, plain):
    weight, mean = {"w": torch.zeros(1)}, {"module.w": torch.ones(1)}
    assert same(unwrap({plain: weight, average: mean}), {"w": torch.ones(1)})
    assert same(unwrap({average: mean, plain: weight}), {"w": torch.ones(1)})


def test_a_moving_average_that_holds_no_tensors_does_not_hide_the_weights():
    assert same(unwrap({"ema": {"decay": 0.999}, "model": {"w": torch.zeros(1)}}), {"w": torch.zeros(1)})


@pytest.mark.parametrize("nothing", [None, [], {}, {"epoch": 3}, {"model": {}}, [torch.zeros(1)], torch.zeros(1)])
def test_nothing_to_unwrap_is_nothing(nothing):
    assert unwrap(nothing) == {}


@pytest.mark.parametrize("recipe", [VIT, SWIN], ids=lambda r: r.name)
@pytest.mark.parametrize("classes", [1, 37])
def test_a_head_for_other_classes_is_counted_and_loaded(recipe, classes, tmp_path):
    state = made(recipe, classes).state_dict()
    path = saved(state, tmp_path / "mine.safetensors")
    assert weights.count_classes(recipe, weights.locate(recipe, str(path))) == classes
    assert same(loaded(path, recipe, classes), state)


def test_rows_of_the_head_that_are_no_classes_are_not_counted(tmp_path):
    detr = registry.recipe("detr_r50")
    path = saved({detr.head[0]: torch.zeros(38, 256)}, tmp_path / "mine.safetensors")
    assert weights.count_classes(detr, weights.locate(detr, str(path))) == 37


@pytest.mark.parametrize("wanted, kind", [("random", "random"), ("mine.safetensors", "checkpoint")])
def test_without_a_head_the_recipe_counts_the_classes(wanted, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file({"body.weight": torch.zeros(37, 2)}, "mine.safetensors")
    located = weights.locate(SMALL, wanted)
    assert (located.kind, weights.count_classes(SMALL, located)) == (kind, SMALL.classes)


def test_half_precision_weights_become_the_module_s_type(trained, tmp_path):
    path = saved({k: v.bfloat16() for k, v in trained.items()}, tmp_path / "mine.safetensors")
    assert same(loaded(path), {k: v.bfloat16().float() for k, v in trained.items()})


def test_buffers_that_the_module_computes_may_be_in_the_file(tmp_path):
    module = made(SWIN)
    state = module.state_dict()
    computed = {k: v.clone() for k, v in module.named_buffers() if k not in state}
    assert computed
    path = saved(state | computed, tmp_path / "mine.safetensors")
    assert same(loaded(path, SWIN, 10), state)


# Files of another model


def test_keys_that_are_missing_unexpected_or_of_another_shape_are_named(trained, tmp_path):
    state = trained | {"extra.weight": torch.zeros(2), "blocks.0.norm1.bias": torch.zeros(3)}
    del state["blocks.1.attn.qkv.weight"]
    error = refusal(loaded, saved(state, tmp_path / "mine.safetensors"))
    assert "mine.safetensors is not of this architecture" in error.what
    assert [line.strip() for line in error.found.splitlines()] == [
        "missing 1: blocks.1.attn.qkv.weight",
        "unexpected 1: extra.weight",
        "wrong shape 1: blocks.0.norm1.bias (3,), the model has (32,)",
    ]


def test_many_missing_keys_are_counted_and_the_first_are_named(trained, tmp_path):
    state = {k: v for k, v in trained.items() if not k.startswith("blocks.1.")}
    gone = [k for k in trained if k not in state]
    error = refusal(loaded, saved(state, tmp_path / "mine.safetensors"))
    assert error.found == f"missing {len(gone)}: {', '.join(gone[:6])} and {len(gone) - 6} more"


def test_a_head_for_other_classes_than_asked_for_is_refused(trained, tmp_path):
    error = refusal(loaded, saved(trained, tmp_path / "mine.safetensors"), SMALL, 36)
    assert "head.weight (37, 32), the model has (36, 32)" in error.found


@pytest.mark.parametrize("recipe, other", [(VIT, SWIN), (SWIN, VIT)], ids=lambda r: r.name)
def test_a_checkpoint_of_another_architecture_is_refused(recipe, other, tmp_path):
    path = saved(made(other).state_dict(), tmp_path / "mine.safetensors")
    error = refusal(loaded, path, recipe, 10)
    assert "mine.safetensors is not of this architecture" in error.what
    assert "missing" in error.found and "unexpected" in error.found and "make list" in error.next


@pytest.mark.parametrize("kind", [torch.int8, torch.int32, torch.bool, torch.complex64])
def test_numbers_of_a_kind_that_the_model_does_not_compute_with_are_refused(kind, trained, tmp_path):
    state = trained | {"norm.weight": trained["norm.weight"].to(kind)}
    error = refusal(loaded, saved(state, tmp_path / "mine.pt"))
    assert error.found == f"wrong type 1: norm.weight {str(kind).removeprefix('torch.')}, the model has float32"


def test_a_filter_that_fails_on_a_foreign_file_is_a_refusal_that_says_why(trained, tmp_path):
    def adapt(state, module):
        raise KeyError("pos_embed")

    error = refusal(loaded, saved(trained, tmp_path / "mine.safetensors"), replace(SMALL, adapt=adapt))
    assert "pos_embed" in error.found and "missing" not in error.found


# Files that are broken


@pytest.mark.parametrize("name, says", [("gone.safetensors", "no such file"), ("folder", "a folder")])
def test_a_path_without_a_file_is_refused(name, says, tmp_path):
    (tmp_path / "folder").mkdir()
    error = refusal(weights.locate, SMALL, str(tmp_path / name))
    assert error.found == says and name in error.what


@pytest.mark.parametrize("name", ["~nobody-has-this-name/mine.pt", "a" * 300])
def test_a_path_that_cannot_be_is_refused(name):
    assert refusal(weights.locate, SMALL, name).found == "no such file"


def test_a_file_that_the_system_does_not_let_us_read_is_refused(trained, tmp_path, monkeypatch):
    path = saved(trained, tmp_path / "mine.safetensors")

    def denied(path):  # the suite may run as root, who may read anything
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(weights, "sha256_file", denied)
    error = refusal(weights.locate, SMALL, str(path))
    assert error.found == "Permission denied" and "chmod" in error.next


def whole(suffix, tmp_path):
    return saved({"w": torch.arange(10000.0)}, tmp_path / f"whole{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("keep", [1, 7, 100, 0.5, 0.99])
def test_a_truncated_file_is_refused(suffix, keep, tmp_path):
    data = whole(suffix, tmp_path)
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
    error = refusal(read, path, "tiny")
    assert f"{path.stat().st_size} bytes" in error.found and "download mine" in error.next


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("content, says", [
    (b"", "an empty file"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 346284714\n", "Git LFS pointer"),
    (b"<!DOCTYPE html>\n<html><body>Log in</body></html>", "HTML page"),
    (b"\n <HTML><body>Log in</body></html>", "HTML page"),
])  # fmt: skip
def test_what_is_no_checkpoint_is_named(suffix, content, says, tmp_path):
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(content)
    error = refusal(read, path, "tiny")
    assert says in error.found and (error.model, error.stage) == ("tiny", "weights")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("content", [
    pytest.param(b'{"error": "not found"}', id="json"), pytest.param(b"wget: 404\n", id="text"),
    pytest.param(b"\0" * 64, id="zeros"), pytest.param(b"\xff" * 64, id="ones")])  # fmt: skip
def test_garbage_is_not_called_pickled_objects(suffix, content, tmp_path):
    path = tmp_path / f"mine{suffix}"
    path.write_bytes(content)
    assert "pickled" not in refusal(read, path, "tiny").found


@pytest.mark.parametrize("name", ["mine.bin", "mine.SAFETENSORS"])
def test_a_safetensors_file_of_another_suffix_is_read(name, tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / name)
    assert same(read(tmp_path / name, "tiny"), {"w": torch.ones(2)})


def test_a_checkpoint_without_tensors_is_refused(tmp_path):
    assert refusal(read, saved({"epoch": 3}, tmp_path / "mine.pt"), "tiny").found == "no tensors"


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_counted_by_name(suffix, value, tmp_path):
    state = {
        "fine.weight": torch.ones(4),
        "bad.weight": torch.ones(2, 5),
        "bad.bias": torch.full((3,), value),
    }
    state["bad.weight"][0, 1:3] = value
    error = refusal(read, saved(state, tmp_path / f"mine{suffix}"), "tiny")
    assert "bad.weight (2 of 10)" in error.found and "bad.bias (3 of 3)" in error.found
    assert "NaN or Inf" in error.found and "fine" not in error.found


@pytest.mark.parametrize("tensor", [
    pytest.param(torch.zeros(4).to(torch.float8_e4m3fn), id="float8"),
    pytest.param(torch.eye(3).to_sparse(), id="sparse"),
    pytest.param(torch.zeros(3, device="meta"), id="meta"),
])  # fmt: skip
def test_unusual_tensors_are_read_or_refused_but_never_a_traceback(tensor, tmp_path):
    path = saved({"w": tensor}, tmp_path / "mine.pt")
    try:
        assert read(path, "tiny").keys() == {"w"}
    except UsageError as error:
        assert "w" in error.found


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def by_torch(thing, path):
    torch.save(thing, path)


def by_torch_of_old(thing, path):
    torch.save(thing, path, _use_new_zipfile_serialization=False)


def by_pickle(thing, path):
    path.write_bytes(pickle.dumps(thing, 2))


@pytest.mark.parametrize("write", [by_torch, by_torch_of_old, by_pickle])
def test_code_in_a_checkpoint_is_never_executed(write, tmp_path):
    trace, path = tmp_path / "executed", tmp_path / "mine.pt"
    write(
        {"state_dict": {"w": torch.zeros(2) if write is not by_pickle else 0}, "x": Malicious(str(trace))},
        path,
    )
    error = refusal(read, path, "tiny")
    assert not trace.exists()
    assert "pickled objects" in error.found and "mkdir" in error.found and "save_file" in error.next
    if write is by_pickle:  # the trap works
        pickle.loads(path.read_bytes())
        assert trace.exists()


@pytest.mark.parametrize("content", [pickle.dumps(print, 4), bytes(range(256)), b"hello", b"\x80\x02}q\x00."])
def test_torch_s_advice_to_execute_the_file_is_not_passed_on(content, tmp_path, recwarn):
    path = tmp_path / "mine.pt"
    path.write_bytes(content)
    error = refusal(read, path, "tiny")
    assert "weights_only" not in str(error) and "trust" not in error.found and not list(recwarn)


def test_a_torchscript_program_is_named_and_torch_says_nothing_beside_it(tmp_path, recwarn):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "mine.pt")
    recwarn.clear()
    error = refusal(read, tmp_path / "mine.pt", "tiny")
    assert "TorchScript" in error.found and "state_dict" in error.next and not list(recwarn)


def test_a_pickled_module_is_refused(tmp_path):
    path = saved(torch.nn.Linear(2, 2), tmp_path / "mine.pt")
    assert "pickled objects" in refusal(read, path, "tiny").found


# Random weights


def test_random_weights_are_equal_whatever_the_global_seed_and_leave_it_alone():
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        found.append(made(SMALL).state_dict())
        assert torch.equal(before, torch.random.get_rng_state())
    assert same(*found)


def test_the_global_random_state_survives_a_build_that_fails():
    def build(spec):
        torch.rand(3)
        raise RuntimeError("no")

    before = torch.random.get_rng_state()
    with pytest.raises(UsageError, match="cannot be built"):
        weights.module(replace(SMALL, build=build), RANDOM, ModuleSpec((32, 32), 10))
    assert torch.equal(before, torch.random.get_rng_state())


def test_random_weights_have_no_constant_tensors_left():
    state = made(SWIN).state_dict()
    assert not [k for k, v in state.items() if v.is_floating_point() and v.numel() > 1 and v.unique().numel() == 1]


def test_shaking_keeps_variances_positive_and_what_is_not_constant():
    norm = torch.nn.BatchNorm2d(64)
    with torch.no_grad():
        norm.bias.copy_(torch.arange(64.0))
    weights.shake(norm)
    assert (norm.running_var >= 1).all() and norm.running_var.unique().numel() > 1
    assert torch.equal(norm.bias, torch.arange(64.0)) and norm.num_batches_tracked == 0
    assert ((norm.weight - 1).abs() < 0.5).all() and norm.weight.unique().numel() > 1


def test_random_weights_of_two_models_have_two_hashes_and_say_who_asked():
    other = weights.locate(SWIN, "random")
    assert RANDOM.sha256 == weights.locate(SMALL, "random").sha256 != other.sha256
    assert RANDOM.as_dict() == {
        "source": "random, seed 0",
        "kind": "random",
        "sha256": RANDOM.sha256,
        "why": "asked for",
    }


# The hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The constants of the hub's client: an empty cache, no proxies, and a host that nobody answers for."""
    from huggingface_hub import constants

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    set_endpoint("https://hub.test", constants, monkeypatch)
    return constants


def set_endpoint(endpoint, constants, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")


def no_network(monkeypatch, error=None):
    """Every connection fails; returns the list of addresses that were tried."""
    tried = []

    def refuse(address, *arguments, **options):
        tried.append(address)
        raise error or OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", refuse)
    return tried


@pytest.fixture
def server(hub, tmp_path, monkeypatch):
    """A hub on this machine that has one file; its ``requests`` are recorded."""
    body = saved(made(SMALL).state_dict(), tmp_path / "published.safetensors").read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests.append((self.command, self.path))
            there = self.path == f"/{SMALL.hub}/resolve/main/model.safetensors"
            self.send_response(200 if there else 404)
            self.send_header("Content-Length", str(len(body) if there else 0))
            self.send_header("ETag", '"an-etag"')
            self.send_header("X-Repo-Commit", COMMIT)
            if not there:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            if there and self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *arguments):
            pass

    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.requests, found.body = [], body
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    set_endpoint(f"http://127.0.0.1:{found.server_port}", hub, monkeypatch)
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


@pytest.mark.parametrize("wanted", ["auto", "pretrained"])
def test_pretrained_weights_are_downloaded_once_and_then_come_from_the_cache(wanted, server, monkeypatch):
    first = weights.locate(SMALL, wanted)
    assert (first.kind, first.source, first.why) == ("pretrained", f"hf:{SMALL.hub}", "")
    assert first.path.read_bytes() == server.body
    assert server.requests.count(("GET", f"/{SMALL.hub}/resolve/main/model.safetensors")) == 1
    assert weights.count_classes(SMALL, first) == SMALL.classes
    assert same(weights.module(SMALL, first, ModuleSpec((32, 32), 10)).state_dict(), made(SMALL).state_dict())

    server.shutdown()
    server.server_close()
    tried = no_network(monkeypatch)
    assert weights.locate(SMALL, wanted) == first
    assert tried == []


def test_the_cache_is_used_offline(server, hub, monkeypatch):
    first = weights.locate(SMALL, "pretrained")
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    assert weights.locate(SMALL, "pretrained") == first


def unpublished(hub, monkeypatch):
    return replace(SMALL, hub=None), "nobody published"


def offline(hub, monkeypatch):
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    return SMALL, "HF_HUB_OFFLINE"


def unreachable(hub, monkeypatch):
    no_network(monkeypatch)
    return SMALL, "hub.test cannot be reached (Network is unreachable)"


def slow(hub, monkeypatch):
    no_network(monkeypatch, TimeoutError("timed out"))
    return SMALL, "hub.test cannot be reached (timed out)"


def silent(hub, monkeypatch):
    def fail(*arguments, **options):
        raise TimeoutError

    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    return SMALL, SMALL.hub


@pytest.mark.parametrize("trouble", [unpublished, offline, unreachable, slow, silent])
def test_without_the_hub_auto_is_random_and_says_why_and_pretrained_is_an_error(trouble, hub, monkeypatch):
    recipe, why = trouble(hub, monkeypatch)
    located = weights.locate(recipe, "auto")
    assert located.kind == "random" and why in located.why
    assert located.sha256 == RANDOM.sha256  # the same engine as of WEIGHTS=random
    error = refusal(weights.locate, recipe, "pretrained")
    assert why in error.found and "WEIGHTS=random" in error.next and error.model == recipe.name


def test_a_file_that_the_hub_does_not_have_is_the_reason(server):
    located = weights.locate(replace(SMALL, hub="someone/other"), "auto")
    assert located.kind == "random" and "someone/other" in located.why and "404" in located.why


@pytest.mark.parametrize("endpoint, port", [
    ("https://hub.test", 443), ("https://mirror.test:8443", 8443), ("http://mirror.test", 80)])  # fmt: skip
def test_the_hub_is_looked_for_at_its_own_port(endpoint, port, hub, monkeypatch):
    tried = no_network(monkeypatch)
    set_endpoint(endpoint, hub, monkeypatch)
    weights.locate(SMALL, "auto")
    assert [address[1] for address in tried] == [port]


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_behind_a_proxy_the_client_is_asked_and_not_the_network(variable, hub, tmp_path, monkeypatch):
    (tmp_path / "there").write_bytes(b"x")
    tried = no_network(monkeypatch)
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *a, **k: str(tmp_path / "there"))
    assert weights.locate(SMALL, "auto").kind == "pretrained" and tried == []


def test_hosts_that_need_no_proxy_are_no_proxy(hub, monkeypatch):
    tried = no_network(monkeypatch)
    monkeypatch.setenv("NO_PROXY", "localhost")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *a, **k: pytest.fail("no quick look"))
    assert "cannot be reached" in weights.locate(SMALL, "auto").why and len(tried) == 1


def test_positions_that_were_trained_at_another_size_are_resampled_and_said(tmp_path):
    from models import VIT

    larger = VIT.at((96, 96))
    state = weights.module(larger, weights.locate(larger, "random"), ModuleSpec((96, 96), 37)).state_dict()
    path = saved(state, tmp_path / "large.safetensors")
    said = []
    weights.module(VIT, weights.locate(VIT, str(path)), ModuleSpec(VIT.preprocessing.size, 37), said.append)
    tokens = 1 + (VIT.preprocessing.size[0] // 16) ** 2
    assert said == [f"pos_embed (1, 37, 128) resampled to (1, {tokens}, 128)"]
    said.clear()
    weights.module(larger, weights.locate(larger, str(path)), ModuleSpec((96, 96), 37), said.append)
    assert said == []
