"""The warp on a device against the one of OpenCV, and the feed of resident images against the images."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training_jobs import model_config, pack_digits

from pipeline.augment.affine import affine_matrices, draw_matrices, fit_matrices
from pipeline.augment.device_warp import warp_flat
from pipeline.augment.views import view_matrices
from pipeline.augment.warp import warp_batch
from pipeline.cells import Cell
from pipeline.config.model import AugmentConfig, TtaConfig
from pipeline.data.store import Packed, open_packed
from pipeline.stages.predict import PredictJob, _feed
from pipeline.training import resident
from pipeline.training.feed import Images
from pipeline.training.resident import ResidentImages, placed, resident_pixels

DEEP_SEA = AugmentConfig(rotation=180, translation=10 / 95, zoom=1.6, shear=20, stretch=1.3, flip=0.5)
SHAPES = [(1, 1), (1, 9), (7, 1), (2, 2), (5, 3), (31, 47), (64, 64), (97, 20), (13, 120)]
GUARD = 255             # what lies between the images of the buffer: any of it in a result shows


def flat(images: list[np.ndarray], *, before: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Buffer and extents of the images, with `before` guard bytes in front of each and behind the last."""
    guard = np.full(before, GUARD, np.uint8)
    parts, extents, end = [guard], [], before
    for image in images:
        extents.append((end, *image.shape[:2]))
        parts += [image.ravel(), guard]
        end += image.size + before
    return torch.from_numpy(np.concatenate(parts)), torch.tensor(extents)


def warped(images: list[np.ndarray], matrices: np.ndarray, *, canvas: int) -> np.ndarray:
    pixels, extents = flat(images)
    return warp_flat(pixels, extents, matrices=torch.from_numpy(matrices), canvas=canvas,
                     channels=images[0].shape[2]).numpy()


def noise(channels: int, *, repeats: int = 4) -> list[np.ndarray]:
    rng = np.random.default_rng(channels)
    return [rng.integers(0, 256, (*shape, channels), np.uint8) for shape in SHAPES * repeats]


def deep_sea(images: list[np.ndarray], *, canvas: int, fit: str = "longest", fill: float = 0.9) -> np.ndarray:
    shapes = np.array([image.shape[:2] for image in images])
    drawn = draw_matrices(np.random.default_rng(0), len(images), augment=DEEP_SEA, canvas=canvas)
    return drawn @ fit_matrices(shapes, canvas, fit=fit, fill=fill)


def exact(image: np.ndarray, matrix: np.ndarray, *, canvas: int) -> np.ndarray:
    """The law in float64, pixel by pixel."""
    inverse, found = np.linalg.inv(matrix), np.zeros((canvas, canvas, image.shape[2]))
    for v in range(canvas):
        for u in range(canvas):
            x, y, _ = inverse @ (u, v, 1)
            for row in (int(np.floor(y)), int(np.floor(y)) + 1):
                for column in (int(np.floor(x)), int(np.floor(x)) + 1):
                    if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
                        found[v, u] += (1 - abs(y - row)) * (1 - abs(x - column)) * image[row, column]
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_the_bilinear_law_with_a_border_of_zero(channels: int) -> None:
    images = noise(channels, repeats=1)
    matrices = deep_sea(images, canvas=17)
    found = warped(images, matrices, canvas=17)
    assert found.shape == (len(images), 17, 17, channels)
    assert found.dtype == np.uint8
    for image, matrix, pixels in zip(images, matrices, found, strict=True):
        assert np.abs(pixels - exact(image, matrix, canvas=17)).max() <= 0.5 + 0.02     # rounding, float32 coordinates


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("fit", "fill"), [("longest", 0.9), ("stretch", 1.0), ("fixed", 0.5)])
def test_it_follows_opencv_under_deep_seas_ranges(channels: int, fit: str, fill: float) -> None:
    """OpenCV may round coordinates to 1/32 px: on noise, two axes of 1/64 px move a pixel by 255/32 at most."""
    images = noise(channels)
    matrices = deep_sea(images, canvas=48, fit=fit, fill=fill)
    gaps = np.abs(warped(images, matrices, canvas=48).astype(int) - warp_batch(images, matrices, canvas=48))
    assert gaps.max() <= 255 / 32 + 1
    assert gaps.mean() <= 1


