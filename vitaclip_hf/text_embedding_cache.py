"""Text embeddings made once and never stale: a small cache whose key includes the weights that made them."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable

import torch


def _directions(size: int, device: torch.device) -> torch.Tensor:
    """A fixed pseudo-random direction `[size]`, without touching any random state."""
    angles = torch.arange(1, size + 1, device=device, dtype=torch.float32)
    return torch.frac(torch.sin(angles * 12.9898) * 43758.547) + 0.5


@torch.no_grad()
def weights_fingerprint(tensors: Iterable[torch.Tensor]) -> tuple:
    """A key that changes when any of the tensors changes, however it was written.

    Storage addresses and autograd's version counters catch replaced tensors and ordinary in-place writes. Writes
    through `.data` bypass the counters, so the values themselves are projected on fixed directions as well: one pass
    over the memory.
    """
    counters: list[tuple] = []
    projections: dict[torch.device, list[torch.Tensor]] = {}
    for tensor in tensors:
        version = None if tensor.is_inference() else tensor._version
        counters.append((tensor.data_ptr(), version, tensor.dtype, tensor.device, tuple(tensor.shape)))
        if tensor.numel() and not tensor.is_meta:  # offloaded weights have no values here
            matrix = tensor.detach().reshape(tensor.shape[0] if tensor.ndim else 1, -1).float()
            columns = matrix @ _directions(matrix.shape[1], tensor.device)
            on_device = projections.setdefault(tensor.device, [])
            on_device.append(columns @ _directions(matrix.shape[0], tensor.device))
    values = [torch.stack(on_device).tolist() for on_device in projections.values()]
    return tuple(counters), tuple(map(tuple, values))


class TextEmbeddingCache:
    """The latest few text embeddings by key and weights.

    Args:
        capacity: label sets to keep; the least recently used is dropped.
    """

    def __init__(self, capacity: int = 8):
        self.capacity = capacity
        self._entries: OrderedDict[Hashable, torch.Tensor] = OrderedDict()

    def get(self, key: Hashable, tensors: Iterable[torch.Tensor], compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The value of `compute()` for this key and these weights, computed at most once."""
        key = (key, weights_fingerprint(tensors), torch.is_autocast_enabled(), torch.is_autocast_enabled("cpu"))
        if key not in self._entries:
            # A tensor made under inference_mode could never take part in a later backward pass.
            with torch.inference_mode(False), torch.no_grad():
                self._entries[key] = compute()
            while len(self._entries) > self.capacity:
                self._entries.popitem(last=False)
        self._entries.move_to_end(key)
        return self._entries[key].clone()  # the caller's to change
