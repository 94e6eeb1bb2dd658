"""What `test_fsdp_launch.py` starts with `accelerate launch --config_file configuration/accelerate/fsdp.yaml`.

accelerate shards on accelerators only. Here it is told that a CPU is one; the preparation and everything else is its
own, by the shipped file.
"""

import json
import os
import sys
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from distributed_training import VIDEOS, FixedClips
from safetensors.torch import save_file
from tiny_models import openai_tokenizer, tiny_model
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from vitaclip_hf import VitaClipForVideoClassification
from vitaclip_hf.training.arguments import VitaClipTrainingArguments
from vitaclip_hf.training.trainer import VitaClipTrainer


_init = AcceleratorState.__init__


def init_with_sharding_on_cpus(self, *args, fsdp_plugin=None, **kwargs):
    _init(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
    if fsdp_plugin is not None:
        self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        self.fsdp_plugin = fsdp_plugin


def main(output: Path) -> None:
    AcceleratorState.__init__ = init_with_sharding_on_cpus
    model = tiny_model(tokenizer=openai_tokenizer(), cls=VitaClipForVideoClassification)
    model.freeze_backbone()
    whole = {name: parameter.numel() for name, parameter in model.named_parameters()}
    training = VitaClipTrainingArguments(
        str(output), max_steps=2, optim="sgd", learning_rate=0.1, lr_scheduler_type="constant", max_grad_norm=0,
        use_cpu=True, disable_tqdm=True, save_strategy="no", report_to=[], dataloader_pin_memory=False,
        per_device_train_batch_size=2, total_batch_size=VIDEOS, logging_steps=1,
    )  # fmt: skip
    trainer = VitaClipTrainer(model, training, train_dataset=FixedClips(VIDEOS))
    trainer.train()
    sharded = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    units = sorted({type(module).__name__ for module in sharded.modules() if isinstance(module, FSDPModule)})
    parameters = dict(sharded.named_parameters())
    shares = {
        name: parameter.to_local().numel() / whole[name]
        for name, parameter in parameters.items()
        if isinstance(parameter, DTensor)
    }
    full = {name: p.full_tensor().detach() for name, p in parameters.items() if p.requires_grad}
    full["logit_scale"] = full["logit_scale"].reshape(())
    if trainer.is_world_process_zero():
        output.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in full.items()}, output / "trained.safetensors")
        about = {
            "units": units,
            "parameters": len(parameters),
            "shares": shares,
            "version": trainer.accelerator.is_fsdp2,
        }
        (output / "shards.json").write_text(json.dumps(about))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    sys.stdout.flush()
    os._exit(0)  # see distributed_training.py