def test_it_follows_opencv_within_a_grey_level_on_smooth_images() -> None:
    """A slope of 2 levels per px and a frame of zeros: 1/64 px on each axis move it by 1/16, which rounding may tip."""
    images = []
    for height, width in SHAPES[5:]:
        y, x = np.mgrid[:height, :width]
        depth = np.minimum.reduce([y, x, height - 1 - y, width - 1 - x])
        images.append((2 * depth).astype(np.uint8)[..., None])
    matrices = deep_sea(images, canvas=48, fit="fixed", fill=1.0)
    gaps = np.abs(warped(images, matrices, canvas=48).astype(int) - warp_batch(images, matrices, canvas=48))
    assert gaps.max() <= 1


@pytest.mark.parametrize("kind", ["identity", "flips", "dihedral"])
@pytest.mark.parametrize("channels", [1, 3])
def test_turns_and_mirrors_are_exact(kind: str, channels: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (12, 12, channels), np.uint8)
    views = view_matrices(TtaConfig(kind=kind), augment=DEEP_SEA, canvas=12)
    dihedral = [np.rot90(mirrored, turns) for mirrored in (image, image[:, ::-1]) for turns in range(4)]
    expected = {"identity": [0], "flips": [0, 4, 6, 2], "dihedral": range(8)}[kind]
    assert (warped([image] * len(views), views, canvas=12) == np.stack([dihedral[i] for i in expected])).all()


def test_quarter_turns_through_sines_and_cosines_are_exact() -> None:
    image = np.random.default_rng(2).integers(0, 256, (33, 33, 1), np.uint8)
    one, zero = np.ones(4), np.zeros(4)
    turns = affine_matrices(canvas=33, rotation=np.array([0.0, 90.0, 180.0, 270.0]), shear=zero, zoom=one, stretch=one,
                            flip=zero > 0, dx=zero, dy=zero)
    assert (warped([image] * 4, turns, canvas=33) == np.stack([np.rot90(image, k) for k in range(4)])).all()


def test_whole_shifts_are_exact_and_leave_zeros_behind() -> None:
    image = np.random.default_rng(3).integers(1, 256, (10, 8, 3), np.uint8)
    matrix = np.array([[1.0, 0, 4], [0, 1, -3], [0, 0, 1]])
    expected = np.zeros((16, 16, 3), np.uint8)
    expected[:7, 4:12] = image[3:]
    assert (warped([image], matrix[None], canvas=16)[0] == expected).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_no_neighbour_in_the_buffer_leaks_in(channels: int) -> None:
    """Black images between guards of 255 stay black, whatever the map; so does what lies far outside."""
    images = [np.zeros((*shape, channels), np.uint8) for shape in SHAPES]
    for fill in (0.05, 0.9, 16.0):
        assert not warped(images, deep_sea(images, canvas=24, fill=fill), canvas=24).any()
    far = np.tile(np.diag([1.0, 1.0, 1.0]), (len(images), 1, 1))
    far[:, :2, 2] = 1e12
    assert not warped(images, far, canvas=8).any()


@pytest.mark.parametrize("before", [0, 3])
def test_an_image_at_either_end_of_the_buffer_reads_nothing_beyond(before: int) -> None:
    image = np.random.default_rng(4).integers(0, 256, (6, 5, 1), np.uint8)
    pixels, extents = flat([image], before=before)
    matrices = deep_sea([image] * 64, canvas=20)
    found = warp_flat(pixels, extents.expand(64, 3), matrices=torch.from_numpy(matrices), canvas=20, channels=1)
    assert found.any()
    assert (found.numpy() == warped([image] * 64, matrices, canvas=20)).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_equals_its_images_one_by_one(channels: int) -> None:
    images = noise(channels, repeats=2)
    matrices = deep_sea(images, canvas=21)
    alone = [warped([image], matrix[None], canvas=21)[0] for image, matrix in zip(images, matrices, strict=True)]
    assert (warped(images, matrices, canvas=21) == np.stack(alone)).all()


def test_offsets_may_pass_two_gibibytes() -> None:
    image = np.random.default_rng(5).integers(0, 256, (9, 9, 3), np.uint8)
    start = 2**32 + 12_345
    buffer = np.zeros(start + image.size, np.uint8)             # zeros that nobody reads take no memory
    buffer[start:] = image.ravel()
    found = warp_flat(torch.from_numpy(buffer), torch.tensor([[start, 9, 9]]), matrices=torch.eye(3).double()[None],
                      canvas=9, channels=3)
    assert (found[0].numpy() == image).all()


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    return open_packed(pack_digits(tmp_path_factory.mktemp("resident") / "packed"))


