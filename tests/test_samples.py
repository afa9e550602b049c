"""What parity is measured on: which photographs, and which of them run together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from exporter import registry, samples
from exporter.errors import UsageError
from exporter.types import Batch

STEADY = settings(deadline=None, derandomize=True)
RECIPE = registry.recipe("vit_ti").at((32, 48))


@st.composite
def profiles(draw):
    low, opt, high = sorted(draw(st.tuples(*[st.integers(1, 40)] * 3)))
    return Batch(low, opt, high)


counts = st.integers(1, 70)


@STEADY
@given(counts, profiles())
def test_every_row_runs_and_no_other(count, batch):
    plan = samples.schedule(count, batch)
    assert {int(i) for rows in plan for i in rows} == set(range(count))
    assert all(rows.dtype == np.int64 and rows.ndim == 1 for rows in plan)


@STEADY
@given(counts, profiles())
def test_batches_begin_with_the_least_an_odd_one_and_the_most_and_fit_the_profile(count, batch):
    sizes = [len(rows) for rows in samples.schedule(count, batch)]
    first = list(dict.fromkeys((batch.min, samples.odd(batch), batch.max)))
    assert sizes[: len(first)] == first
    assert set(sizes[len(first) :]) <= {batch.max}


@STEADY
@given(counts, profiles())
def test_no_batch_is_run_that_shows_nothing_new(count, batch):
    plan = samples.schedule(count, batch)
    wanted = len({batch.min, samples.odd(batch), batch.max})
    before = {int(i) for rows in plan[:-1] for i in rows}
    assert len(plan) <= wanted or before != set(range(count))


@STEADY
@given(counts, profiles())
def test_the_schedule_is_the_same_every_time(count, batch):
    np.random.seed(None)
    first, second = samples.schedule(count, batch), samples.schedule(count, batch)
    assert [rows.tolist() for rows in first] == [rows.tolist() for rows in second]


@STEADY
@given(profiles())
def test_the_odd_batch_is_odd_where_the_profile_has_one_above_one(batch):
    found = samples.odd(batch)
    assert batch.min <= found <= batch.max
    assert (found % 2 == 1 and found > 1) == any(n % 2 for n in range(max(batch.min, 2), batch.max + 1))


@pytest.mark.parametrize("batch, odd", [
    (Batch(1, 8, 32), 3), (Batch(1, 1, 1), 1), (Batch(1, 1, 2), 2), (Batch(2, 2, 2), 2),
    (Batch(4, 4, 4), 4), (Batch(4, 8, 16), 5), (Batch(5, 8, 16), 5), (Batch(3, 3, 3), 3),
])  # fmt: skip
def test_the_odd_batch_of_known_profiles(batch, odd):
    assert samples.odd(batch) == odd


@STEADY
@given(st.integers(8, 70), st.integers(8, 40))
def test_rows_are_shuffled(count, most):
    plan = samples.schedule(count, Batch(1, 2, most))
    assert all(rows.tolist() != sorted(rows.tolist()) for rows in plan if len(rows) >= 8)
    assert np.concatenate(plan)[:count].tolist() != list(range(count))


@STEADY
@given(st.integers(1, 3), st.integers(8, 40))
def test_few_samples_fill_a_large_batch_by_repetition(count, most):
    rows = samples.schedule(count, Batch(1, 2, most))[-1]
    assert len(rows) == most and set(rows.tolist()) <= set(range(count))


def by_position(pixels):
    return pixels + np.arange(len(pixels))[:, None]


def by_batch(pixels):
    return pixels + pixels.mean(0)


def of_the_first(pixels):
    return np.repeat(pixels[:1], len(pixels), 0)


@pytest.mark.parametrize("wrong", [by_position, by_batch, of_the_first, np.sort, lambda x: np.sort(x, 0)])
@pytest.mark.parametrize("batch", [Batch(1, 2, 5), Batch(1, 8, 32), Batch(1, 1, 2), Batch(4, 4, 4)], ids=str)
@pytest.mark.parametrize("count", [4, 8, 64])
def test_a_graph_that_mixes_rows_gives_another_answer(wrong, batch, count):
    pixels = np.random.default_rng(0).standard_normal((count, 6))
    assert any(not np.array_equal(wrong(pixels[rows]), pixels[rows]) for rows in samples.schedule(count, batch))


# Photographs and noise


def test_the_shipped_photographs_are_all_there():
    assert [path.name for path in samples.paths(None)] == list(samples.PHOTOGRAPHS)


def test_without_scikit_image_the_command_to_install_is_said(monkeypatch):
    monkeypatch.setattr(samples.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="not installed") as raised:
        samples.paths(None)
    assert "IMAGES=" in raised.value.next


def folder_of(count, folder):
    for i in range(count):
        (folder / f"{i:03}.png").touch()
    return folder


@pytest.mark.parametrize("count", [1, 63, 64, 65, 130, 1000])
def test_a_large_folder_is_used_evenly_from_its_first_file_to_its_last(count, tmp_path):
    numbers = [int(path.stem) for path in samples.paths(folder_of(count, tmp_path))]
    assert len(numbers) == len(set(numbers)) == min(count, 64)
    assert (numbers[0], numbers[-1], numbers) == (0, count - 1, sorted(numbers))
    steps = np.diff(numbers)
    assert not steps.size or steps.max() - steps.min() <= 1


def pictures(folder, *colours):
    for i, colour in enumerate(colours):
        Image.new("RGB", (64, 48), colour).save(folder / f"{i}.png")
    return samples.paths(folder)


def test_photographs_come_first_and_noise_last(tmp_path):
    found = samples.load(RECIPE, pictures(tmp_path, "black", "white"))
    assert found.names == ("0.png", "1.png", "noise 0", "noise 1")
    assert (found.pixels.shape, found.pixels.dtype) == ((4, 3, 32, 48), np.float32)
    assert found.pixels[0].mean() < 0 < found.pixels[1].mean()
    noise = found.pixels[2:]
    assert abs(noise.mean()) < 0.05 and abs(noise.std() - 1) < 0.05 and not np.array_equal(*noise)


def test_noise_is_the_same_every_time_whatever_the_photographs(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir(), two.mkdir()
    np.random.seed(None)
    first = samples.load(RECIPE, pictures(one, "red")).pixels[-2:]
    np.testing.assert_array_equal(first, samples.load(RECIPE, pictures(two, "red", "blue")).pixels[-2:])


def test_a_photograph_that_cannot_be_read_stops_the_build(tmp_path):
    paths = pictures(tmp_path, "red", "blue")
    paths[1].write_text("not a picture")
    with pytest.raises(UsageError, match=r"1\.png"):
        samples.load(RECIPE, paths)


def test_the_fingerprint_follows_the_content_and_the_order(tmp_path, monkeypatch):
    paths = pictures(tmp_path, "red", "blue")
    first = samples.fingerprint(paths)
    assert first == samples.fingerprint(list(paths))
    found = {first, samples.fingerprint(paths[::-1]), samples.fingerprint(paths[:1])}
    Image.new("RGB", (64, 48), "green").save(paths[0])
    found.add(samples.fingerprint(paths))
    monkeypatch.setattr(samples, "NOISE_ROWS", 3)
    found.add(samples.fingerprint(paths))
    assert len(found) == 5


def test_without_noise_the_last_rows_take_no_part():
    rows = np.concatenate(samples.schedule(8, Batch(1, 4, 8), noise=False))
    assert set(rows.tolist()) == set(range(8 - samples.NOISE_ROWS))


def test_a_recipe_with_images_of_its_own_is_judged_on_them_unless_the_user_gives_others(tmp_path):
    recipe = registry.recipe("vit_digits")
    assert samples.paths(None, recipe) == [] and samples.paths(None, RECIPE)
    found = samples.load(recipe, [])
    own = next(recipe.held_out(recipe))[0]
    np.testing.assert_array_equal(found.pixels[0], own)
    assert found.names[0] == "held-out image 0" and found.names[-1] == "noise 1"
    pictures(tmp_path, "black")
    assert samples.paths(tmp_path, recipe)
