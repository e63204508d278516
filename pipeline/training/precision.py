"""Which arithmetic a network runs in: bf16 where the hardware has it; `benchmarks/engine.py` measures what it gives."""

from contextlib import AbstractContextManager
from pathlib import Path

import torch

CPU_FLAGS = ("amx_bf16", "avx512_bf16")


def resolve_precision(wanted: str, device: str) -> str:
    """What `wanted` comes to on `device`: "auto" is bf16 where it computes in it natively, else fp16 (GPU) or fp32."""
    if wanted != "auto":
        return wanted
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if _cpu_flags().intersection(CPU_FLAGS) else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[None]:
    """The autocast context of a forward pass in `precision`; in fp32 it does nothing."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "fp32")


def make_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Scales the loss of fp16 training, so that small gradients do not vanish; does nothing in fp32 and bf16."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), set())
