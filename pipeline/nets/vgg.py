"""VGG: blocks of 3x3 convolutions, each halved by a 2x2 max pool, and two dense layers.

For each number in the row of `BLOCKS`: that many conv 3x3 [bn] relu, then max pool 2 - flatten - dense relu dropout -
dense relu dropout - head. Channels double per block, from `width` to 8 `width`. What is flattened is the last map as it
is, of 1 px at 32 px and of 2 px at 64 px (vgg16_small: 2 and 4); only one of more than 7 px is averaged down to 7.

Source: Simonyan and Zisserman 2014, "Very deep convolutional networks for large-scale image recognition", table 1 (A,
B, D, E). The map of 7 px and batch normalisation are torchvision's, whose vgg16 and vgg16_bn these are at 224 px
(138,357,544 and 138,365,992 parameters for 1000 classes). vgg16_small is vgg16 without its last pool and its last three
convolutions, for images of 32 to 96 px. He initialisation of convolutions, torch's own of dense layers (a spread of
0.009 for 4096 inputs; the paper has 0.01), since He's is too wide there for SGD at a learning rate of 0.05.
"""

from torch import nn

from pipeline.nets.init import he_init
from pipeline.nets.net import Count, Net, Share, require_canvas
from pipeline.nets.pooling import Pool, global_pool

BLOCKS = {                                                            # convolutions of each block
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
    "vgg16_small": (2, 2, 3, 3),
}
LARGEST_MAP = 7


def vgg(
    *,
    name: str,
    n_classes: int,
    channels: int,
    canvas: int,
    width: Count = 64,
    norm: bool = True,
    dense: Count = 4096,
    dropout: Share = 0.5,
    pool: Pool | None = None,
) -> Net:
    """VGG with `dense` features; canvas of at least 32 px, 16 for vgg16_small.

    `pool` puts global pooling in place of the flattening. `dropout` follows both dense layers. Without `norm`, SGD
    needs a learning rate of about 0.01 (the paper's).
    """
    blocks = BLOCKS[name]
    require_canvas(canvas, at_least=2 ** len(blocks), net=name)
    layers: list[nn.Module] = []
    inner = channels
    for block, depth in enumerate(blocks):
        outer = width * min(2**block, 8)
        for _ in range(depth):
            layers += [nn.Conv2d(inner, outer, 3, padding=1)] + [nn.BatchNorm2d(outer)] * norm + [nn.ReLU()]
            inner = outer
        layers.append(nn.MaxPool2d(2))
    side = canvas // 2 ** len(blocks)
    if pool is not None:
        layers.append(global_pool(pool))                                      # (B, inner)
        side = 1
    elif side > LARGEST_MAP:
        layers.append(nn.AdaptiveAvgPool2d(LARGEST_MAP))
        side = LARGEST_MAP
    trunk = nn.Sequential(
        *layers, nn.Flatten(),                                                # (B, inner side side)
        nn.Linear(inner * side * side, dense), nn.ReLU(), nn.Dropout(dropout),
        nn.Linear(dense, dense), nn.ReLU(),                                   # (B, dense)
    )
    he_init(trunk)
    return Net(trunk, nn.Linear(dense, n_classes), dropout=dropout)
