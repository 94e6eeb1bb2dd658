"""Which number type a machine multiplies fast."""

import torch


def fast_dtype(device: torch.device | str = "cpu") -> torch.dtype:
    """
    `torch.bfloat16` where the hardware multiplies it fast, else `torch.float32`.

    These are CPUs with AVX512-BF16 or AMX, and GPUs with bfloat16 units. Elsewhere bfloat16 is slower than float32.
    """
    device = torch.device(device)
    if device.type == "cpu":
        # Not in torch before 2.10; without it, float32 is never wrong.
        capabilities: dict = getattr(torch.cpu, "get_capabilities", dict)()
        fast = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    elif device.type == "cuda":
        with torch.cuda.device(device):
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = False
    return torch.bfloat16 if fast else torch.float32
