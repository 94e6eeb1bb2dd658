"""Training: transformers' `Trainer` where prompts, clips and interruptions need something of their own."""

import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader
from transformers import EvalPrediction, Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import ExportableState, TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, has_length, rotate_checkpoints
from transformers.utils import logging

from ..data.clip_dataset import ClipCollator, ClipDataset, EpochSampler
from ..data.clip_stream import ClipStream
from ..data.metrics import compute_metrics
from ..model.modeling_vita_clip import VitaClipModel
from ..model.prompt_checkpoint import WEIGHTS_FILE, PromptCheckpointError, save_prompts, split_tensors
from ..model.zero_shot_classifier import view_scores
from .arguments import strategy_name
from .class_embeds_of_step import ClassEmbedsOfStep
from .run_folder import FINAL_MODELS, sync, writing


logger = logging.get_logger(__name__)

# Of `checkpoint-N` while it is being written: a folder with the final name is always complete.
INCOMPLETE = "incomplete-"
# What a batch carries for the trainer and not for the model.
BOOKKEEPING = ("index", "failures")


class LostSampleError(RuntimeError):
    """An evaluation did not see each video exactly once."""


class TrainingError(ValueError):
    """A training that cannot go on; the message says what to change."""


class VitaClipTrainer(Trainer):
    """
    transformers' `Trainer` for [`VitaClipForVideoClassification`]. What differs:

    - The text tower runs once an optimizer step ([`ClassEmbedsOfStep`]), with the gradients of the plain way.
    - Batches come from [`ClipDataset`] through [`EpochSampler`], so that they depend on seed and epoch alone.
    - Evaluation averages the softmax over the views of a video and counts each video once, by its index.
    - Checkpoints become visible when they are complete, hold no pickled arguments, and may be prompts alone.
    - The log has videos per second, the share of time that waited for data, and unreadable videos.
    """

    def __init__(self, *args, base: str | None = None, base_revision: str | None = None, **kwargs):
        """`base` and `base_revision` name the CLIP that prompts alone belong to; the rest as in `Trainer`."""
        kwargs.setdefault("compute_metrics", self.count_videos_once)
        super().__init__(*args, **kwargs)
        if self.is_fsdp_enabled:
            if self.args.prompts_only:
                raise ValueError("`prompts_only` does not go with FSDP; save the whole model, then `save_prompts`.")
            make_shardable(self.model)
        self.base, self.base_revision = base, base_revision
        self._class_embeds = ClassEmbedsOfStep()
        self._base_verified = False
        self._waited, self._videos, self._failures = 0.0, 0, 0
        self._logged_at: float | None = None  # since when videos are counted
        self._reported: set[str] = set()
        self._eval_size: int | None = None

    # Data

    def _get_train_sampler(self, train_dataset=None):
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if not isinstance(dataset, ClipDataset):
            return super()._get_train_sampler(train_dataset)
        return EpochSampler(dataset, seed=dataset.seed)

    def get_train_dataloader(self) -> DataLoader:
        if not isinstance(self.train_dataset, ClipStream):
            return super().get_train_dataloader()
        # A stream divides itself among ranks and workers; accelerate would let every rank decode everything.
        return self.train_dataset.loader(
            self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            device=self.args.device,
            pin_memory=self.args.dataloader_pin_memory,
            prefetch_factor=self.args.dataloader_prefetch_factor,
        )

    def get_eval_dataloader(self, eval_dataset=None) -> DataLoader:
        """As in `Trainer`; clips are mixed in training only, and a stream divides itself."""
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(dataset, ClipStream):
            return dataset.loader(ClipCollator(), self.args.dataloader_num_workers, self.args.device)
        mixing: Any = self.data_collator  # type: ignore[has-type]
        if isinstance(mixing, ClipCollator):
            self.data_collator = ClipCollator()
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = mixing

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device):
        """The micro-batches of an optimizer step, without what is for the trainer's books alone."""
        self._class_embeds = ClassEmbedsOfStep()
        if self._logged_at is None:
            self._logged_at = time.perf_counter()
        return super().get_batch_samples(self._watched(epoch_iterator), num_batches, device)

    def _watched(self, batches: Iterator) -> Iterator[dict[str, Any]]:
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self._waited += time.perf_counter() - started
            if batch is None:
                return
            self._videos += len(batch["labels"])
            failures = batch.get("failures", ())
            self._failures += len(failures)
            self._report_failures(failures, "another video taken in its place")
            yield {name: value for name, value in batch.items() if name not in BOOKKEEPING}

    def _report_failures(self, failures, what_then: str) -> None:
        """Names each unreadable video once."""
        for path, reason in failures:
            if path not in self._reported:
                self._reported.add(path)
                logger.warning(f"unreadable, {what_then}: {path}: {reason}")

    # Steps

    def train(self, *args, **kwargs):
        """As in `Trainer`; what a killed training was writing is removed first."""
        if self.args.should_save:
            for path in Path(self.args.output_dir).glob(f"{INCOMPLETE}{PREFIX_CHECKPOINT_DIR}-*"):
                shutil.rmtree(path, ignore_errors=True)
        return super().train(*args, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """As in `Trainer`; the class embeddings are those of the optimizer step."""
        if model.training:
            shared = self._class_embeds.for_micro_batch(is_last=self.accelerator.sync_gradients)
            inputs = {**inputs, "class_embeds": shared}
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Matrices of layers, or with `decay_all` everything. Prompts, embeddings and scalars are no such matrices."""
        if self.args.decay_all:
            return [name for name, _ in model.named_parameters()]
        layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        return [f"{name}.weight" for name in layers]

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Scores `[B, C]`, the softmax averaged over views, with labels and indices `[B, 2]`."""
        inputs = self._prepare_inputs(inputs)
        self._report_failures(inputs.get("failures", ()), "not evaluated")
        pixels = inputs["pixel_values_videos"]  # [B, views, T, 3, H, W]
        with torch.no_grad(), self.compute_loss_context_manager():
            logits = model(pixel_values_videos=pixels.flatten(0, 1)).logits
        scores = view_scores(logits, pixels.shape[1])
        return None, scores, torch.stack([inputs["labels"], inputs["index"]], dim=1)

    def count_videos_once(self, prediction: EvalPrediction) -> dict[str, float]:
        """Top-1, top-5, mean per class and negative log-likelihood over videos that ranks and padding may repeat.

        Raises:
            LostSampleError: a video was never scored.
            TrainingError: none could be read.
        """
        labels, index = np.asarray(prediction.label_ids).T
        seen, first = np.unique(index, return_index=True)
        seen, first = seen[seen >= 0], first[seen >= 0]  # a stream fills its last batches up
        if self._eval_size is not None and len(seen) != self._eval_size:
            raise LostSampleError(
                f"{len(seen)} of {self._eval_size} videos were evaluated; this is a defect, please report it."
            )
        scores, labels = np.asarray(prediction.predictions)[first], labels[first]
        known = labels >= 0
        if not known.any():
            raise TrainingError(f"none of the {len(labels)} validation videos could be read; check the data")
        likelihoods = scores[known, labels[known]].clip(min=np.finfo(np.float32).tiny)
        return {"loss": float(abs(np.log(likelihoods).mean())), **compute_metrics((scores, labels))}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise TrainingError(
                    f"the loss is {logs['loss']} at step {self.state.global_step}; lower --learning_rate or set "
                    "--max_grad_norm 1, in another --output_dir"
                )
            seconds = max(time.perf_counter() - (self._logged_at or 0), 1e-9)
            mine = torch.tensor([[self._videos, self._failures, self._waited / seconds]], device=self.args.device)
            of_ranks = self.accelerator.gather(mine)
            logs["videos_per_second"] = of_ranks[:, 0].sum().item() / seconds
            logs["waiting_for_data"] = of_ranks[:, 2].mean().item()
            logs["unreadable_videos"] = int(of_ranks[:, 1].sum().item())
            self._waited, self._videos, self._logged_at = 0.0, 0, time.perf_counter()
        super().log(logs, start_time)

    def evaluate(self, eval_dataset=None, *args, **kwargs):
        started = time.perf_counter()
        dataset = self.eval_dataset if eval_dataset is None else eval_dataset
        self._eval_size = len(dataset) if has_length(dataset) else None
        metrics = super().evaluate(eval_dataset, *args, **kwargs)
        self._leave_out(started)
        return metrics

    def _leave_out(self, started: float) -> None:
        """Time in which no training went on counts in no rate."""
        if self._logged_at is not None:
            self._logged_at += time.perf_counter() - started

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """As in `Trainer`; only saved models compete, and of equal accuracies the one with the lower loss is better."""
        if self.args.load_best_model_at_end and not (
            self.control.should_save or strategy_name(self.args.save_strategy) == "best"
        ):
            return False
        before, best = self.state.best_metric, self.state.best_global_step
        if super()._determine_best_metric(metrics, trial):
            return True
        name = f"eval_{(self.args.metric_for_best_model or '').removeprefix('eval_')}"
        history = [entry for entry in self.state.log_history if entry["step"] == best and "eval_loss" in entry]
        tie = bool(history) and metrics.get(name) == before and metrics["eval_loss"] < history[0]["eval_loss"]
        if tie:
            self.state.best_global_step = self.state.global_step
        return tie

    # Checkpoints

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Writes `checkpoint-N` beside its place and moves it there when it is complete, then removes older ones."""
        started = time.perf_counter()
        run = Path(self._get_output_dir(trial))
        final = run / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        staging = run / f"{INCOMPLETE}{final.name}"
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.store_flos()
        with writing(final, staging):
            super().save_model(str(staging), _internal_call=True)
            if not self.args.save_only_model:
                self._save_optimizer_and_scheduler(str(staging))
                self._save_scaler(str(staging))
                self._save_rng_state(str(staging))
        self.accelerator.wait_for_everyone()  # other ranks have written their random states
        if self.args.should_save:
            with writing(final, staging):
                self._save_trainer_state(staging)
                self._move_to_disk(staging, final)
        if self.state.best_global_step:
            self.state.best_model_checkpoint = str(run / f"{PREFIX_CHECKPOINT_DIR}-{self.state.best_global_step}")
        if self.args.should_save:
            rotate_checkpoints(
                output_dir=str(run),
                save_total_limit=self.args.save_total_limit,
                best_model_checkpoint=self.state.best_model_checkpoint,
            )
        self.accelerator.wait_for_everyone()
        self._leave_out(started)

    def _move_to_disk(self, staging: Path, final: Path) -> None:
        """Gives a checkpoint its name once its content would outlast a power cut."""
        for path in [*staging.rglob("*"), staging]:
            sync(path)
        shutil.rmtree(final, ignore_errors=True)  # of a run that was resumed from before it
        os.replace(staging, final)
        sync(final.parent)

    def _save_trainer_state(self, folder: Path) -> None:
        for callback in [*self.callback_handler.callbacks, self.control]:
            if isinstance(callback, ExportableState):
                name, state = type(callback).__name__, callback.state()
                if isinstance(self.state.stateful_callbacks[name], list):
                    self.state.stateful_callbacks[name].append(state)
                else:
                    self.state.stateful_callbacks[name] = state
        # Without the best one's path, which follows from its step: a run may be moved.
        self.state.best_model_checkpoint = None
        self.state.save_to_json(str(folder / TRAINER_STATE_NAME))

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As in `Trainer`; weights that could not be written to the end are removed."""
        folder = Path(output_dir or self.args.output_dir)
        with writing(folder, *(folder / name for name in FINAL_MODELS)):
            super().save_model(output_dir, _internal_call)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """The whole model or its prompts, with the processor; no pickled arguments."""
        folder = Path(self.args.output_dir if output_dir is None else output_dir)
        if not self.args.should_save:
            return
        folder.mkdir(parents=True, exist_ok=True)
        if state_dict is not None and "logit_scale" in state_dict:  # of `make_shardable`
            state_dict = {**state_dict, "logit_scale": state_dict["logit_scale"].reshape(())}
        model = self.accelerator.unwrap_model(self.model, keep_torch_compile=False)
        if self.args.prompts_only:
            save_prompts(model, folder, self.base, self.base_revision, verify=not self._base_verified)
            self._base_verified = True
        else:
            model.save_pretrained(folder, state_dict=state_dict)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)

    def restore(self, checkpoint: str | Path) -> None:
        """The state and the model of a finished training from its last checkpoint, without training any more."""
        self.state = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
        self._find_best(Path(checkpoint).parent)
        best = self.state.best_model_checkpoint if self.args.load_best_model_at_end else None
        self._load_from_checkpoint(str(best or checkpoint))

    def _init_training_state(self, *args, **kwargs) -> tuple[int, int]:
        begin = super()._init_training_state(*args, **kwargs)
        self._find_best(Path(self.args.output_dir))
        return begin

    def _find_best(self, run: Path) -> None:
        """The best checkpoint is where the run is now; one that was deleted no longer competes."""
        best = run / f"{PREFIX_CHECKPOINT_DIR}-{self.state.best_global_step}"
        self.state.best_model_checkpoint = str(best) if best.is_dir() else None
        if self.args.load_best_model_at_end and self.state.best_global_step and not best.is_dir():
            logger.warning(f"{best}, the best so far, is gone: the best of what follows is kept, or the last")
            self.state.best_global_step = self.state.best_metric = None

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if self.is_fsdp_enabled or not (Path(resume_from_checkpoint) / WEIGHTS_FILE).is_file():
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        return read_prompts_into(self.accelerator.unwrap_model(model or self.model), resume_from_checkpoint)

    def _load_best_model(self) -> None:
        best = self.state.best_model_checkpoint
        if self.is_fsdp_enabled or not (Path(best) / WEIGHTS_FILE).is_file():
            return super()._load_best_model()
        return read_prompts_into(self.accelerator.unwrap_model(self.model), best)


def make_shardable(model: VitaClipModel) -> None:
    """FSDP shards no scalars, and CLIP's logit scale is one: it becomes a vector of one entry, with equal results."""
    scale: nn.Parameter = model.logit_scale
    model.logit_scale = nn.Parameter(scale.detach().reshape(1), requires_grad=scale.requires_grad)


def read_prompts_into(model: nn.Module, folder: str | Path) -> None:
    """Puts saved prompts into a model that is there already, as it was when they were saved.

    Raises:
        PromptCheckpointError: prompts of another layout.
    """
    path = Path(folder) / WEIGHTS_FILE
    found, expected = load_file(path), split_tensors(model)[0]
    if {name: t.shape for name, t in found.items()} != {name: t.shape for name, t in expected.items()}:
        raise PromptCheckpointError(f"{path} holds prompts of another layout or other classes than this training's.")
    model.load_state_dict(found, strict=False)
