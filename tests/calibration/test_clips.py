import numpy as np
from PIL import Image

from calibration import images
from exporter.types import Preprocessing

HOW = Preprocessing((32, 32), (0.5,) * 3, (0.25,) * 3, "bilinear", crop_pct=0.5, frames=4)


def picture(width, height):
    """Every column has a grey of its own."""
    return Image.fromarray(np.repeat(np.tile(np.arange(width, dtype=np.uint8), (height, 1))[..., None], 3, 2))


def columns(clip):
    """The first grey of every frame, unscaled."""
    return np.rint((clip[0, :, 0, 0] * 0.25 + 0.5) * 255).tolist()


def test_a_clip_is_a_camera_that_moves_two_pixels_a_frame_about_the_centre():
    clip = images.preprocess(picture(64, 64), HOW)
    assert clip.shape == HOW.shape == (3, 4, 32, 32) and clip.flags.c_contiguous and HOW.layout == "NCTHW"
    assert columns(clip) == [16 - 3, 16 - 1, 16 + 1, 16 + 3]
    still = Preprocessing((32, 32), (0.5,) * 3, (0.25,) * 3, "bilinear", crop_pct=0.5)
    middle = images.preprocess(picture(64, 64), still)
    np.testing.assert_array_equal(clip[:, 2, :, :-1], middle[..., 1:])


def test_it_stops_where_the_image_ends():
    narrow = Preprocessing((32, 32), (0.5,) * 3, (0.25,) * 3, "bilinear", crop_pct=1.0, frames=4)
    assert columns(images.preprocess(picture(32, 32), narrow)) == [0] * 4
    assert columns(images.preprocess(picture(34, 32), narrow)) == [0, 0, 2, 2]
