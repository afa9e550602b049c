"""timm's and torchvision's evaluation transforms are the truth, on scikit-image's photographs."""

import importlib.util
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration import images
from exporter.errors import UsageError
from exporter.types import Preprocessing

PHOTOGRAPHS = Path(importlib.util.find_spec("skimage").submodule_search_locations[0]) / "data"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def photograph(name, turned=False):
    found = images.decode(PHOTOGRAPHS / name)
    return found.transpose(Image.Transpose.ROTATE_90) if turned else found


def how(size=(224, 224), crop_pct=0.9, interpolation="bicubic", mode="crop"):
    return Preprocessing(size, MEAN, STD, interpolation, crop_pct, mode)


def by_timm(image, how):
    from timm.data import create_transform

    mode = {"crop": "center", "squash": "squash"}[how.mode]
    transform = create_transform(
        (3, *how.size), is_training=False, interpolation=how.interpolation, mean=how.mean, std=how.std,
        crop_pct=how.crop_pct, crop_mode=mode,
    )  # fmt: skip
    return transform(image).numpy()


def assert_equal(found, expected):
    assert (found.shape, found.dtype) == (expected.shape, np.float32)
    # the same pixels; (x / 255 - mean) / std may differ in the last bit, a pixel level is 0.017
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("size, crop_pct, interpolation", [
    (224, 0.875, "bilinear"), (224, 0.875, "bicubic"), (224, 0.9, "bicubic"), (224, 1.0, "bicubic"),
    (384, 1.0, "bicubic"), (97, 0.9, "bilinear"), (32, 0.95, "lanczos"),
])  # fmt: skip
def test_photographs_are_cropped_as_timm_does_it(name, turned, size, crop_pct, interpolation):
    image, wanted = photograph(name, turned), how((size, size), crop_pct, interpolation)
    assert_equal(images.preprocess(image, wanted), by_timm(image, wanted))


@pytest.mark.parametrize("size", [(224, 320), (320, 224), (64, 192)])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("crop_pct", [0.875, 1.0])
def test_oblong_inputs_are_cropped_as_timm_does_it(size, turned, crop_pct):
    image, wanted = photograph("rocket.jpg", turned), how(size, crop_pct)
    assert_equal(images.preprocess(image, wanted), by_timm(image, wanted))


@pytest.mark.parametrize("width, height", [(1, 1), (3, 2), (17, 40), (40, 17), (223, 225), (224, 224), (225, 223)])
@pytest.mark.parametrize("crop_pct", [0.875, 0.9, 1.0])
def test_images_smaller_than_the_crop_are_enlarged_as_timm_does_it(width, height, crop_pct):
    image, wanted = photograph("chelsea.png").resize((width, height)), how(crop_pct=crop_pct)
    assert_equal(images.preprocess(image, wanted), by_timm(image, wanted))


