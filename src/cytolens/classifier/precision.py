"""Where a step of optimisation may run in half precision, and gains by it."""

import torch

_CPU_TESTS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")


def half_precision(device: torch.device | str) -> torch.autocast:
    """Within the block convolutions and dense layers run in bfloat16, where that is faster.

    So it is on GPUs and CPUs that have instructions for it (Ampere; AVX-512 BF16, AMX). Elsewhere
    PyTorch would imitate them slowly, and the block changes nothing. Steps only: what is measured
    is measured in float32.
    """
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=has_bfloat16(kind))


def has_bfloat16(kind: str) -> bool:
    """Whether a "cpu" or "cuda" device multiplies bfloat16 by itself."""
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
    return kind == "cpu" and any(getattr(torch.cpu, test, bool)() for test in _CPU_TESTS)
