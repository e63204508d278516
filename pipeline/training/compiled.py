"""torch.compile on request."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn

from pipeline.errors import UserError
from pipeline.nets.net import Net
from pipeline.training.job import FoldJob


def maybe_compiled(net: Net, *, wanted: bool) -> nn.Module:
    """`net`, or a compiled form that shares its weights; compiling itself happens in the first call."""
    return cast(nn.Module, torch.compile(net)) if wanted else net


@contextmanager
def refusing_compilers(job: FoldJob) -> Iterator[None]:
    """Turns what a compiler that is missing or fails says into one clear line."""
    if not job.config.compile:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        reason = " ".join(str(error).split("\n\n")[0].split())[:200]
        raise UserError(f"models.{job.model}.compile: torch.compile failed here ({reason}); fix: compile: false, or a "
                        "C++ compiler on the PATH (CXX names it)") from None
