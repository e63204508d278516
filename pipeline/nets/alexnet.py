"""AlexNet, in the one-column form that "AlexNet" has come to mean, with a stem for small images.

conv 64 @ 11x11 / 4 - pool - conv 192 @ 5x5 - pool - conv 384 @ 3x3 - conv 256 @ 3x3 - conv 256 @ 3x3 - pool - dense
4096 - dropout - dense 4096 - dropout - head; ReLU throughout, pools are the maximum of 3x3 with stride 2. A last map
of more than 6 px is averaged down to 6. Small stem: the first convolution is 5x5, with stride 1 below 64 px and 2 from
there on, so that maps of 32 px, of 64 and of 96 end at a side of 3, 3 and 5.

Source: Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", sections 3.5 and 4.2
(dropout); widths of Krizhevsky 2014, "One weird trick for parallelizing convolutional neural networks", without local
response normalisation. At 224 px it is torchvision's `alexnet` (61,100,840 parameters for 1000 classes) but for the
place of dropout, which torchvision has before the dense layers. Batch normalisation, which has since taken the place of
the paper's local one, comes with the small stem. He initialisation of convolutions, torch's own of dense layers,
since He's is too wide there for SGD at a learning rate of 0.05.
"""

from torch import nn

from pipeline.nets.init import he_init
from pipeline.nets.net import Count, Net, Share, require_canvas

AFTER_STEM = ((192, 5), (384, 3), (256, 3), (256, 3))                 # channels, side of the kernel
POOLED = (0, 1, 4)                                                    # convolutions that a pool follows
LARGEST_MAP = 6


def alexnet(
    *,
    n_classes: int,
    channels: int,
    canvas: int,
    small_stem: bool | None = None,
    norm: bool | None = None,
    dense: Count = 4096,
    dropout: Share = 0.5,
) -> Net:
    """AlexNet with `dense` features; canvas of at least 63 px, or 15 with the small stem.

    `small_stem` None is on below 128 px; `norm` None is on with the small stem. `dropout` follows both dense layers.
    """
    small = canvas < 128 if small_stem is None else small_stem
    norm = small if norm is None else norm
    require_canvas(canvas, at_least=15 if small else 63, net="alexnet")
    stem, stride = (5, 1 if canvas < 64 else 2) if small else (11, 4)
    layers: list[nn.Module] = []
    inner, side = channels, canvas
    for i, (outer, kernel) in enumerate(((64, stem), *AFTER_STEM)):
        step, padding = stride if i == 0 else 1, min(kernel // 2, 2)
        layers += [nn.Conv2d(inner, outer, kernel, stride=step, padding=padding, bias=not norm)]
        layers += [nn.BatchNorm2d(outer)] * norm + [nn.ReLU()]
        inner, side = outer, (side + 2 * padding - kernel) // step + 1
        if i in POOLED:
            layers.append(nn.MaxPool2d(3, stride=2))
            side = (side - 1) // 2
    if side > LARGEST_MAP:
        layers.append(nn.AdaptiveAvgPool2d(LARGEST_MAP))
        side = LARGEST_MAP
    trunk = nn.Sequential(
        *layers, nn.Flatten(),                                                # (B, 256 side side)
        nn.Linear(inner * side * side, dense), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(dense, dense), nn.ReLU(),                                   # (B, dense)
    )
    he_init(trunk)
    return Net(trunk, nn.Linear(dense, n_classes), dropout=dropout)
