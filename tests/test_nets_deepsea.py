"""Deep Sea's net: the group behind its copies, equivariance of the roll, invariance of the features, branches."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.nets.cyclic import CyclicPool, CyclicRoll, CyclicSlice, composed, inverse, turned
from pipeline.nets.deepsea import deepsea, default_blocks
from pipeline.nets.net import Net
from pipeline.nets.registry import build

SMALL = {"width": 4, "dense": 8, "blocks": (1, 2)}


def make(*, channels: int = 1, canvas: int = 12, n_classes: int = 3, **options: object) -> Net:
    torch.manual_seed(0)
    return build("deepsea", options=SMALL | options, n_classes=n_classes, channels=channels, canvas=canvas).eval()


def image(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


# --- the group -----------------------------------------------------------------------------------------------------


def test_elements_are_numpys_turns_of_the_image_and_of_its_mirror_image() -> None:
    x = image(2, 3, 5, 5)
    for element in range(8):
        base = x.numpy()[..., ::-1] if element >= 4 else x.numpy()
        np.testing.assert_array_equal(turned(x, element).numpy(), np.rot90(base, element % 4, (2, 3)))


def test_composition_and_inverse_are_those_of_the_images() -> None:
    x = image(5, 5)
    for first, second in itertools.product(range(8), repeat=2):
        assert torch.equal(turned(x, composed(first, second)), turned(turned(x, second), first))
    assert [composed(element, inverse(element)) for element in range(8)] == [0] * 8


@pytest.mark.parametrize("copies", [4, 8])
def test_rolling_permutes_the_copies_of_a_turned_image_and_does_nothing_else(copies: int) -> None:
    x = image(2, 3, 6, 6)
    slicing, roll, convolve = CyclicSlice(copies), CyclicRoll(copies), nn.Conv2d(3, 2, 3, padding=1)
    rolled = roll(convolve(slicing(x))).chunk(copies)
    for turn in range(copies):
        again = roll(convolve(slicing(turned(x, turn)))).chunk(copies)
        for copy in range(copies):
            torch.testing.assert_close(again[copy], rolled[composed(copy, turn)])


@pytest.mark.parametrize("copies", [4, 8])
def test_rolling_puts_maps_back_into_the_orientation_of_their_copy(copies: int) -> None:
    x = image(2, 3, 6, 6)
    sliced = CyclicSlice(copies)(x)                                   # the maps of a layer that does nothing
    torch.testing.assert_close(CyclicRoll(copies)(sliced), sliced.repeat(1, copies, 1, 1))


def test_cyclic_pooling_by_hand() -> None:
    x = torch.tensor([[1.0, 0.0], [-1.0, 2.0], [3.0, 0.0], [5.0, -4.0]])     # four copies of one row
    expected = {"mean": [2.0, -0.5], "max": [5.0, 2.0], "rms": [3.0, 5**0.5]}
    for kind, values in expected.items():
        torch.testing.assert_close(CyclicPool(4, kind=kind)(x), torch.tensor([values]))


# --- the net -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mean", "max", "rms"])
@pytest.mark.parametrize("roll", [False, True])
@pytest.mark.parametrize("cyclic", [4, 8])
def test_features_do_not_see_the_symmetries_that_are_asked_for(cyclic: int, roll: bool, kind: str) -> None:
    net = make(cyclic=cyclic, roll=roll, cyclic_pool=kind)
    x = image(3, 1, 12, 12)
    with torch.no_grad():
        for element in range(1, cyclic):
            torch.testing.assert_close(net.embed(turned(x, element)), net.embed(x))
        mirrored = net.embed(turned(x, 4))
    assert torch.allclose(mirrored, net.embed(x), atol=1e-4) == (cyclic == 8)


def test_without_copies_the_features_see_every_turn() -> None:
    net, x = make(), image(3, 1, 12, 12)
    with torch.no_grad():
        assert not any(torch.allclose(net.embed(turned(x, e)), net.embed(x), atol=1e-3) for e in range(1, 8))


def test_pooling_is_over_the_features_of_the_turned_images() -> None:
    plain, pooled = make(), make(cyclic=4)
    nn.Sequential(*pooled.trunk[0][1:-1]).load_state_dict(plain.trunk[0].state_dict())
    x = image(2, 1, 12, 12)
    with torch.no_grad():
        each = np.stack([plain.trunk[0](torch.rot90(x, k, (2, 3))).numpy() for k in range(4)])
        np.testing.assert_allclose(pooled.trunk[0](x).numpy(), np.sqrt((each**2).mean(axis=0)), rtol=1e-4, atol=1e-4)


def test_a_branch_sees_its_own_channels_only() -> None:
    net = make(channels=6, branches=3)
    branches = net.trunk[0][0]
    x = image(2, 6, 12, 12)
    changed = torch.cat([x[:, :4], 1 - x[:, 4:]], dim=1)
    with torch.no_grad():
        before, after = (branches(v).unflatten(1, (3, -1)) for v in (x, changed))
        assert torch.equal(before[:, :2], after[:, :2])
        assert not torch.equal(before[:, 2], after[:, 2])
        torch.testing.assert_close(before[:, 1].flatten(1), branches.stacks[1](x[:, 2:4]))


def test_branches_roll_and_mirrors_go_together() -> None:
    net, x = make(channels=2, branches=2, cyclic=8, roll=True, norm=False), image(2, 2, 12, 12)
    with torch.no_grad():
        for element in range(8):
            torch.testing.assert_close(net(turned(x, element)), net(x))


# --- sizes ---------------------------------------------------------------------------------------------------------

HEAD = 8 * 8 + 8 + 8 * 3 + 3                                          # second dense layer, 3 classes


@pytest.mark.parametrize(
    ("options", "channels", "parameters"),
    [                                                                 # convolutions, batch norms, first dense layer
        ({}, 1, (9 * 4 + 9 * 4 * 8 + 9 * 8 * 8) + 2 * (4 + 8 + 8) + 8 * 9 * 8 + 8),
        ({"cyclic": 4}, 1, (9 * 4 + 9 * 4 * 8 + 9 * 8 * 8) + 2 * (4 + 8 + 8) + 8 * 9 * 8 + 8),
        ({"cyclic": 4, "roll": True}, 1, (9 * 4 + 9 * 16 * 8 + 9 * 8 * 8) + 2 * (4 + 8 + 8) + 4 * 8 * 9 * 8 + 8),
        ({"cyclic": 8, "roll": True}, 3, (27 * 4 + 9 * 32 * 8 + 9 * 8 * 8) + 2 * (4 + 8 + 8) + 8 * 8 * 9 * 8 + 8),
        ({"branches": 3}, 6, 3 * (18 * 4 + 9 * 4 * 8 + 9 * 8 * 8 + 2 * (4 + 8 + 8)) + 3 * 8 * 9 * 8 + 8),
        ({"norm": False}, 1, (9 * 4 + 9 * 4 * 8 + 9 * 8 * 8) + (4 + 8 + 8) + 8 * 9 * 8 + 8),
    ],
)
def test_parameters_by_hand(options: dict[str, object], channels: int, parameters: int) -> None:
    assert count(make(channels=channels, **options)) == parameters + HEAD       # maps of 3 x 3 px at the end


def test_parameters_at_the_winners_canvas_by_hand() -> None:
    with torch.device("meta"):
        net = deepsea(n_classes=121, channels=1, canvas=95, norm=False)
    filters = [(1, 32), (32, 32), (32, 64), (64, 64), (64, 128)] + 8 * [(128, 128)]
    convolutions = sum(9 * inner * outer + outer for inner, outer in filters)
    dense = 128 * 3 * 3 * 256 + 256 + 256 * 256 + 256 + 256 * 121 + 121
    assert default_blocks(95) == (2, 2, 3, 3, 3)                      # 95, 48, 24, 12, 6, 3 px
    assert count(net) == convolutions + dense == 1_711_577


def test_rolled_net_runs_in_bf16_and_channels_last_and_learns_everywhere() -> None:
    net = make(channels=2, branches=2, cyclic=4, roll=True, dropout=0.0).train()
    x = image(4, 2, 12, 12).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        loss = net(x).float().logsumexp(dim=1).sum() - net(x).float()[:, 0].sum()
    loss.backward()
    assert [name for name, p in net.named_parameters() if not p.grad.abs().max() > 0] == []


def test_builds_without_memory() -> None:
    with torch.device("meta"), torch.no_grad():
        net = make(channels=3, branches=3, cyclic=8, roll=True, canvas=64)
        assert net(torch.zeros(2, 3, 64, 64)).shape == (2, 3)


@pytest.mark.parametrize(
    ("channels", "options", "parts"),
    [
        (1, {"roll": True}, ["options.roll: there are no copies to roll", "cyclic: 4 or 8"]),
        (3, {"branches": 2}, ["options.branches: 2 does not divide the input's 3 channels", "fix: branches"]),
        (1, {"cyclic": True}, ["options.cyclic: Input should be 4 or 8; found True"]),
        (1, {"cyclic": 5}, ["options.cyclic: Input should be 4 or 8; found 5"]),
        (1, {"cyclic": 4, "cyclic_pool": "median"}, ["options.cyclic_pool", "'mean', 'max' or 'rms'"]),
    ],
)
def test_bad_options_are_one_clear_line(channels: int, options: dict[str, object], parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        make(channels=channels, **options)
    assert [part for part in parts if part not in str(caught.value)] == []
    assert "\n" not in str(caught.value)
