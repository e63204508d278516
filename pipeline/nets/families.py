"""Which builder makes which nets: a new family is one file and one line here."""

FAMILIES = {                     # builder -> the names that it builds; a builder of several is told which by `name`
    "pipeline.nets.baselines:logistic_regression": ("logistic_regression",),
    "pipeline.nets.baselines:mlp": ("mlp",),
    "pipeline.nets.lenet5:lenet5": ("lenet5",),
    "pipeline.nets.cats_and_dogs:cats_and_dogs": ("cats_and_dogs",),
    "pipeline.nets.alexnet:alexnet": ("alexnet",),
    "pipeline.nets.vgg:vgg": ("vgg11", "vgg13", "vgg16", "vgg19", "vgg16_small"),
    "pipeline.nets.inception:inception": ("inception_v1", "inception_v3"),
    "pipeline.nets.deepsea:deepsea": ("deepsea",),
    "pipeline.nets.resnet:resnet": ("resnet18", "resnet34", "resnet50", "resnet101"),
    "pipeline.nets.cifar_resnet:cifar_resnet": ("resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
    "pipeline.nets.densenet:densenet": ("densenet", "densenet121"),
    "pipeline.nets.efficientnet:efficientnet": ("efficientnet_atto", "efficientnet_pico", "efficientnet_v2_s"),
}
PREFIXES = {                    # "torchvision:<name>": the builder gets `name`
    "torchvision": "pipeline.nets.torchvision_zoo:build",
    "timm": "pipeline.nets.timm_zoo:build",
}
NETS = {name: builder for builder, names in FAMILIES.items() for name in names}
