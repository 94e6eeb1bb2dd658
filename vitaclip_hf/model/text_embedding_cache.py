"""Text embeddings that are made once, and made again when a weight has changed."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import torch
from torch import nn


class TextEmbeddingCache:
    """
    The latest few text embeddings, by key.

    All entries are dropped when the weights that made them are not the same memory with the same version counters of
    autograd, which count in-place writes, or when adapters of peft are switched. The cache keeps the memory of those
    weights alive, so that its address cannot come to mean others. Two kinds of writes are not counted: through `.data`,
    and by fused optimizers. Call `clear` after them.

    Args:
        capacity (`int`, defaults to 8): entries to keep; the least recently used is dropped.
    """

    def __init__(self, capacity: int = 8):
        self.capacity = capacity
        self.clear()

    def __getstate__(self) -> dict[str, Any]:
        return {"capacity": self.capacity, "_state": None, "_entries": OrderedDict()}  # a copy has other weights

    def clear(self) -> None:
        """Drops all entries."""
        self._state: tuple | None = None
        self._weights: list[torch.Tensor] = []
        self._entries: OrderedDict[Hashable, torch.Tensor] = OrderedDict()

    def get(self, key: Hashable, modules: Iterable[nn.Module], compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """
        The value of `compute()` for this key and the weights of these modules.

        Args:
            key: what is embedded.
            modules: the modules that the value depends on; the same ones in each call.
            compute: makes the value.
        """
        modules = list(modules)
        weights = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
        # Offloaded tensors have no memory, those of inference mode no counter, and subclasses (FSDP 2) their own rules.
        known = all(type(t) in (torch.Tensor, nn.Parameter) and not (t.is_meta or t.is_inference()) for t in weights)
        if not known:
            return _computed(compute)
        state = (
            [(tensor.data_ptr(), tensor._version, tensor.dtype, tensor.device) for tensor in weights],
            [(a.disable_adapters, a.active_adapters, dict(getattr(a, "scaling", {}))) for a in _adapters(modules)],
        )
        if state != self._state:
            self.clear()
            self._state, self._weights = state, [tensor.detach() for tensor in weights]
        types = sorted({tensor.device.type for tensor in weights})
        key = (key, *(torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) for kind in types))
        if key not in self._entries:
            self._entries[key] = _computed(compute)
            while len(self._entries) > self.capacity:
                self._entries.popitem(last=False)
        self._entries.move_to_end(key)
        return self._entries[key].clone()  # the caller may change it


def _computed(compute: Callable[[], torch.Tensor]) -> torch.Tensor:
    # A tensor made under inference_mode could not take part in a later backward pass.
    with torch.inference_mode(False), torch.no_grad():
        return compute()


def _adapters(modules: list[nn.Module]) -> list[Any]:
    """peft's layers: switching them changes the output, but no weight."""
    layers = (layer for module in modules for layer in module.modules())
    return [layer for layer in layers if isinstance(getattr(layer, "disable_adapters", None), bool)]
