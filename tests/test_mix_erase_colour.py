"""Changes of a batch of tensors: mixup and CutMix, random erasing, colour; their laws, and torchvision's colours."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms.v2 import functional as TV

from pipeline.augment import colour
from pipeline.augment.colour import OPERATIONS, apply_colour, colour_matrices, vary_colour
from pipeline.augment.erase import erase
from pipeline.augment.mix import mix_batch
from pipeline.config.model import ColourConfig, EraseConfig, MixConfig

CHANGES: dict[str, Callable[[torch.Tensor, np.random.Generator], torch.Tensor]] = {
    "mixup": lambda x, rng: mix_batch(x, torch.eye(len(x)), config=MixConfig(mixup=1.0), rng=rng)[0],
    "cutmix": lambda x, rng: mix_batch(x, torch.eye(len(x)), config=MixConfig(cutmix=1.0), rng=rng)[0],
    "erase": lambda x, rng: erase(x, config=EraseConfig(probability=1.0), rng=rng),
    "colour": lambda x, rng: vary_colour(x, config=ColourConfig(), rng=rng),
}


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pictures(n: int, channels: int, side: int, *, scale: float = 1.0) -> torch.Tensor:
    """Noise in [0, scale), `(n, C, S, S)`, with the strides of batches."""
    values = generator(7).random((n, side, side, channels), dtype=np.float32)
    return torch.from_numpy(values * np.float32(scale)).permute(0, 3, 1, 2)


@pytest.mark.parametrize(("name", "channels"), [
    (name, channels) for name in CHANGES for channels in (1, 2, 3, 6) if name != "colour" or channels % 3 == 0])
def test_a_change_keeps_strides_and_leaves_its_input(name: str, channels: int) -> None:
    images = pictures(8, channels, 12, scale=255)
    before, state = images.clone(), torch.get_rng_state()
    changed = CHANGES[name](images, generator())
    assert torch.equal(images, before)
    assert (changed.shape, changed.stride(), changed.dtype) == (images.shape, images.stride(), images.dtype)
    assert not torch.equal(changed, images)
    assert torch.equal(torch.get_rng_state(), state)                      # no draws from torch's own generator


@pytest.mark.parametrize("name", CHANGES)
def test_the_generator_decides(name: str) -> None:
    images = pictures(8, 3, 12, scale=255)
    one, again, other = (CHANGES[name](images, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


# --- mix ---------------------------------------------------------------------------------------------------------

def numbered(n: int, *, side: int = 12) -> torch.Tensor:
    """Image b is b everywhere, `(n, 1, side, side)`."""
    return torch.arange(n, dtype=torch.float32).view(n, 1, 1, 1).expand(n, 1, side, side).contiguous()


@pytest.mark.parametrize("config", [MixConfig(mixup=0.4), MixConfig(cutmix=1.0), MixConfig(mixup=1.0, cutmix=1.0)])
def test_targets_are_mixed_as_pixels_are(config: MixConfig) -> None:
    for seed in range(4):
        images, targets = mix_batch(numbered(32), torch.eye(32), config=config, rng=generator(seed))
        torch.testing.assert_close(images.mean(dim=(1, 2, 3)), targets @ torch.arange(32.0), atol=1e-4, rtol=0)
        torch.testing.assert_close(targets.sum(dim=1), torch.ones(32))
        assert ((targets > 0).sum(dim=1) <= 2).all()
        assert ((targets > 0).sum(dim=0) <= 2).all()                      # every image is a partner once


def own_shares(config: MixConfig, *, n: int = 4000, side: int = 12) -> np.ndarray:
    """Share of each image's own label, where its partner is another."""
    targets = mix_batch(numbered(n, side=side), torch.eye(n), config=config, rng=generator())[1].numpy()
    own = np.diagonal(targets)
    return own[(targets > 0).sum(axis=1) == 2]


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_mixup_draws_from_the_beta_law_for_each_image(alpha: float) -> None:
    shares = own_shares(MixConfig(mixup=alpha), side=1)
    shares = shares[(shares > 1e-6) & (shares < 1 - 1e-6)]                # beyond float32 near 1, whatever the law
    law = stats.beta(alpha, alpha)
    low, high = law.cdf(1e-6), law.cdf(1 - 1e-6)
    assert stats.kstest(shares, lambda x: (law.cdf(x) - low) / (high - low)).pvalue > 0.01


def test_mixup_blends_every_pixel_alike() -> None:
    images = mix_batch(numbered(16), torch.eye(16), config=MixConfig(mixup=1.0), rng=generator())[0]
    assert torch.equal(images.amin(dim=(1, 2, 3)), images.amax(dim=(1, 2, 3)))


