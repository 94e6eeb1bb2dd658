"""Training steps, evaluation and checkpoints: transformers' `Trainer` for Vita-CLIP."""

import math
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import EvalPrediction, Trainer, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME
from transformers.trainer_callback import TrainerState
from transformers.trainer_utils import rotate_checkpoints
from transformers.utils import logging

from ..data.clip_dataset import ClipDataset, EpochSampler
from ..data.clip_stream import ClipStream
from ..data.metrics import METRICS, compute_metrics
from ..loading.prompts_alone import save_prompts
from ..model.modeling_vita_clip import VitaClipModel, classification_loss
from .arguments import VitaClipTrainingArguments
from .checkpoints import INCOMPLETE, checkpoint_folder, finish_checkpoint, read_prompts_into, writing
from .regularization import plain_class_embeds, squared_distance
from .shared_class_embeds import SharedClassEmbeds


logger = logging.get_logger(__name__)

# Entries of a batch for the trainer, not for the model.
BOOKKEEPING = ("index", "failures")


class VitaClipTrainer(Trainer):
    """
    transformers' `Trainer` for [`VitaClipForVideoClassification`], with these differences:

    - The text tower runs once in an optimizer step ([`SharedClassEmbeds`]). The gradients are the same.
    - The order of the videos and all random draws depend on seed and epoch only ([`EpochSampler`]).
    - Evaluation averages the softmax over the views of a video, and counts each video once.
    - A checkpoint gets its name when it is complete. It holds no pickled arguments, and may hold prompts alone.
    - The log has unreadable videos, and from the second log on videos per second and the share of time spent waiting
      for data.

    Args:
        args, kwargs: as for `Trainer`; its `args` are [`VitaClipTrainingArguments`].
        base (`str`, *optional*): folder or Hub id of the CLIP that saved prompts belong to.
        base_revision (`str`, *optional*): its revision.
    """

    args: VitaClipTrainingArguments
    model: Any
    optimizer: Any

    def __init__(self, *args, base: str | None = None, base_revision: str | None = None, **kwargs):
        if not any(isinstance(value, VitaClipTrainingArguments) for value in (*args, kwargs.get("args"))):
            raise TypeError(
                "`args` must be VitaClipTrainingArguments; transformers' own TrainingArguments lack fields."
            )
        kwargs.setdefault("compute_metrics", self.count_videos_once)
        super().__init__(*args, **kwargs)
        sets = [f"{name}_" for name in self.eval_dataset] if isinstance(self.eval_dataset, dict) else [""]
        names = [f"{prefix}{metric}" for prefix in sets for metric in (*METRICS, "loss")]
        best = (self.args.metric_for_best_model or names[0]).removeprefix("eval_")
        if best not in names:
            raise ValueError(f"`metric_for_best_model` must be one of {', '.join(names)}, got {best!r:.100}.")
        if self.is_fsdp_enabled:
            if self.args.prompts_only:
                raise ValueError("`prompts_only` does not work with FSDP; save the whole model, then `save_prompts`.")
            make_shardable(self.model)
        self.add_callback(BestCheckpointFinder)
        self.base, self.base_revision = base, base_revision
        self._class_embeds: SharedClassEmbeds | None = None
        self._gathers_for: nn.Module | None = None
        self._plain_class_embeds: torch.Tensor | None = None
        self._counted_from: float | None = None  # the time from which videos and waiting are counted
        self._videos, self._waited = 0, 0.0
        self._failures, self._reported = 0, set[str]()

    # Data

    def _get_train_sampler(self, train_dataset=None):
        # Private: `Trainer` has no other way to pass a sampler, and clips need theirs.
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if isinstance(dataset, ClipDataset):
            return EpochSampler(dataset, seed=dataset.seed)
        return super()._get_train_sampler(train_dataset)

    def _get_dataloader(self, dataset, *args, **kwargs) -> DataLoader:
        # Private: the one place that the loaders of training, evaluation and prediction come from.
        is_stream = isinstance(dataset, ClipStream)
        return self._stream_loader(dataset) if is_stream else super()._get_dataloader(dataset, *args, **kwargs)

    def _stream_loader(self, stream: ClipStream) -> DataLoader:
        """A stream is split among ranks and workers by itself. accelerate would decode every video on every rank."""
        return stream.loader(
            self.data_collator,
            num_workers=self.args.dataloader_num_workers or 0,
            device=self.args.device,
            pin_memory=self.args.dataloader_pin_memory,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            persistent_workers=self.args.dataloader_persistent_workers,
            multiprocessing_context=self.args.dataloader_multiprocessing_context,
        )

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device):
        """The micro-batches of an optimizer step, without the entries that the model does not take."""
        self._class_embeds = None
        return super().get_batch_samples(self._watched(epoch_iterator), num_batches, device)

    def _watched(self, batches: Iterator) -> Iterator[dict[str, Any]]:
        started = time.perf_counter()
        for batch in batches:
            self._videos += len(batch["labels"])
            self._waited += time.perf_counter() - started
            failures = batch.get("failures", ())
            self._failures += len(failures)
            self._report_failures(failures, "another video taken in its place")
            yield {name: value for name, value in batch.items() if name not in BOOKKEEPING}
            started = time.perf_counter()

    def _report_failures(self, failures, what_then: str) -> None:
        """Names each unreadable video once."""
        for path, reason in failures:
            if path not in self._reported:
                self._reported.add(path)
                logger.warning(f"unreadable, {what_then}: {path}: {reason}")

    # Steps

    def train(self, *args, **kwargs):
        """As in `Trainer`. Removes the incomplete checkpoint of a killed training first."""
        if self.args.should_save:
            shutil.rmtree(Path(self.args.output_dir) / INCOMPLETE, ignore_errors=True)
        self._counted_from = None
        return super().train(*args, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """As in `Trainer`, with the class embeddings of the optimizer step."""
        # FSDP 1 gathers weights in the wrapped forward pass only: there, each micro-batch makes its own embeddings.
        if model.training and (not self.is_fsdp_enabled or self.accelerator.is_fsdp2):
            if self._class_embeds is None:
                self._class_embeds = SharedClassEmbeds(self._model_of_step(model))
            with self.accelerator.autocast():
                shared = self._class_embeds.for_micro_batch(is_last=self.accelerator.sync_gradients)
            inputs = {**inputs, "class_embeds": shared}
        if model.training and (self.args.distillation_weight or self.args.context_penalty):
            self.compute_loss_func = self._regularized_loss(model, inputs)
        return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

    def _regularized_loss(self, model: nn.Module, inputs: dict[str, Any]) -> Callable[..., torch.Tensor]:
        """
        The loss of these inputs: cross-entropy, and what keeps the model near its frozen CLIP.

        `distillation_weight` adds the squared distance of the video features from those of CLIP, mean over the videos;
        FROSTER (arXiv 2402.03241) distils from a frozen CLIP with ratio 2. `context_penalty` adds the squared distance
        of the class features from those of the plain names, mean over the classes, as KgCoOp (arXiv 2303.13283) does.
        """
        own, teacher = self._own(model), None
        if self.args.distillation_weight:
            pixels = inputs["pixel_values_videos"]
            no_classes = pixels.new_zeros(1, own.config.projection_dim)
            with torch.no_grad():
                teacher = model(pixel_values_videos=pixels, class_embeds=no_classes, use_prompts=False).video_embeds
        if self.args.context_penalty:
            if self.is_fsdp_enabled:
                raise ValueError("`context_penalty` does not work with FSDP; leave one of them out")
            if self._plain_class_embeds is None:  # constant, so made once
                self._plain_class_embeds = plain_class_embeds(own)

        def compute_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
            loss = classification_loss(outputs.logits, labels, num_items_in_batch)
            # This batch's part of the optimizer step, as in `classification_loss`.
            part = 1 if num_items_in_batch is None else labels.numel() / torch.as_tensor(num_items_in_batch).to(loss)
            if teacher is not None:
                distance = squared_distance(outputs.video_embeds, teacher)
                loss = loss + part * self.args.distillation_weight * distance
            if self._plain_class_embeds is not None:
                distance = squared_distance(inputs["class_embeds"], self._plain_class_embeds)
                loss = loss + part * self.args.context_penalty * distance.to(loss.device)
            return loss

        return compute_loss

    def _own(self, model: nn.Module) -> VitaClipModel:
        return self.accelerator.unwrap_model(model, keep_torch_compile=False)

    def _model_of_step(self, model: nn.Module) -> VitaClipModel:
        """The model itself. FSDP 2 is told to gather the weights for `get_class_embeds` as it does for `forward`."""
        own = self._own(model)
        if self.is_fsdp_enabled and own is not self._gathers_for:
            from torch.distributed.fsdp import register_fsdp_forward_method

            register_fsdp_forward_method(own, "get_class_embeds")
            self._gathers_for = own
        return own

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """The weights of linear layers, or every tensor with `decay_all`."""
        if self.args.decay_all:
            return [name for name, _ in model.named_parameters()]
        layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
        return [f"{name}.weight" for name in layers]

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """
        Returns:
            `tuple`: no loss; the softmax averaged over views, `torch.Tensor` of shape `(batch_size, num_classes)`; and
            labels with indices, `torch.Tensor` of shape `(batch_size, 2)`.
        """
        inputs = self._prepare_inputs(inputs)
        self._report_failures(inputs.get("failures", ()), "not evaluated")
        pixels = inputs["pixel_values_videos"]  # [B, views, T, 3, H, W]
        with torch.no_grad(), self.compute_loss_context_manager():
            logits = model(pixel_values_videos=pixels.flatten(0, 1)).logits
        # As in `Scorer`, but through the wrapped model, whose weights may be divided among ranks.
        scores = logits.float().softmax(-1).unflatten(0, pixels.shape[:2]).mean(1)
        return None, scores, torch.stack([inputs["labels"], inputs["index"]], dim=1)

    def count_videos_once(self, prediction: EvalPrediction) -> dict[str, float]:
        """
        Top-1, top-5, mean accuracy of the classes and negative log-likelihood. Ranks and padding may repeat videos;
        each counts once.

        Args:
            prediction (`EvalPrediction`): outputs of `prediction_step`.

        Returns:
            `dict[str, float]`: the metrics by name.

        Raises:
            ValueError: no video could be read.
        """
        labels, index = np.asarray(prediction.label_ids).T
        seen, first = np.unique(index, return_index=True)
        first = first[seen >= 0]  # a stream pads its last batches with index -1
        scores, labels = np.asarray(prediction.predictions)[first], labels[first]
        known = labels >= 0
        if not known.any():
            raise ValueError(f"none of the {len(labels)} validation videos could be read; check the data")
        likelihoods = scores[known, labels[known]].clip(min=np.finfo(np.float32).tiny)
        return {"loss": float(abs(np.log(likelihoods).mean())), **compute_metrics(scores, labels)}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            if not math.isfinite(logs["loss"]):
                raise ValueError(
                    f"the loss is {logs['loss']} at step {self.state.global_step}; lower `learning_rate` or set "
                    "`max_grad_norm` 1, in another `output_dir`"
                )
            now = time.perf_counter()
            seconds = now - (self._counted_from or 0.0)
            counts = [self._videos / seconds, self._waited / seconds, self._failures]
            of_ranks = self.accelerator.gather(torch.tensor([counts], device=self.args.device))
            if self._counted_from is not None:  # not in the first log, whose steps start workers and kernels
                logs["videos_per_second"] = of_ranks[:, 0].sum().item()
                logs["waiting_for_data"] = of_ranks[:, 1].mean().item()
            logs["unreadable_videos"] = int(of_ranks[:, 2].sum().item())
            self._counted_from, self._videos, self._waited = now, 0, 0.0
        super().log(logs, start_time)

    def evaluate(self, *args, **kwargs):
        started, counted_from = time.perf_counter(), self._counted_from
        metrics = super().evaluate(*args, **kwargs)
        self._counted_from = counted_from  # each of several sets came here too
        self._leave_out(time.perf_counter() - started)
        return metrics

    def _leave_out(self, seconds: float) -> None:
        """Time of evaluation and saving does not count."""
        if self._counted_from is not None:
            self._counted_from += seconds

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """As in `Trainer`, of saved models only. Of equal accuracies, the lower loss is better."""
        # Private: `Trainer` also picks models that were not saved, and has no rule for equal accuracies.
        if self.args.load_best_model_at_end and not (self.control.should_save or self.args.save_strategy == "best"):
            return False
        before, step = self.state.best_metric, self.state.best_global_step
        if super()._determine_best_metric(metrics, trial):
            return True
        name = f"eval_{(self.args.metric_for_best_model or '').removeprefix('eval_')}"
        loss = re.sub(f"({'|'.join(METRICS)})$", "loss", name)  # of the same one of several sets
        losses = [log[loss] for log in self.state.log_history if log["step"] == step and loss in log]
        is_better = bool(losses) and metrics.get(name) == before and metrics[loss] < losses[0]
        if is_better:
            self.state.best_global_step = self.state.global_step
        return is_better

    # Checkpoints

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """As in `Trainer`, into a folder from which the checkpoint is moved to its place when it is complete."""
        # Private: `Trainer` writes into the final folder, where a killed training leaves half a checkpoint.
        started = time.perf_counter()
        output, run = self.args.output_dir, self._get_output_dir(trial)  # of a search, each trial has a folder
        final = checkpoint_folder(run, self.state.global_step)
        staging = Path(run) / INCOMPLETE
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        with writing(final, staging):
            self.args.output_dir = str(staging)
            try:
                super()._save_checkpoint(model, None)
            finally:
                self.args.output_dir = output
            self.accelerator.wait_for_everyone()  # other ranks have written their random states
            if self.args.should_save:
                finish_checkpoint(staging / final.name, final, self.state)
                staging.rmdir()
        if self.state.best_global_step:
            self.state.best_model_checkpoint = str(checkpoint_folder(run, self.state.best_global_step))
        if self.args.should_save:
            rotate_checkpoints(run, self.args.save_total_limit, self.state.best_model_checkpoint)
        self.accelerator.wait_for_everyone()
        self._leave_out(time.perf_counter() - started)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """As in `Trainer`, without pickled arguments; or the prompts alone."""
        # Private: `save_model` gathers the weights of all ranks, and gives them to nothing else.
        folder = Path(output_dir or self.args.output_dir)
        if not self.args.prompts_only:
            if state_dict is not None and "logit_scale" in state_dict:  # of `make_shardable`
                state_dict = {**state_dict, "logit_scale": state_dict["logit_scale"].reshape(())}
            super()._save(output_dir, state_dict)
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)
        elif self.args.should_save:
            save_prompts(self._own(self.model), folder, self.base, self.base_revision, self.processing_class)

    def restore(self, checkpoint: str | Path) -> None:
        """
        Loads the state and the model of a finished training, without training any further.

        Args:
            checkpoint (`str` or `Path`): the last one of the training.
        """
        self.state = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
        find_best_checkpoint(self.args, self.state)
        if self.is_fsdp_enabled:  # FSDP 2 takes no model without its optimizer
            self.create_optimizer()
            self.model, self.optimizer = self.accelerator.prepare(self.model, self.optimizer)
        best = self.state.best_model_checkpoint if self.args.load_best_model_at_end else None
        self._load_from_checkpoint(str(best or checkpoint))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        # Private: `Trainer` knows only the names of whole models.
        if self.args.prompts_only:
            read_prompts_into(self.accelerator.unwrap_model(model or self.model), resume_from_checkpoint)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        # Private: the same for the best model.
        if self.args.prompts_only:
            self._load_from_checkpoint(self.state.best_model_checkpoint)
        else:
            super()._load_best_model()


class BestCheckpointFinder(TrainerCallback):
    """Finds the best checkpoint of a resumed run where the run is now."""

    def on_train_begin(self, args, state, control, **kwargs):
        find_best_checkpoint(args, state)


def find_best_checkpoint(args: VitaClipTrainingArguments, state: TrainerState) -> None:
    """Sets the path of the best checkpoint from its step. A checkpoint that was deleted is forgotten."""
    best = checkpoint_folder(args.output_dir, state.best_global_step)
    state.best_model_checkpoint = str(best) if best.is_dir() else None
    if args.load_best_model_at_end and state.best_global_step and not best.is_dir():
        logger.warning(f"{best}, the best checkpoint, was deleted. The best of the next ones is kept instead.")
        state.best_global_step = state.best_metric = None


def make_shardable(model: VitaClipModel) -> None:
    """Makes CLIP's logit scale a vector of one entry, because FSDP shards no scalars. The results are the same."""
    scale: nn.Parameter = model.logit_scale
    model.logit_scale = nn.Parameter(scale.detach().reshape(1), requires_grad=scale.requires_grad)
