"""Text embeddings that are made once, and made again when a weight has changed."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook


CAPACITY = 8  # entries; the least recently used is dropped
STEPS = Counter[str]()  # of all optimizers: fused ones do not count what they write
register_optimizer_step_post_hook(lambda *_: STEPS.update(["step"]))


class TextEmbeddingCache:
    """
    The latest few text embeddings, by key.

    All entries are dropped when the weights that made them are not the same memory with the same version counters of
    autograd, which count in-place writes, when an optimizer has made a step, or when adapters of peft are switched. The
    cache keeps the memory of those weights alive, so that its address cannot come to mean others. What is written
    through `.data` is not counted: call `clear` after it.
    """

    def __init__(self):
        self.clear()

    def __reduce__(self):
        return TextEmbeddingCache, ()  # a copy of the model has other weights

    def clear(self) -> None:
        """Drops all entries."""
        self._state: tuple | None = None
        self._weights: list[torch.Tensor] = []
        self._entries: dict[Hashable, torch.Tensor] = {}  # the latest used one is the last

    def get(self, key: Hashable, modules: Iterable[nn.Module], compute: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The value of `compute()` for this key and the weights of these modules, the same ones in each call."""
        parts = [part for module in modules for part in module.modules()]
        weights = [t for part in parts for t in (*part.parameters(recurse=False), *part.buffers(recurse=False))]
        # A tensor made under inference_mode could not take part in a later backward pass.
        with torch.inference_mode(False), torch.no_grad():
            # Offloaded tensors have no memory, those of inference mode no counter, and subclasses (FSDP 2) their rules.
            if any(type(t) not in (torch.Tensor, nn.Parameter) or t.is_meta or t.is_inference() for t in weights):
                return compute()
            adapters = [
                (part.disable_adapters, part.active_adapters, dict(getattr(part, "scaling", {})))
                for part in parts
                if isinstance(getattr(part, "disable_adapters", None), bool)  # of peft
            ]
            state = [(t.data_ptr(), t._version, t.dtype, t.device) for t in weights], adapters, STEPS.total()
            if state != self._state:
                self.clear()
                self._state, self._weights = state, [tensor.detach() for tensor in weights]
            types = sorted({tensor.device.type for tensor in weights})
            key = (key, *(torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) for kind in types))
            value = self._entries.pop(key, None)  # each step by itself: several threads may share a pipeline
            self._entries[key] = value = compute() if value is None else value
            for oldest in list(self._entries)[:-CAPACITY]:
                self._entries.pop(oldest, None)
            return value.clone()  # the caller may change it
