"""Text embeddings that are made once, and made again when a weight has changed."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import torch
from torch import nn


class TextEmbeddingCache:
    """
    The latest few text embeddings, by key.

    An entry is valid while the weights that made it are the same tensors with the same version counters of autograd,
    which count in-place writes, and while the same adapters of peft are on. Writes through `.data` are not counted:
    call `clear` after them. The model calls it in `train()`, `load_state_dict()`, `set_classes()` and `to()`.

    Args:
        capacity (`int`, defaults to 8): entries to keep; the least recently used is dropped.
    """

    def __init__(self, capacity: int = 8):
        self.capacity = capacity
        self._entries: OrderedDict[Hashable, torch.Tensor] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {"capacity": self.capacity, "_entries": OrderedDict()}  # entries belong to these weights, not to copies

    def clear(self) -> None:
        """Drops all entries."""
        self._entries.clear()

    def get(self, key: Hashable, modules: Iterable[nn.Module], compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """
        The value of `compute()` for this key and the weights of these modules.

        Args:
            key: what is embedded.
            modules: the modules that the value depends on.
            compute: makes the value.
        """
        modules = list(modules)
        weights = [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]
        if any(tensor.is_inference() for tensor in weights):  # they have no version counters
            return self._computed(compute)
        counters = tuple((tensor.data_ptr(), tensor._version, tensor.dtype, tensor.device) for tensor in weights)
        types = sorted({tensor.device.type for tensor in weights} - {"meta"})
        autocast = tuple(torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) for kind in types)
        key = (key, counters, adapter_switches(modules), autocast)
        if key not in self._entries:
            self._entries[key] = self._computed(compute)
            while len(self._entries) > self.capacity:
                self._entries.popitem(last=False)
        self._entries.move_to_end(key)
        return self._entries[key].clone()  # the caller may change it

    @staticmethod
    def _computed(compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        # A tensor made under inference_mode could not take part in a later backward pass.
        with torch.inference_mode(False), torch.no_grad():
            return compute()


def adapter_switches(modules: Iterable[nn.Module]) -> tuple:
    """Which adapters of peft are on, and how strongly. Switching them changes the output, but no weight."""
    layers: Iterable[Any] = (layer for module in modules for layer in module.modules())
    return tuple(
        (layer.disable_adapters, tuple(layer.active_adapters), tuple(getattr(layer, "scaling", {}).values()))
        for layer in layers
        if isinstance(getattr(layer, "disable_adapters", None), bool)  # of transformers' models it is a method
    )