@pytest.mark.parametrize("size", [(224, 224), (800, 800), (96, 160)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("turned", [False, True])
def test_squashing_gives_up_the_aspect_ratio_as_timm_does_it(size, interpolation, turned):
    image, wanted = photograph("coffee.png", turned), how(size, 1.0, interpolation, "squash")
    assert_equal(images.preprocess(image, wanted), by_timm(image, wanted))


def test_torchvision_s_own_recipe_gives_the_same():
    import torch
    from torchvision.transforms import v2

    transform = v2.Compose([
        v2.Resize(256, v2.InterpolationMode.BILINEAR), v2.CenterCrop(224), v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD),
    ])  # fmt: skip
    image = photograph("chelsea.png")
    assert_equal(images.preprocess(image, how(crop_pct=0.875, interpolation="bilinear")), transform(image).numpy())


def test_a_uniform_image_is_its_colour_normalised_in_the_order_of_the_channels():
    found = images.preprocess(Image.new("RGB", (50, 40), (255, 0, 51)), how((8, 16)))
    expected = [(v - m) / s for v, m, s in zip((1, 0, 0.2), MEAN, STD, strict=True)]
    assert found.shape == (3, 8, 16) and found.flags.c_contiguous
    np.testing.assert_allclose(found, np.broadcast_to(np.reshape(expected, (3, 1, 1)), found.shape), atol=1e-6)


# Decoding


def pixels(path):
    return np.asarray(images.decode(path))


PICTURE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def saved(image, path, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("orientation, upright", [
    (1, lambda a: a), (2, lambda a: a[:, ::-1]), (3, lambda a: a[::-1, ::-1]), (4, lambda a: a[::-1]),
    (5, lambda a: a.swapaxes(0, 1)), (6, lambda a: np.rot90(a, -1)),
    (7, lambda a: a[::-1, ::-1].swapaxes(0, 1)), (8, lambda a: np.rot90(a)),
])  # fmt: skip
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_the_orientation_of_the_camera_is_applied(orientation, upright, suffix, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(Image.fromarray(PICTURE), tmp_path / f"x{suffix}", exif=exif, lossless=True)
    np.testing.assert_array_equal(pixels(path), upright(PICTURE))


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_a_tag_of_another_type_does_not_hide_the_orientation(suffix, tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    odd = exif.tobytes().replace(b"\x01\x0f\x00\x02", b"\x01\x1a\x00\x02")  # a resolution that is text
    path = saved(Image.fromarray(PICTURE), tmp_path / f"x{suffix}", exif=odd, lossless=True)
    np.testing.assert_array_equal(pixels(path), np.rot90(PICTURE, -1))


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "LA", "RGBA"])
def test_every_mode_becomes_the_rgb_that_pillow_makes_of_it(mode, tmp_path):
    image = Image.fromarray(PICTURE).convert(mode)
    found = pixels(saved(image, tmp_path / "x.png"))
    np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))
    assert (found.dtype, found.shape) == (np.uint8, (5, 7, 3))


def test_alpha_is_dropped_and_not_blended(tmp_path):
    image = np.concatenate([PICTURE, np.zeros((5, 7, 1), np.uint8)], -1)
    np.testing.assert_array_equal(pixels(saved(Image.fromarray(image), tmp_path / "x.png")), PICTURE)


def test_a_transparent_palette_is_rgb_without_a_warning(tmp_path, recwarn):
    image = Image.fromarray(PICTURE).quantize(8)
    path = saved(image, tmp_path / "x.png", transparency=bytes([0, 128] * 4))
    np.testing.assert_array_equal(pixels(path), np.asarray(image.convert("RGB")))
    assert not recwarn.list


def test_print_colours_become_screen_colours(tmp_path):
    path = saved(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), tmp_path / "x.jpg", quality=100)
    assert np.abs(pixels(path).astype(int) - (0, 255, 255)).max() <= 2  # JPEG rounds


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("values", [
    [0, 257, 65535], [0, 128, 65534, 65535, 300], [0, 1, 200, 255], [0, 0, 0],
], ids=["exact", "rounded", "dark", "black"])  # fmt: skip
def test_sixteen_bits_become_the_nearest_of_eight(suffix, values, tmp_path):
    grey = np.array([values], np.uint16)
    found = pixels(saved(Image.fromarray(grey), tmp_path / f"x{suffix}"))
    np.testing.assert_array_equal(found, np.repeat(np.rint(grey / 257)[..., None], 3, -1))


def test_thirty_two_bits_do_not_wrap_around(tmp_path):
    grey = np.array([[0, 65535, 65536, 1 << 20]], np.int32)
    found = pixels(saved(Image.fromarray(grey), tmp_path / "x.tif"))[0, :, 0]
    assert (np.diff(found.astype(int)) >= 0).all() and found[-1] == 255


def test_the_first_of_several_pages_is_taken(tmp_path):
    first = Image.fromarray(PICTURE)
    path = saved(first, tmp_path / "x.tif", save_all=True, append_images=[Image.new("RGB", (3, 3))])
    np.testing.assert_array_equal(pixels(path), PICTURE)


# What is no photograph


def refusal(function, *arguments):
    with pytest.raises(UsageError) as raised:
        function(*arguments)
    return raised.value


