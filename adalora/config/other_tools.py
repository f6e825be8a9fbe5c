"""What other tools call our options: transformers, its example scripts, PEFT, and AdaLoRA's own scripts."""

RANK = "method.rank (AdaLoRA: method.target_rank), or better a budget, such as budget=0.3M"
MODEL = "model=NAME, or model.path=FOLDER or model.hub=ID for one of your own"
HERE = {
    # transformers
    "learning_rate": "training.lr",
    "per_device_train_batch_size": "training.batch_size, the rows of a whole step",
    "train_batch_size": "training.batch_size",
    "gradient_accumulation_steps": "training.micro_batches, which divides training.batch_size",
    "per_device_eval_batch_size": "training.eval_batch_size",
    "num_train_epochs": "training.epochs",
    "num_epochs": "training.epochs",
    "warmup_ratio": "training.warmup_steps, a number of steps",
    "lr_scheduler_type": "training.schedule",
    "logging_steps": "training.log_steps",
    "save_steps": "training.checkpoint_steps",
    "gradient_checkpointing": "training.activation_checkpointing",
    "bf16": "precision=bf16",
    "fp16": "precision=fp16",
    "tf32": "precision=tf32",
    "output_dir": "run_root",
    "report_to": "tracking",
    "run_name": "wandb.name",
    "model_name_or_path": MODEL,
    "model_name": MODEL,
    "dataset_name": "task=NAME, or task.train_file and task.eval_file for data of your own",
    "task_name": "task=NAME",
    "validation_file": "task.eval_file",
    "max_seq_length": "task.max_length",
    "max_train_samples": "training.max_steps: training takes all rows",
    "max_eval_samples": "task.eval_rows",
    "optim": "AdamW alone",
    "num_labels": "task.labels",
    "resume": "not needed: the same command resumes",
    "resume_from_checkpoint": "not needed: the same command resumes",
    "overwrite_output_dir": "not needed: the same command resumes, and repeats a run whose folder was removed",
    "load_in_4bit": "not supported: model.dtype=bf16 halves the memory",
    "load_in_8bit": "not supported: model.dtype=bf16 halves the memory",
    "local_files_only": "HF_HUB_OFFLINE=1, in the environment",
    "gpus": "torchrun --nproc-per-node=N (docs/clusters.md)",
    "seeds": "seed; several: --multirun seed=1,2,3",
    # PEFT
    "r": RANK,
    "lora_r": RANK,
    "lora_rank": RANK,
    "lora_alpha": "method.alpha",
    "lora_dropout": "method.dropout",
    "target_modules": "method.modules, short names of model.targets",
    "lora_target_modules": "method.modules, short names of model.targets",
    "modules_to_save": "task.train_modules",
    "init_r": "method.init_rank",
    "target_r": "method.target_rank",
    "tinit": "method.initial_steps",
    "tfinal": "method.final_steps",
    "deltaT": "method.mask_interval",
    "orth_reg_weight": "method.orthogonality",
    "use_dora": "method=peft method.config.use_dora=true",
    # AdaLoRA's scripts
    "apply_lora": "method=lora",
    "apply_adalora": "method=adalora",
    "lora_module": "method.modules, short names of model.targets",
    "init_warmup": "method.initial_steps",
    "final_warmup": "method.final_steps",
    "reg_orth_coef": "method.orthogonality",
    "cls_dropout": "model.classifier_dropout",
}
"""Name there -> what to give here."""
PEFT_TYPES = ("boft", "fourierft", "hra", "ia3", "loha", "lokr", "oft", "randlora", "vblora", "vera")
METHODS_ELSEWHERE = {name: f"method=peft method.type={name.upper()}" for name in PEFT_TYPES} | {
    "dora": "method=peft method.config.use_dora=true",
    "svd_lora": "experiment=svd_lora",
}
"""Methods that have no file of their own -> how to choose them."""
