"""What other tools call our options: transformers' TrainingArguments and example scripts, and PEFT."""

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
}
"""Name there -> what to give here."""