@pytest.mark.parametrize("content", [b"", b"holiday in Rome", b"<html></html>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
@pytest.mark.parametrize("name", ["holiday.jpg", "holiday.png"])
def test_a_file_that_is_no_image_is_named(content, name, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    error = refusal(images.decode, path)
    assert str(path) in error.what and error.found and "take it out" in error.next


def test_a_file_that_went_away_is_named(tmp_path):
    assert "gone.png" in refusal(images.decode, tmp_path / "gone.png").what


FORMATS = [".jpg", ".png", ".webp", ".bmp", ".tif"]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_truncated_image_is_refused(suffix, share, tmp_path):
    path = saved(photograph("chelsea.png"), tmp_path / f"x{suffix}")
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert str(path) in refusal(images.decode, path).what


@pytest.mark.filterwarnings("ignore")  # Pillow's, of damaged TIFF tags
@pytest.mark.parametrize("suffix", FORMATS)
def test_damaged_bytes_are_an_image_or_a_refusal_but_never_a_traceback(suffix, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(Image.fromarray(PICTURE), tmp_path / f"x{suffix}", **({} if suffix == ".bmp" else {"exif": exif}))
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            assert images.decode(path).mode == "RGB"
        except UsageError as error:
            assert error.found
            refused += 1
    assert refused


def bomb(path, width, height):
    """A PNG of a few bytes that claims to be of this size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("limit", [Image.MAX_IMAGE_PIXELS, None])
@pytest.mark.parametrize("size", [(13378, 13378), (100_000, 100_000)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(limit, size, tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert size[0] * size[1] > images.MAX_PIXELS
    error = refusal(images.decode, bomb(tmp_path / "x.png", *size))
    assert "too large" in error.what and "pixels" in error.found


def test_a_large_image_below_the_limit_is_no_bomb(tmp_path, recwarn):
    error = refusal(images.decode, bomb(tmp_path / "x.png", 10_000, 9_500))  # Pillow warns above 89 megapixels
    assert "not an image" in error.what and not recwarn.list


# Folders


def test_images_are_found_by_suffix_in_any_depth_and_sorted(tmp_path):
    for name in ("b.JPG", "a/c.png", "a/d/e.webp", "f.tiff", "g.txt", ".DS_Store", "h.jpg.part"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found = [str(path.relative_to(tmp_path)) for path in images.files(tmp_path)]
    assert found == ["a/c.png", "a/d/e.webp", "b.JPG", "f.tiff"]


@pytest.mark.parametrize("make, says", [
    (lambda folder: None, "no such folder"),
    (lambda folder: folder.mkdir(), "an empty folder"),
    (lambda folder: (folder.mkdir(), *((folder / n).touch() for n in ("a.txt", "b.gif"))), "2 files, none"),
    (lambda folder: folder.write_text("a file"), "a file"),
])  # fmt: skip
def test_a_folder_without_images_is_refused(make, says, tmp_path):
    folder = tmp_path / "photographs"
    make(folder)
    error = refusal(images.files, folder)
    assert says in error.found and str(folder) in error.what and "IMAGES=" in error.next


def test_a_name_that_no_folder_can_have_is_refused(tmp_path):
    assert refusal(images.files, tmp_path / ("a" * 300)).found == "no such folder"


@pytest.mark.parametrize("make, says", [
    (lambda path: os.mkfifo(path), "a pipe"),
    (lambda path: path.symlink_to("nowhere"), "a link to nowhere, which does not exist"),
    (lambda path: path.touch(), "a file"),
])  # fmt: skip
def test_what_is_no_folder_is_named_for_what_it_is(make, says, tmp_path):
    make(tmp_path / "x")
    with pytest.raises(UsageError, match="is not a folder") as caught:
        images.files(tmp_path / "x")
    assert caught.value.found == says
    (tmp_path / "x").unlink()
    (tmp_path / "folder").mkdir()
    make(tmp_path / "folder" / "x.png")
    if says != "a file":
        with pytest.raises(UsageError, match="there are no images") as caught:
            images.files(tmp_path / "folder")
        assert "x.png" in caught.value.found and says in caught.value.found


def test_an_image_that_would_be_huge_once_its_shorter_side_fits_is_refused():
    long = Image.new("RGB", (1, 1_000_000))
    with pytest.raises(UsageError, match="too long") as caught:
        images.preprocess(long, Preprocessing((32, 32), (0.5,) * 3, (0.5,) * 3))
    assert "32x32000000" in caught.value.found