@pytest.fixture(autouse=True)
def _no_store_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "_stores", {})


def feeds(digits: Packed, **changes: object) -> tuple[Images, ResidentImages]:
    config = model_config(canvas=24, augment=DEEP_SEA.model_dump(), **changes)
    views = view_matrices(TtaConfig(kind="crops"), augment=DEEP_SEA, canvas=24)
    side = np.random.default_rng(0).random((len(digits.table), 5), np.float32)
    images = Images(digits, config, views, side)
    return images, ResidentImages(images, "cpu")


def test_resident_batches_are_the_images_with_the_same_draws(digits: Packed) -> None:
    images, held = feeds(digits, scales=[{"fit": "fixed", "fill": 1.5}])
    rows = np.random.default_rng(1).permutation(500)[:70]
    ours, theirs = np.random.default_rng(7), np.random.default_rng(7)
    found = list(held.drawn(rows, ours, batch=32))
    expected = [tuple(part.copy() for part in inputs) for inputs in images.drawn(rows, theirs, batch=32, buffers=1)]
    assert ours.random() == theirs.random()
    assert [len(pixels) for pixels, _ in found] == [32, 32, 6]
    for (pixels, side), (their_pixels, their_side) in zip(found, expected, strict=True):
        assert pixels.dtype == torch.uint8
        assert pixels.shape == (*their_pixels.shape[:3], 2)
        gaps = np.abs(pixels.numpy().astype(int) - their_pixels)
        assert gaps.max() <= 255 / 32 + 1
        assert gaps.mean() <= 1
        assert (side.numpy() == their_side).all()


def test_drawing_uses_up_the_generator_before_the_first_batch(digits: Packed) -> None:
    _, held = feeds(digits)
    one, two = np.random.default_rng(3), np.random.default_rng(3)
    held.drawn(np.arange(20), one, batch=8)
    draw_matrices(two, 20, augment=DEEP_SEA, canvas=24)
    assert one.random() == two.random()


def test_resident_views_are_those_of_the_images(digits: Packed) -> None:
    images, held = feeds(digits)
    assert (held.n_views, held.starts_plain) == (images.n_views, images.starts_plain) == (10, False)
    rows = np.array([9, 2, 77])
    for view in (None, 0, 9):
        found = torch.cat([pixels for pixels, _ in held.view(rows, view, batch=2)]).numpy()
        expected = np.concatenate([pixels.copy() for pixels, _ in images.view(rows, view, batch=2)])
        assert np.abs(found.astype(int) - expected).max() <= 255 / 32 + 1
    plain = replace(images, matrices=np.eye(3)[None])
    assert ResidentImages(plain, "cpu").starts_plain


def test_no_rows_are_no_batches(digits: Packed) -> None:
    assert list(feeds(digits)[1].view(np.arange(0), None, batch=4)) == []


def test_pixels_move_once_per_store_and_device(digits: Packed, tmp_path: Path) -> None:
    first = resident_pixels(digits, "cpu")
    assert (first.numpy() == digits.pixels).all()
    assert resident_pixels(open_packed(pack_digits(tmp_path / "again")), "cpu") is first      # the same digest
    other = replace(digits, pixels=255 - digits.pixels, digest="another")
    assert (resident_pixels(other, "cpu").numpy() == 255 - digits.pixels).all()
    assert list(resident._stores) == ["cpu"]
    again = resident_pixels(digits, "cpu")
    assert again is not first
    assert (again == first).all()


def test_only_a_gpu_with_room_holds_the_store(digits: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    images, _ = feeds(digits)
    assert placed(images, "cpu") is images
    enough = 16 * len(digits.pixels)
    for memory, expected in [(enough, ResidentImages(images, "cuda:0")), (enough - 1, images)]:
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, m=memory: SimpleNamespace(total_memory=m))
        assert placed(images, "cuda:0") == expected


def test_predictions_are_warped_on_the_gpu_too(digits: Packed, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(total_memory=16 * len(digits.pixels))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: memory)
    images, _ = feeds(digits)
    asked = PredictJob(
        weights=[], fold_digest="", classes=digits.classes, config=images.config, matrices=images.matrices,
        cell=Cell(0, 0, 0, np.arange(3), np.arange(3)), features=Path(), device="cuda:0", side=None, frozen=[],
    )
    assert isinstance(_feed(asked, digits), ResidentImages)
    assert isinstance(_feed(replace(asked, device="cpu"), digits), Images)
