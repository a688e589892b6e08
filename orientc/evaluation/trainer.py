"""transformers' `Trainer` as fine-tuning uses it: quiet, one device per process, checkpoints marked when complete."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from orientc.errors import EvaluationError
from orientc.evaluation.checkpoints import Checkpoints
from orientc.evaluation.configs import FinetuningConfig
from orientc.models import compact
from orientc.storage.sizes import INPUT_ONLY
from orientc.utils import distributed
from orientc.utils.files import writing
from orientc.utils.progress import Progress


def trainer_for(
    model: PreTrainedModel,
    collate: Callable[[Any], Any],
    config: FinetuningConfig,
    checkpoints: Checkpoints,
    *,
    device: torch.device,
    train: Any = None,
    save_steps: int | None = None,
    progress: Progress,
) -> Trainer:
    """A `Trainer` for `model` on `device`; it writes nothing but checkpoints.

    Raises `EvaluationError` where the batch can't be divided among the processes.
    """
    per_process, rest = divmod(config.batch_size, distributed.count())
    if rest:
        raise EvaluationError(f"a batch of {config.batch_size} can't be divided among {distributed.count()} processes")
    if distributed.count() == 1:
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)  # accelerate has no other way of being told
    arguments = _Arguments(
        output_dir=str(checkpoints.folder),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=per_process,
        per_device_eval_batch_size=per_process,
        gradient_accumulation_steps=config.gradient_accumulation,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        seed=config.seed,
        bf16=config.precision == "bfloat16",
        fp16=config.precision == "float16",
        train_sampling_strategy="group_by_length" if config.group_by_length else "random",
        logging_steps=0.02,
        save_strategy="epoch" if save_steps is None else "steps",
        save_steps=save_steps or 500,
        save_total_limit=2,  # one whole while the next is being written
        report_to="none",
        disable_tqdm=True,
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
    )
    arguments.chosen = device
    trainer = _Trainer(
        model=model,
        args=arguments,
        data_collator=collate,
        train_dataset=train,
        callbacks=[_Watcher(checkpoints, progress)],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


class _Trainer(Trainer):
    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """In the compact form: `Trainer` would leave a configuration that promises a dense table."""
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            compact.save(self.model, folder, INPUT_ONLY)

    def _save_checkpoint(self, *inputs: Any, **options: Any) -> Any:
        with writing(Path(self.args.output_dir)):
            return super()._save_checkpoint(*inputs, **options)

    def predict(self, *inputs: Any, **options: Any) -> Any:
        """In the order of the data: what `Trainer` groups by length in training, it would in scoring too."""
        self.args.train_sampling_strategy = "random"
        return super().predict(*inputs, **options)


class _Arguments(TrainingArguments):
    chosen: torch.device | None = None

    @property
    def device(self) -> torch.device:
        """The device chosen; `Trainer` by itself would always take the first of its kind."""
        return self.chosen or super().device

    @property
    def n_gpu(self) -> int:
        """One a process: with more, `Trainer` would wrap the model in DataParallel and multiply the batch."""
        return int(min(1, super().n_gpu))


class LogsWith(TrainerCallback):
    """Hands what `Trainer` logs, numbers by name, to a function of step and figures."""

    def __init__(self, track: Callable[[int, Mapping[str, float]], None]) -> None:
        self.track = track

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_: Any) -> None:
        """Hand on what is logged at a step."""
        self.track(state.global_step, {name: value for name, value in (logs or {}).items() if name != "epoch"})


class _Watcher(TrainerCallback):
    """Reports progress, and marks checkpoints that are complete."""

    def __init__(self, checkpoints: Checkpoints, progress: Progress) -> None:
        self.checkpoints = checkpoints
        self.progress = progress

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress.stage("training", state.max_steps)
        self.progress.advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress.advance(1)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        distributed.wait()  # each process has a part of the checkpoint to write
        if distributed.is_main():
            self.checkpoints.mark_whole(state.global_step)

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress.advance(1)