def test_cutmix_pastes_one_rectangle_of_the_images_proportions() -> None:
    n, height, width = 400, 20, 40
    originals = torch.arange(n, dtype=torch.float32).view(n, 1, 1, 1).expand(n, 3, height, width).contiguous()
    images, targets = mix_batch(originals, torch.eye(n), config=MixConfig(cutmix=1.0), rng=generator())
    inside = 0
    for b in range(n):
        pasted = (images[b] != b).numpy()
        assert (pasted == pasted[:1]).all()                               # all channels alike
        rows, columns = np.flatnonzero(pasted[0].any(axis=1)), np.flatnonzero(pasted[0].any(axis=0))
        if not len(rows):
            continue
        assert pasted[0][rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1].all()
        assert pasted[0].sum() == len(rows) * len(columns)
        assert len(set(images[b][torch.from_numpy(pasted)].tolist())) == 1
        assert float(targets[b, b]) == pytest.approx(1 - len(rows) * len(columns) / (height * width), abs=1e-6)
        if rows[0] > 0 and rows[-1] < height - 1 and columns[0] > 0 and columns[-1] < width - 1:
            assert 0 <= len(columns) - 2 * len(rows) <= 1                 # both sides rounded down
            inside += 1
    assert inside > 50


def test_cutmix_without_a_cut_at_the_edge_has_the_area_of_its_share() -> None:
    shares = own_shares(MixConfig(cutmix=1.0), n=2000, side=24)
    sides = np.sqrt(generator(1).random(200_000))                         # alpha 1: areas are uniform; by simulation:
    centres = generator(2).random((2, 200_000))
    lengths = np.minimum(centres + sides / 2, 1) - np.maximum(centres - sides / 2, 0)
    assert shares.mean() == pytest.approx(1 - lengths.prod(axis=0).mean(), abs=0.05)     # rounding down: up to a pixel


def test_a_batch_is_mixed_with_the_probability() -> None:
    images, targets, rng = numbered(4), torch.eye(4), generator()
    config = MixConfig(mixup=1.0, probability=0.25)
    results = [mix_batch(images, targets, config=config, rng=rng) for _ in range(2000)]
    left = sum(mixed is images and labels is targets for mixed, labels in results)
    assert left / 2000 == pytest.approx(0.75, abs=0.04)


def test_kinds_that_are_on_take_turns_at_random() -> None:
    images, targets, rng = numbered(16), torch.eye(16), generator()
    config = MixConfig(mixup=5.0, cutmix=5.0)
    blends = [mix_batch(images, targets, config=config, rng=rng)[0] for _ in range(1000)]
    cut = sum(bool((x == x.round()).all()) for x in blends)
    assert cut / 1000 == pytest.approx(0.5, abs=0.06)


# --- erase -------------------------------------------------------------------------------------------------------

def rectangles(config: EraseConfig, *, n: int, height: int, width: int) -> np.ndarray:
    """Top, left, height and width of what was erased from each image that was, `(m, 4)`."""
    images = erase(torch.full((n, 2, height, width), 9.0), config=config, rng=generator())
    found = []
    for mask in (images != 9).numpy():
        if mask.any():
            assert (mask[0] == mask[1]).all()
            rows, columns = np.flatnonzero(mask[0].any(axis=1)), np.flatnonzero(mask[0].any(axis=0))
            assert mask[0].sum() == len(rows) * len(columns)                  # full: one rectangle
            found.append((rows[0], columns[0], len(rows), len(columns)))
    return np.array(found)


def test_erasing_takes_its_share_of_the_images() -> None:
    found = rectangles(EraseConfig(probability=0.3), n=3000, height=16, width=16)
    assert len(found) / 3000 == pytest.approx(0.3, abs=0.03)


def test_rectangles_have_the_laws_of_the_config() -> None:
    found = rectangles(EraseConfig(probability=1.0, area=(0.05, 0.25), aspect=2.0), n=1500, height=100, width=100)
    assert len(found) == 1500
    areas, aspects = found[:, 2:].prod(axis=1) / 100**2, found[:, 2] / found[:, 3]
    assert stats.kstest(areas, stats.uniform(0.05, 0.2).cdf).pvalue > 0.01
    assert stats.kstest(np.log(aspects), stats.uniform(-np.log(2), 2 * np.log(2)).cdf).pvalue > 0.01
    for start, length in ((0, 2), (1, 3)):
        places = (found[:, start] + 0.5) / (101 - found[:, length])
        assert stats.kstest(places, "uniform").pvalue > 0.01
        assert (found[:, start] + found[:, length] <= 100).all()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 60)])
