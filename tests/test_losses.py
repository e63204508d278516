"""Losses against torch, scikit-learn and hand counts; their laws; and the rows that an epoch visits."""

import numpy as np
import pytest
import torch
from sklearn.metrics import hinge_loss
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from pipeline.config.model import LossConfig
from pipeline.training.losses import Loss, class_weights, make_loss, one_hot
from pipeline.training.sampling import epoch_order

NAMES = ("cross_entropy", "focal", "crammer_singer", "weston_watkins")
COUNTS = np.array([50, 20, 5, 1, 24])
N, C = 64, len(COUNTS)


def loss_of(name: str, *, counts: np.ndarray = COUNTS, **options: object) -> Loss:
    return make_loss(LossConfig(name=name, **options), class_counts=counts, device="cpu")


def batch(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits `(N, C)` and labels `(N,)`."""
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(N, C, generator=generator, dtype=dtype), torch.randint(C, (N,), generator=generator)


def mixed_targets(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(N, C, generator=torch.Generator().manual_seed(1), dtype=dtype).log().neg().softmax(dim=1)


def test_one_hot() -> None:
    hot = one_hot(torch.tensor([2, 0]), 3)
    assert hot.dtype == torch.float32
    assert hot.tolist() == [[0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs(smoothing: float) -> None:
    logits, labels = batch()
    logits.requires_grad_()
    ours = loss_of("cross_entropy", smoothing=smoothing)(logits, one_hot(labels, C))
    theirs = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, theirs)))


@pytest.mark.parametrize("kind", ["balanced", "sqrt"])
def test_weighted_cross_entropy_is_torchs_up_to_the_mean(kind: str) -> None:
    logits, labels = batch()
    weights = torch.tensor(class_weights(COUNTS, kind=kind), dtype=torch.float32)
    smoothed = loss_of("cross_entropy", class_weights=kind, smoothing=0.1)
    soft = mixed_targets()
    torch.testing.assert_close(smoothed(logits, soft),
                               F.cross_entropy(logits, soft, weight=weights, label_smoothing=0.1))
    plain = loss_of("cross_entropy", class_weights=kind)(logits, one_hot(labels, C))
    torch.testing.assert_close(plain * N / weights[labels].sum(), F.cross_entropy(logits, labels, weight=weights))


def test_class_weights_by_hand() -> None:
    counts = np.array([9, 0, 1])
    np.testing.assert_allclose(class_weights(counts, kind="balanced"), [10 / (2 * 9), 0, 10 / 2])
    np.testing.assert_allclose(class_weights(counts, kind="sqrt"), [10 / 4 / 3, 0, 10 / 4])
    np.testing.assert_array_equal(class_weights(counts, kind=None), [1, 1, 1])


@pytest.mark.parametrize("kind", ["balanced", "sqrt", None])
def test_class_weights_have_mean_one_over_rows(kind: str | None) -> None:
    labels = np.repeat(np.arange(C), COUNTS)
    assert class_weights(COUNTS, kind=kind)[labels].mean() == pytest.approx(1)


def test_class_weights_need_a_row() -> None:
    with pytest.raises(ValueError, match="expected a class with rows, found 3 without"):
        class_weights(np.zeros(3, np.int64), kind="balanced")


def test_focal_without_focus_is_cross_entropy() -> None:
    logits, labels = batch()
    hot = one_hot(labels, C)
    torch.testing.assert_close(loss_of("focal", gamma=0.0)(logits, hot), loss_of("cross_entropy")(logits, hot))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_of_two_classes_is_the_sigmoid_one(gamma: float) -> None:
    scores = batch()[0][:, 0]
    labels = torch.arange(N) % 2
    logits = torch.stack([torch.zeros(N), scores], dim=1)
    theirs = sigmoid_focal_loss(scores, labels.float(), alpha=-1, gamma=gamma, reduction="mean")
    ours = loss_of("focal", counts=np.ones(2), gamma=gamma)(logits, one_hot(labels, 2))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_has_a_finite_gradient_where_it_is_sure(gamma: float) -> None:
    logits = torch.tensor([[200.0, 0, 0], [0, 200.0, 0]], requires_grad=True)
    loss_of("focal", counts=np.ones(3), gamma=gamma)(logits, one_hot(torch.tensor([0, 0]), 3)).backward()
    assert logits.grad is not None
    expected = torch.tensor([[0, 0, 0], [-0.5, 0.5, 0]])                  # right and sure; wrong and sure
    torch.testing.assert_close(logits.grad, expected, atol=1e-6, rtol=0)


def test_crammer_singer_is_scikit_learns() -> None:
    logits, labels = batch(torch.float64)
    ours = loss_of("crammer_singer")(logits, one_hot(labels, C))
    assert float(ours) == pytest.approx(hinge_loss(labels.numpy(), logits.numpy(), labels=np.arange(C)), rel=1e-6)


def test_crammer_singer_by_hand() -> None:
    loss = loss_of("crammer_singer", counts=np.ones(3), margin=2.0)
    logits = torch.tensor([[5.0, 4.0, 0.0]])
    assert [float(loss(logits, one_hot(torch.tensor([y]), 3))) for y in range(3)] == [1, 3, 7]
    ties = torch.zeros(1, 3)
    assert [float(loss(ties, one_hot(torch.tensor([y]), 3))) for y in range(3)] == [2, 2, 2]


@pytest.mark.parametrize("margin", [0.5, 1.0, 3.0])
def test_weston_watkins_is_torchs(margin: float) -> None:
    logits, labels = batch()
    ours = loss_of("weston_watkins", margin=margin)(logits, one_hot(labels, C))
    torch.testing.assert_close(ours, F.multi_margin_loss(logits, labels, p=1, margin=margin))


def test_weston_watkins_starts_like_cross_entropy() -> None:
    hot = one_hot(batch()[1], C)
    slopes = []
    for name in ("weston_watkins", "cross_entropy"):
        logits = torch.zeros(N, C, requires_grad=True)
        loss_of(name)(logits, hot).backward()
        slopes.append(logits.grad)
    torch.testing.assert_close(*slopes)


def test_the_hinges_of_two_classes_are_one() -> None:
    logits, hot = batch()[0][:, :2], one_hot(torch.arange(N) % 2, 2)
    one, other = (loss_of(name, counts=np.ones(2))(logits, hot) for name in ("crammer_singer", "weston_watkins"))
    torch.testing.assert_close(one, 2 * other)


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_linear_in_the_targets(name: str) -> None:
    logits, labels = batch()
    loss = loss_of(name, smoothing=0.2, class_weights="balanced")
    one, other = one_hot(labels, C), mixed_targets()
    blend = 0.3 * loss(logits, one) + 0.7 * loss(logits, other)
    torch.testing.assert_close(loss(logits, 0.3 * one + 0.7 * other), blend)


@pytest.mark.parametrize("name", NAMES)
def test_smoothing_mixes_in_the_uniform_target(name: str) -> None:
    logits, labels = batch()
    hot, uniform = one_hot(labels, C), torch.full((N, C), 1 / C)
    plain = loss_of(name, class_weights="sqrt")
    torch.testing.assert_close(loss_of(name, class_weights="sqrt", smoothing=0.3)(logits, hot),
                               0.7 * plain(logits, hot) + 0.3 * plain(logits, uniform))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    logits, targets = batch(torch.float64)[0][:4].requires_grad_(), mixed_targets(torch.float64)[:4]
    loss = loss_of(name, class_weights="sqrt", smoothing=0.1)
    assert torch.autograd.gradcheck(lambda x: loss(x, targets), logits)


@pytest.mark.parametrize("name", NAMES)
def test_a_class_without_rows_is_not_pushed_up_by_smoothing(name: str) -> None:
    logits = torch.zeros(1, 3, requires_grad=True)
    loss_of(name, counts=np.array([5, 5, 0]), class_weights="balanced", smoothing=0.3)(
        logits, one_hot(torch.tensor([0]), 3)).backward()
    assert logits.grad is not None
    assert logits.grad[0, 2] >= 0


# --- sampling ----------------------------------------------------------------------------------------------------

LABELS = np.random.default_rng(3).permutation(np.repeat([0, 1, 4], [1000, 100, 10]))


def order(sampling: str, seed: int = 0, labels: np.ndarray = LABELS) -> np.ndarray:
    return epoch_order(labels, sampling=sampling, rng=np.random.default_rng(seed))


def test_natural_order_is_a_permutation() -> None:
    np.testing.assert_array_equal(order("natural"), np.random.default_rng(0).permutation(len(LABELS)))


@pytest.mark.parametrize("sampling", ["natural", "sqrt", "balanced"])
def test_orders_are_of_the_epochs_length_and_reproducible(sampling: str) -> None:
    drawn = order(sampling)
    assert (drawn.shape, drawn.dtype) == (LABELS.shape, np.int64)
    np.testing.assert_array_equal(drawn, order(sampling))
    assert not np.array_equal(drawn, order(sampling, seed=1))


def test_balanced_classes_come_up_alike_and_their_rows_take_turns() -> None:
    uses = np.bincount(order("balanced"), minlength=len(LABELS))
    assert [uses[label == LABELS].sum() for label in (0, 1, 4)] == [370, 370, 370]
    assert [set(uses[label == LABELS].tolist()) for label in (0, 1, 4)] == [{0, 1}, {3, 4}, {37}]


def test_sqrt_draws_by_the_root_of_the_count() -> None:
    shares = np.sqrt([1000, 100, 10])
    expected = 1110 * shares / shares.sum()
    drawn = np.bincount(LABELS[order("sqrt")], minlength=5)[[0, 1, 4]]
    assert (np.abs(drawn - expected) < 1).all()
    assert drawn.sum() == 1110


def test_rounding_has_no_bias() -> None:
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2])                     # 10 / 3 draws for each class
    drawn = np.stack([np.bincount(labels[order("balanced", seed, labels)], minlength=3) for seed in range(3000)])
    assert set(drawn.ravel().tolist()) == {3, 4}
    np.testing.assert_allclose(drawn.mean(axis=0), 10 / 3, atol=0.04)     # 4 standard errors


def test_classes_are_shuffled_together() -> None:
    labels = LABELS[order("balanced")]
    halves = np.stack([np.bincount(half, minlength=5)[[0, 1, 4]] for half in np.split(labels, 2)])
    assert (np.abs(halves - 185) < 50).all()


@pytest.mark.parametrize("sampling", ["sqrt", "balanced"])
def test_one_class_or_equal_classes_are_visited_once_each(sampling: str) -> None:
    for labels in (np.zeros(7, np.int64), np.arange(30) % 5):
        np.testing.assert_array_equal(np.sort(order(sampling, 0, labels)), np.arange(len(labels)))
