"""What `test_distributed_training.py` runs on several ranks: optimizer steps and an evaluation of a tiny model.

accelerate launch --config_file configuration/accelerate/fsdp.yaml tests/training/distributed_training.py OUTPUT JOBS

JOBS are arguments by name, as JSON; each writes to the folder of its name. One without arguments shards as the file
says.
"""

import json
import os
import sys
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from safetensors.torch import save_file
from tiny_models import letter_tokenizer, tiny_model, vocabulary
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.utils.data import Dataset

from vitaclip_hf import VitaClipForVideoClassification
from vitaclip_hf.training.arguments import VitaClipTrainingArguments
from vitaclip_hf.training.trainer import VitaClipTrainer


VIDEOS, CLASSES = 8, 3
SETTINGS = {
    "max_steps": 2, "optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "max_grad_norm": 0,
    "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "report_to": [], "dataloader_pin_memory": False,
    "per_device_eval_batch_size": 2, "logging_steps": 1,
}  # fmt: skip


class FixedClips(Dataset):
    """Random clips that every rank makes alike; one more for evaluation than ranks could share evenly."""

    def __init__(self, count: int, soft: bool = False, views: int | None = None):
        generator = torch.Generator().manual_seed(5)
        shape = (count, 4, 3, 32, 32) if views is None else (count, views, 4, 3, 32, 32)
        self.pixels = torch.randn(shape, generator=generator)
        self.labels = torch.randint(CLASSES, (count,), generator=generator)
        if soft:
            self.labels = torch.rand(count, CLASSES, generator=generator).softmax(-1)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        return {"pixel_values_videos": self.pixels[index], "labels": self.labels[index], "index": index}


def new_model() -> VitaClipForVideoClassification:
    tokenizer = letter_tokenizer()
    model = tiny_model(None, vocabulary(tokenizer), tokenizer, cls=VitaClipForVideoClassification).train()
    model.freeze_backbone()
    return model


def save(output: Path, trained: dict[str, torch.Tensor], facts: dict) -> None:
    output.mkdir(parents=True, exist_ok=True)
    trained["logit_scale"] = trained["logit_scale"].reshape(())  # a vector where it was sharded
    save_file({name: tensor.detach().contiguous() for name, tensor in trained.items()}, output / "trained.safetensors")
    (output / "facts.json").write_text(json.dumps(facts))


def run(output: Path, soft: bool = False, **arguments) -> None:
    model = new_model()
    training = VitaClipTrainingArguments(str(output), **SETTINGS | arguments)
    trainer = VitaClipTrainer(
        model, training, train_dataset=FixedClips(VIDEOS, soft), eval_dataset=FixedClips(7, views=2)
    )
    trainer.train()
    metrics = trainer.evaluate()
    if trainer.is_world_process_zero():
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        log = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        save(output, trained, metrics | {"losses": log})


def run_launched(output: Path) -> None:
    """By `accelerate launch` with the shipped FSDP file. accelerate is told that a CPU is an accelerator."""
    init = AcceleratorState.__init__

    def init_with_sharding_on_cpus(self, *args, fsdp_plugin=None, **kwargs):
        init(self, *args, fsdp_plugin=fsdp_plugin, **kwargs)
        if fsdp_plugin is not None:
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin

    AcceleratorState.__init__ = init_with_sharding_on_cpus
    model = new_model()
    whole = {name: parameter.numel() for name, parameter in model.named_parameters()}
    saving = {"save_strategy": "steps", "save_steps": 2, "per_device_train_batch_size": 2, "total_batch_size": VIDEOS}
    training = VitaClipTrainingArguments(str(output), **SETTINGS | saving)
    data = {"train_dataset": FixedClips(VIDEOS), "eval_dataset": FixedClips(7, views=2)}
    trainer = VitaClipTrainer(model, training, **data)
    trainer.train()
    sharded = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    parameters = dict(sharded.named_parameters())
    facts = {
        "fsdp2": trainer.accelerator.is_fsdp2,
        "all sharded": all(isinstance(parameter, DTensor) for parameter in parameters.values()),
        "units": sorted({type(module).__name__ for module in sharded.modules() if isinstance(module, FSDPModule)}),
        "shares": [parameter.to_local().numel() / whole[name] for name, parameter in parameters.items()],
    }
    full = {name: parameter.full_tensor() for name, parameter in parameters.items() if parameter.requires_grad}
    metrics = trainer.evaluate()  # after which the last unit is whole
    again = VitaClipTrainer(new_model(), training, **data)  # of a run that was killed after its last checkpoint
    again.restore(output / "checkpoint-2")
    facts |= metrics | {"restored": again.evaluate()["eval_loss"]}
    if trainer.is_world_process_zero():
        save(output, full, facts)


if __name__ == "__main__":
    sharding = os.environ.pop("ACCELERATE_USE_FSDP", "")  # of the launcher; the other jobs come first
    for job, options in json.loads(sys.argv[2]).items():
        if options:
            run(Path(sys.argv[1], job), **options)
        else:
            os.environ["ACCELERATE_USE_FSDP"] = sharding
            AcceleratorState._reset_state()
            run_launched(Path(sys.argv[1], job))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    # About one sharded run in 200 on a busy machine aborts in torch's own threads while the interpreter ends (FSDP2 on
    # CPUs starts eight of autograd's, for devices that are not there), after all is written: leave without that.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