def test_large_rectangles_fit_at_their_area(height: int, width: int) -> None:
    found = rectangles(EraseConfig(probability=1.0, area=(0.6, 0.9), aspect=20), n=300, height=height, width=width)
    areas = found[:, 2:].prod(axis=1) / (height * width)
    assert areas.min() > 0.57
    assert areas.max() < 0.93


def test_erased_pixels_are_standard_normal_and_the_others_as_they_were() -> None:
    images = torch.full((64, 3, 24, 24), 50.0)
    erased = erase(images, config=EraseConfig(probability=1.0), rng=generator())
    noise = erased[erased != 50].numpy()
    assert stats.kstest(noise, "norm").pvalue > 0.01
    first = erased[0][:, (erased[0, 0] != 50)]
    assert len(torch.unique(first)) == first.numel()                      # another number for each pixel and channel


def test_nothing_chosen_is_nothing_copied() -> None:
    images = pictures(1, 1, 8)
    assert erase(images, config=EraseConfig(probability=1e-9), rng=generator()) is images


# --- colour ------------------------------------------------------------------------------------------------------

def strengths(n: int, **drawn: float) -> dict[str, np.ndarray]:
    return {name: np.full((n, 1), drawn.get(name, 0.0)) for name in OPERATIONS}


def changed(images: torch.Tensor, **drawn: float) -> torch.Tensor:
    return apply_colour(images, strengths(len(images), **drawn))


@pytest.mark.parametrize("strength", [-0.6, 0.4])
@pytest.mark.parametrize(
    ("name", "theirs"),
    [("brightness", TV.adjust_brightness), ("contrast", TV.adjust_contrast), ("saturation", TV.adjust_saturation)],
)
def test_linear_operations_are_torchvisions(name: str, theirs: Callable[..., torch.Tensor], strength: float) -> None:
    images = pictures(4, 3, 10, scale=255)
    expected = theirs(images / 255, 1 + strength) * 255
    torch.testing.assert_close(changed(images, **{name: strength}), expected, atol=0.05, rtol=0)   # their 0.2989 of red


@pytest.mark.parametrize(("strength", "bits"), [(0.25, 7), (-0.75, 5), (1.0, 4)])
def test_posterise_is_torchvisions_at_whole_bits(strength: float, bits: int) -> None:
    images = pictures(4, 3, 10, scale=256).floor()
    expected = TV.posterize(images.to(torch.uint8), bits).float()
    assert torch.equal(changed(images, posterise=strength), expected)


@pytest.mark.parametrize("strength", [-0.3, 0.8])
def test_solarise_is_torchvisions(strength: float) -> None:
    images = pictures(4, 3, 10, scale=255)
    expected = TV.solarize(images / 255, 1 - abs(strength)) * 255
    torch.testing.assert_close(changed(images, solarise=strength), expected, atol=1e-3, rtol=0)


def test_sharpness_moves_a_pixel_away_from_the_mean_around_it() -> None:
    image = torch.full((1, 3, 5, 5), 100.0)
    image[0, :, 2, 2] = 109.0                                             # the 3x3 means around it are 101
    sharp = changed(image, sharpness=0.5)[0, 0]
    assert sharp[2, 2] == pytest.approx(109 + 0.5 * 8)
    assert sharp[1, 2] == pytest.approx(100 - 0.5)
    assert sharp[0, 0] == 100                                             # the edge has neighbours on one side only
    torch.testing.assert_close(changed(image, sharpness=-1.0)[0, 0, 1:4, 1:4], torch.full((3, 3), 101.0))


def test_hue_keeps_the_grey_of_a_pixel_and_turns_its_colour() -> None:
    half, whole, back = (colour_matrices(saturation=np.ones(1), hue=np.array([angle]))[0]
                         for angle in (0.7, 1.4, -0.7))
    grey = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(half @ np.ones(3), np.ones(3), atol=1e-12)
    np.testing.assert_allclose(grey @ half, grey, atol=1e-12)
    np.testing.assert_allclose(half @ half, whole, atol=1e-12)
    np.testing.assert_allclose(half @ back, np.eye(3), atol=1e-12)
    opposite = colour_matrices(saturation=np.ones(1), hue=np.array([np.pi]))[0]
    np.testing.assert_allclose(opposite, 2 * np.tile(grey, (3, 1)) - np.eye(3), atol=1e-12)


