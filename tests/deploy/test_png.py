"""deploy/cpp's PNG reader: Pillow's pixels, and an exception for every damaged file, under sanitizers."""

import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration import images
from exporter import samples

ROOT = Path(__file__).parents[2]
FLAGS = ["-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'deploy' / 'cpp' / 'include'}"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on this machine")


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """Runs the reader; its standard output, or its words where it refuses."""
    program = tmp_path_factory.mktemp("png") / "png"
    source = Path(__file__).with_name("png.cpp")
    words = ["g++", *FLAGS, source, "-o", program]
    if subprocess.run([*words, *SANITIZERS], capture_output=True).returncode:  # a compiler without their libraries
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def run(*words, fails=False):
        found = subprocess.run([program, *map(str, words)], capture_output=True, text=True)
        assert found.returncode == (2 if fails else 0), found.stderr
        return found.stderr if fails else found.stdout

    return run


def pixels(reader, path):
    width, height = (int(n) for n in reader("read", path, path.with_suffix(".rgb")).split())
    return np.fromfile(path.with_suffix(".rgb"), np.uint8).reshape(height, width, 3)


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width, height, depth, colour, rows, interlace=0, more=b""):
    """A PNG by hand; ``rows`` are the bytes before they are packed."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    chunks = [chunk(b"IHDR", header), more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def photo(size=(61, 47)):
    return images.decode(samples.shipped()[0]).resize(size)


@pytest.mark.parametrize("mode, options", [
    ("L", {}), ("LA", {}), ("RGB", {}), ("RGBA", {}), ("P", {}), ("1", {}), ("P", {"bits": 4}), ("P", {"bits": 2}),
    ("RGB", {"compress_level": 0}), ("RGB", {"compress_type": 2}), ("RGB", {"compress_type": 3}),
    ("RGB", {"compress_type": 4}), ("RGB", {"compress_level": 9}),
])  # fmt: skip
def test_pixels_are_pillows(mode, options, reader, tmp_path):
    picture = photo()
    if mode == "P":
        picture = picture.quantize(2 ** options.get("bits", 8))
    elif mode.endswith("A"):
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    picture.convert(mode).save(tmp_path / "a.png", **options)
    assert np.array_equal(pixels(reader, tmp_path / "a.png"), np.asarray(images.decode(tmp_path / "a.png")))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("filtered", range(5))
def test_every_depth_of_grey_and_every_filter(depth, filtered, reader, tmp_path):
    row = (13 * depth + 7) // 8
    rng = np.random.default_rng(depth)
    rows = b"".join(bytes([filtered]) + rng.bytes(row) for _ in range(9))
    (tmp_path / "a.png").write_bytes(png(13, 9, depth, 0, rows))
    assert np.array_equal(pixels(reader, tmp_path / "a.png"), np.asarray(images.decode(tmp_path / "a.png")))


def test_a_photograph_and_a_single_pixel(reader, tmp_path):
    for i, picture in enumerate((images.decode(samples.shipped()[1]), Image.new("RGB", (1, 1), (1, 2, 3)))):
        picture.save(tmp_path / f"{i}.png")
        assert np.array_equal(pixels(reader, tmp_path / f"{i}.png"), np.asarray(picture))


@pytest.mark.parametrize("options", [{}, {"compress_level": 0}, {"compress_type": 4}, {"bits": 4}])
def test_every_beginning_and_every_changed_byte_is_refused(options, reader, tmp_path):
    picture = photo((17, 13))
    picture.info.clear()
    (picture.quantize(16) if "bits" in options else picture).save(tmp_path / "a.png", **options)
    cut, changed, repaired = (
        [int(n) for n in line.split()] for line in reader("damage", tmp_path / "a.png").splitlines()
    )
    size = (tmp_path / "a.png").stat().st_size
    assert cut == [size, 0, 0] and changed == [3 * size, 0, 0]
    # the CRC repaired: a palette may then be another, pixels may not (Adler-32); a CRC's own change is no change
    assert sum(repaired) == 3 * size and repaired[1] <= 3 * (4 * 5 + 20) and (repaired[2] == 0 or "bits" in options)


GREY = b"\0" * 2


@pytest.mark.parametrize("data, why", [
    (b"", "an empty file"), (b"\x89PNG\r\n\x1a\n", "cut off"),
    (png(1, 1, 16, 0, b"\0\0\0"), "16 bits a channel"), (png(1, 1, 8, 0, GREY, 1), "interlaced"),
    (png(20000, 20000, 1, 0, b""), "too large to decode"), (png(0, 1, 8, 0, b"\0"), "damaged header"),
    (png(2**31, 1, 8, 0, GREY), "damaged header"), (png(1, 1, 8, 5, GREY), "damaged header"),
    (png(1, 1, 4, 2, GREY), "damaged header"), (png(1, 1, 8, 0, b"\0"), "fewer pixels"),
    (png(1, 1, 8, 0, b"\0\0\0"), "more pixels"), (png(13000, 13000, 8, 6, GREY), "too few bytes"),
    (png(1, 1, 8, 0, b"\5\0"), "unknown filter"), (png(1, 1, 8, 3, GREY), "no palette"),
    (png(1, 1, 8, 3, b"\0\1", 0, chunk(b"PLTE", b"abc")), "not in its palette"),
    (png(1, 1, 8, 3, GREY, 0, chunk(b"PLTE", b"ab")), "damaged palette"),
    (png(1, 1, 8, 0, GREY, 0, chunk(b"eXIf", b"II*\0")), "EXIF"),
    (png(1, 1, 8, 0, GREY, 0, chunk(b"ABCD", b"")), "must not be skipped"),
    (png(1, 1, 8, 0, GREY, 0, chunk(b"IHDR", b"")), "out of order"),
    (png(1, 1, 8, 0, GREY)[:-16], "cut off"),
])  # fmt: skip
def test_what_is_refused_is_said(data, why, reader, tmp_path):
    (tmp_path / "a.png").write_bytes(data)
    said = reader("read", tmp_path / "a.png", tmp_path / "out", fails=True)
    assert why in said and "a.png" in said


def test_ancillary_chunks_are_skipped(reader, tmp_path):
    (tmp_path / "a.png").write_bytes(png(1, 1, 8, 0, b"\0\x07", 0, chunk(b"tEXt", b"a\0b")))
    assert pixels(reader, tmp_path / "a.png").tolist() == [[[7, 7, 7]]]
