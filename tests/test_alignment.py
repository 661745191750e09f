"""What makes two warped frames lie on each other."""

import numpy as np
import pytest

from ov_film.alignment import agreed, displacement, mean_around
from tests.graphs import computed


def texture(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A grey picture (1,1,h,w) that is known between its pixels too."""
    waves = (np.sin(x * 0.25 + y * 0.1) + np.sin(y * 0.3 - x * 0.15 + 1) + np.sin(x * 0.08 + y * 0.05 + 2)) / 8
    return (0.5 + waves)[np.newaxis, np.newaxis].astype(np.float32)


@pytest.mark.parametrize("precision", ["f32", "bf16"])
@pytest.mark.parametrize(("time", "shift"), [(0.5, (0.3, -0.2)), (0.25, (-0.1, 0.4)), (0.9, (0.5, 0.5))])
def test_the_displacement_of_a_shifted_picture_is_its_shift(time: float, shift: tuple[float, float],
                                                            precision: str) -> None:
    y, x = np.mgrid[:48, :64].astype(np.float64)
    # At the frame's own place the first image shows what lies time * shift ahead, and the last what lies behind.
    first = texture(x + time * shift[0], y + time * shift[1])
    last = texture(x - (1 - time) * shift[0], y - (1 - time) * shift[1])
    found, = computed(displacement, first, last, precision=precision)
    assert found.shape == (1, 48, 64, 2)
    assert np.abs(found[0, 6:-6, 6:-6] - shift).max() < 0.02


def test_nothing_is_displaced_where_images_are_equal_or_plain() -> None:
    y, x = np.mgrid[:32, :32].astype(np.float64)
    picture = texture(x, y)
    assert np.all(computed(displacement, picture, picture)[0] == 0)
    plain = np.full_like(picture, 0.5)
    assert np.all(computed(displacement, plain, plain + np.float32(0.1))[0] == 0)


def test_no_displacement_is_larger_than_two_pixels() -> None:
    rng = np.random.default_rng(0)
    noise = [rng.random((1, 1, 32, 32), np.float32) for _ in range(2)]
    found, = computed(displacement, *noise)
    assert np.isfinite(found).all() and np.abs(found).max() <= 2


def test_flows_that_nearly_are_opposite_become_so_and_others_stay() -> None:
    forward = np.zeros((1, 2, 4, 4), np.float32)
    backward = np.zeros_like(forward)
    forward[0, 0, :2], backward[0, 0, :2] = 5.1, -4.9
    forward[0, 0, 2:], backward[0, 0, 2:] = 5, 9
    there, back = computed(agreed, forward, backward)
    assert np.abs(there + back)[0, 0, :2].max() < 0.01 and np.abs(there[0, 0, :2] - 5).max() < 0.01
    assert np.array_equal(there[0, 0, 2:], forward[0, 0, 2:]) and np.array_equal(back[0, 0, 2:], backward[0, 0, 2:])


def test_the_mean_around_a_pixel_leaves_out_what_is_no_frame() -> None:
    values = np.random.default_rng(0).random((1, 2, 20, 15), np.float32)
    found, = computed(mean_around, values)
    assert np.allclose(found[0, :, 10, 7], values[0, :, 6:15, 3:12].mean((1, 2)), atol=1e-6)
    assert np.allclose(found[0, :, 0, 0], values[0, :, :5, :5].mean((1, 2)), atol=1e-6)
