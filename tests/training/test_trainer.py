"""A method in transformers' Trainer ends where this suite's own loop ends."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from adalora.config import validate
from adalora.errors import UserError
from adalora.fast import speed_up
from adalora.methods.adapter import own_parameters
from adalora.planning.identity import cell_id
from adalora.run.run import prepare
from adalora.trainer import STATE, MethodCallback, optimizers_of
from adalora.training.build import build_accelerator, build_batches, build_model
from tasks.discovery import create as create_task
from tests.conftest import composed_tree
from tests.methods.matrix import RUNS, mostly_slow, run_of

T = 20
SHORT = [
    f"training.max_steps={T}", "training.micro_batches=2", "training.warmup_steps=3", "training.eval_steps=20",
    "training.max_grad_norm=0.3", "training.weight_decay=0.02", "model.classifier_dropout=0", "fast=false",
]  # fmt: skip


class Stop(TrainerCallback):
    """Ends the process, as it were, after the checkpoint of step 10."""

    def on_save(self, args, state, control, **kw):
        if state.global_step == 10:
            raise KeyboardInterrupt


@pytest.fixture
def trained(start, tiny_run, still_model, tmp_path):
    """`trained(method)`: a finished run of our own loop, and what builds a Trainer for the same model and batches."""

    def go(method, *more, ours=True):
        options = [*tiny_run, f"model.path={still_model}", *run_of(method), *SHORT, *more]
        folder = start(options) if ours else None
        config = validate(composed_tree(options), options)
        accelerator = build_accelerator(config)
        found = prepare(config, cell_id(config), accelerator, [])
        plan, task_type = found.plan, create_task(config.task)

        def trainer(*callbacks, regularised=True, planned=T, **arguments):
            torch.manual_seed(config.seed)
            model, method = build_model(plan.config, found.weights, config.task.outputs, accelerator.device)
            loader, order, _ = build_batches(
                plan.config, found.data, found.features, task_type, found.tokenizer, accelerator
            )
            batches = []
            while len(batches) < 2 * T:
                order.start_at(len(batches) // 2)
                batches += list(loader)
            callback = MethodCallback(method, planned)

            class MethodTrainer(Trainer):
                def training_step(self, *args, **kwargs):
                    loss = super().training_step(*args, **kwargs)
                    if regularised:
                        callback.add_regulariser(self.accelerator)
                    return loss

                def get_train_dataloader(self):
                    return DataLoader(batches[: 2 * T], 1, collate_fn=lambda batch: batch[0])

            training = plan.config.training
            given = {
                "output_dir": tmp_path / "trainer", "max_steps": T, "gradient_accumulation_steps": 2, "use_cpu": True,
                "learning_rate": training.lr, "weight_decay": training.weight_decay, "warmup_steps": 3,
                "max_grad_norm": training.max_grad_norm, "adam_beta1": training.adam_beta1, "report_to": [],
                "adam_beta2": training.adam_beta2, "adam_epsilon": training.adam_eps, "save_steps": 10,
                "disable_tqdm": True,
            }  # fmt: skip
            args = TrainingArguments(**given | arguments)
            model.accepts_loss_kwargs = False  # DeBERTa takes the number of labels, but doesn't divide by it
            optimizers = optimizers_of(model, method, args, T)
            return MethodTrainer(model, args, callbacks=[callback, *callbacks], optimizers=optimizers), callback

        return folder, trainer

    return go


def same(folder, trainer, callback):
    """The trained parameters and the ranks are those of the run."""
    callback.method.finish()
    ours, theirs = load_file(folder / "adapter/adapter.safetensors"), own_parameters(trainer.model)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", mostly_slow(RUNS, "adalora"))
def test_twenty_steps_with_accumulation_end_where_our_loop_does(trained, method):
    folder, build = trained(method)
    trainer, callback = build(save_strategy="no")  # the Trainer can't save what PEFT's VeRA shares between modules
    trainer.train()
    same(folder, trainer, callback)


def test_it_resumes(trained, tmp_path):
    folder, build = trained("adalora")
    trainer, _ = build(Stop())
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    place = tmp_path / "trainer/checkpoint-10"
    assert (place / STATE).is_file()
    trainer, callback = build()
    with pytest.raises(UserError, match=r"resumes at step 10: call restore\(CHECKPOINT\)"):
        trainer.train(resume_from_checkpoint=str(place))
    trainer, callback = build()
    callback.restore(place)
    trainer.train(resume_from_checkpoint=str(place))
    same(folder, trainer, callback)


def test_what_would_train_otherwise_is_refused(trained):
    _, build = trained("adalora", ours=False)
    trainer, _ = build()
    trainer.args.load_best_model_at_end = True
    with pytest.raises(UserError, match="adalora allocates until its last step: set load_best_model_at_end=False"):
        trainer.train()
    trainer, callback = build()
    callback.method.threshold = callback.method.threshold.to("meta")  # as if the model alone had moved
    with pytest.raises(UserError, match=r"state isn't on the model's device: call model.to\(args.device\) before att"):
        trainer.train()
    for method in ("prilora", "increlora"):
        trainer, _ = trained(method, ours=False)[1]()
        trainer.args.load_best_model_at_end = True
        with pytest.raises(UserError, match=f"{method} allocates until its last step"):
            trainer.train()
    trainer, callback = build(activation_checkpointing=True)
    speed_up(trainer.model, callback.method)
    with pytest.raises(UserError, match=r"activation_checkpointing=True .* call .*recompute_activations\(model\)"):
        trainer.train()
    for arguments, message in (
        ({"max_steps": 30}, "the Trainer makes 30 steps, but adalora is planned for 20"),
        ({"regularised": False}, "adalora's regulariser isn't in the gradient: call add_regulariser in training_step"),
        ({"lr_scheduler_type": "polynomial"}, "lr_scheduler_type=polynomial: allowed are linear, cosine"),
    ):
        with pytest.raises(UserError, match=message):
            build(**arguments)[0].train()


def test_what_the_trainer_does_to_several_devices_is_refused(trained):
    _, callback = trained("adalora", ours=False)[1]()
    good = {"fp16": False, "n_gpu": 1, "deepspeed": None, "fsdp": []}
    for bad, said in (({"fp16": True}, "fp16"), ({"n_gpu": 2}, "DataParallel"), ({"fsdp": ["x"]}, "FSDP")):
        with pytest.raises(UserError, match=said):
            callback.on_train_begin(SimpleNamespace(**good | bad), SimpleNamespace(max_steps=T), None)


class Early(TrainerCallback):
    """Stops after step 12, as early stopping does."""

    def on_step_end(self, args, state, control, **kw):
        control.should_training_stop = state.global_step == 12


def test_ranks_that_are_not_what_was_asked_for_are_an_error(trained, monkeypatch):
    _, build = trained("adalora", ours=False)
    with pytest.raises(UserError, match="training ended at step 12 of 20, and adalora isn't done"):
        build(Early())[0].train()
    trainer, callback = build()
    monkeypatch.setattr(callback.method, "after_step", lambda t: None)  # as PEFT's in a Trainer: nothing is pruned
    with pytest.raises(UserError, match="ended at a total rank of 36 instead of 23"):
        trainer.train()


@pytest.mark.slow
def test_a_growing_method_says_that_it_can_t_be_resumed(trained, tmp_path):
    _, build = trained("increlora", ours=False)
    with pytest.raises(UserError, match="increlora adds parameters as it trains"):
        build()[1].restore(tmp_path)


@pytest.mark.slow
def test_a_method_with_rates_of_its_own_needs_its_optimizer(trained):
    _, build = trained("sora", "method.gate_lr=0.5", ours=False)
    trainer, _ = build()
    trainer.optimizer, trainer.lr_scheduler = torch.optim.AdamW(trainer.model.parameters()), None
    with pytest.raises(UserError, match="sora has learning rates of its own: give optimizers=optimizers_of"):
        trainer.train()
