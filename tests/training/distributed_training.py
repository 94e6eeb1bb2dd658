"""What `test_distributed_training.py` runs on several ranks: optimizer steps and an evaluation of a tiny model.

torchrun --nproc_per_node 2 tests/distributed_training.py OUTPUT '{"per_device_train_batch_size": 2, …}'
"""

import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from tiny_models import openai_tokenizer, tiny_model
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.utils.data import Dataset
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from vitaclip_hf import VitaClipForVideoClassification
from vitaclip_hf.training.arguments import VitaClipTrainingArguments
from vitaclip_hf.training.class_embeds_of_step import ClassEmbedsOfStep
from vitaclip_hf.training.trainer import VitaClipTrainer, make_shardable


VIDEOS, CLASSES = 8, 3


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


def run(output: Path, soft: bool = False, **arguments) -> None:
    model = tiny_model(tokenizer=openai_tokenizer(), cls=VitaClipForVideoClassification)
    model.freeze_backbone()
    settings = {
        "max_steps": 2, "optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "max_grad_norm": 0,
        "use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "report_to": [], "dataloader_pin_memory": False,
        "per_device_eval_batch_size": 2, "logging_steps": 1,
    }  # fmt: skip
    training = VitaClipTrainingArguments(str(output), **settings | arguments)
    trainer = VitaClipTrainer(
        model, training, train_dataset=FixedClips(VIDEOS, soft), eval_dataset=FixedClips(7, views=2)
    )
    trainer.train()
    metrics = trainer.evaluate()
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.is_world_process_zero():
        output.mkdir(parents=True, exist_ok=True)
        trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        tensors = {name.removeprefix("module."): tensor.contiguous() for name, tensor in state.items()}
        save_file({name: tensors[name] for name in trained}, output / "trained.safetensors")
        log = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        (output / "metrics.json").write_text(json.dumps(metrics | {"losses": log}))


def run_sharded(output: Path, micro_batches: int) -> None:
    """The same two steps with weights sharded by FSDP2: accelerate shards on accelerators only, torch also on CPUs."""
    torch.distributed.init_process_group("gloo")
    rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    model = tiny_model(tokenizer=openai_tokenizer(), cls=VitaClipForVideoClassification).train()
    model.freeze_backbone()
    make_shardable(model)
    mesh = init_device_mesh("cpu", (ranks,))
    for module in list(model.modules()):
        if isinstance(module, CLIPEncoderLayer):
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "get_class_embeds")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not all(isinstance(parameter, DTensor) for parameter in trained):
        raise RuntimeError("not every weight is sharded")
    optimizer = torch.optim.SGD(trained, lr=0.1)
    data, mine = FixedClips(VIDEOS), torch.arange(rank, VIDEOS, ranks)
    for _ in range(2):
        step = ClassEmbedsOfStep(model)
        for number, rows in enumerate(mine.chunk(micro_batches)):
            is_last = number == micro_batches - 1
            model.set_requires_gradient_sync(is_last)
            shared = step.for_micro_batch(is_last)
            loss = model(
                data.pixels[rows], labels=data.labels[rows], num_items_in_batch=VIDEOS // ranks, class_embeds=shared
            ).loss
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    full = {name: p.full_tensor().detach() for name, p in model.named_parameters() if p.requires_grad}
    full["logit_scale"] = full["logit_scale"].reshape(())
    if rank == 0:
        output.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in full.items()}, output / "trained.safetensors")


if __name__ == "__main__":
    options = json.loads(sys.argv[2])
    if "micro_batches" in options:
        run_sharded(Path(sys.argv[1]), **options)
    else:
        run(Path(sys.argv[1]), **options)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    # About one sharded run in 200 on a busy machine aborts in torch's own threads while the interpreter ends (FSDP2 on
    # CPUs starts eight of autograd's, for devices that are not there), after all is written: leave without that.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