def test_hue_at_full_strength_is_a_quarter_turn() -> None:
    images = 60 * pictures(2, 3, 6) + 100                                 # far from the clip
    twice = changed(changed(images, hue=1.0), hue=1.0)
    grey = (images * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(dim=1, keepdim=True)
    torch.testing.assert_close(twice, 2 * grey - images, atol=1e-3, rtol=0)


def test_linear_operations_commute() -> None:
    images = 30 * pictures(3, 3, 8) + 100
    drawn = {"brightness": 0.2, "contrast": -0.3, "saturation": 0.4, "hue": 0.5}
    together = changed(images, **drawn)
    for names in (list(drawn), list(drawn)[::-1], ["hue", "contrast", "saturation", "brightness"]):
        in_turn = images
        for name in names:
            in_turn = changed(in_turn, **{name: drawn[name]})
        torch.testing.assert_close(in_turn, together, atol=1e-3, rtol=0)


def test_draws_of_one_operation_multiply() -> None:
    images = 30 * pictures(2, 3, 8) + 100
    both = strengths(2) | {"contrast": np.array([[0.2, -0.5], [0.2, 0.0]]), "hue": np.array([[0.1, 0.3], [0.0, 0.2]])}
    out = apply_colour(images, both)
    torch.testing.assert_close(out[:1], changed(images[:1], contrast=1.2 * 0.5 - 1, hue=0.4), atol=1e-3, rtol=0)
    torch.testing.assert_close(out[1:], changed(images[1:], contrast=0.2, hue=0.2), atol=1e-3, rtol=0)


def test_no_strength_is_no_change() -> None:
    images = pictures(4, 3, 10, scale=256).floor()
    assert torch.equal(changed(images), images)


def test_greys_stay_grey() -> None:
    images = pictures(16, 1, 8, scale=255).expand(16, 3, 8, 8)
    out = vary_colour(images, config=ColourConfig(operations=4, magnitude=1.0), rng=generator())
    grey = (out.amax(dim=1) - out.amin(dim=1)).amax(dim=(1, 2)) < 1e-3
    kinds = generator().integers(len(OPERATIONS), size=(16, 4))
    stepped = np.isin(kinds, [OPERATIONS.index("posterise"), OPERATIONS.index("solarise")]).any(axis=1)
    assert grey[torch.from_numpy(~stepped)].all()                         # a step may part values that rounding parted


def test_values_stay_in_range_and_every_image_changes_in_its_own_way() -> None:
    one = pictures(1, 3, 8, scale=255)
    out = vary_colour(one.expand(64, 3, 8, 8), config=ColourConfig(operations=3, magnitude=1.0), rng=generator())
    assert out.min() >= 0
    assert out.max() <= 255
    assert len(torch.unique(out.flatten(1), dim=0)) == 64


def test_scales_of_an_image_change_alike() -> None:
    one = pictures(32, 3, 8, scale=255)
    config = ColourConfig(operations=3, magnitude=0.8)
    single = vary_colour(one, config=config, rng=generator())
    double = vary_colour(torch.cat([one, one], dim=1), config=config, rng=generator())
    torch.testing.assert_close(double[:, :3], double[:, 3:], atol=1e-3, rtol=0)
    close = ((double[:, :3] - single).abs() < 1e-2).float().mean()
    assert close > 0.999                                                  # a step of posterise may fall elsewhere


def test_operations_are_drawn_alike_with_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, np.ndarray]] = []
    monkeypatch.setattr(colour, "apply_colour", lambda images, drawn: seen.append(drawn) or images)
    vary_colour(torch.zeros(4000, 3, 1, 1), config=ColourConfig(operations=2, magnitude=0.4), rng=generator())
    drawn = seen[0]
    counts = {name: int((values != 0).sum()) for name, values in drawn.items()}
    assert sum(counts.values()) == 8000
    assert all(count == pytest.approx(8000 / 7, rel=0.1) for count in counts.values())
    twice = sum(int((values != 0).all(axis=1).sum()) for values in drawn.values())
    assert twice / 4000 == pytest.approx(1 / 7, abs=0.025)
    values = np.concatenate([values[values != 0] for values in drawn.values()])
    assert stats.kstest(values, stats.uniform(-0.4, 0.8).cdf).pvalue > 0.01


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_colour_needs_rgb(channels: int) -> None:
    with pytest.raises(ValueError, match=f"expected three channels for each scale, found {channels}"):
        vary_colour(torch.zeros(1, channels, 4, 4), config=ColourConfig(), rng=generator())
