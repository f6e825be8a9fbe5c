"""Wrong values fail before anything is loaded, with the allowed values."""

from dataclasses import replace

import pytest
from hydra.errors import ConfigCompositionException

from adalora.errors import UserError
from adalora.methods.adalora.options import AdaLoRAConfig
from adalora.methods.lora.options import LoRAConfig


@pytest.mark.parametrize(
    "override, message",
    [
        ("precision=fp64", r"precision=fp64: allowed are fp32, tf32, bf16, fp16"),
        ("tracking=foo", r"tracking=foo: allowed are wandb, none"),
        ("device=tpu", r"device=tpu: allowed are auto, cpu, cuda"),
        ("seed=-1", r"seed=-1: must lie in"),
        ("training.batch_size=0", r"training\.batch_size=0: must be positive"),
        ("training.micro_batches=0", r"training\.micro_batches=0: must be a positive whole number, or auto"),
        ("training.micro_batches=atuo", r"training\.micro_batches=atuo: must be a positive whole number, or auto"),
        ("training.eval_batch_size=2.5", r"training\.eval_batch_size=2\.5: must be a positive whole number, or auto"),
        ("training.micro_batches=5", r"training\.micro_batches=5 must divide training\.batch_size=32"),
        ("training.eval_batch_size=-8", r"training\.eval_batch_size=-8: must be a positive whole"),
        ("training.epochs=0", r"training\.epochs=0.*: must be positive"),
        ("training.max_steps=0", r"training\.max_steps=0: must be positive and finite, or null"),
        ("recipe.total_steps=-1", r"recipe\.total_steps=-1: must be positive and finite, or null"),
        (
            "recipe.lengths.warmup_steps=-1",
            r"recipe\.lengths\.warmup_steps=-1: must not be negative",
        ),
        (
            "+recipe.lengths.interval=5",
            r"recipe\.lengths\.interval: allowed are mask_interval, ",
        ),
        ("training.eval_steps=0", r"training\.eval_steps=0: must be positive and finite, or null"),
        ("training.lr=0", r"training\.lr=0.*: must be positive"),
        ("training.lr=nan", r"training\.lr=nan: must be a finite number"),
        ("training.warmup_steps=-1", r"training\.warmup_steps=-1: must be finite and not negative"),
        ("training.weight_decay=-0.1", r"training\.weight_decay=-0\.1: must be finite and not negative"),
        ("training.max_grad_norm=0", r"training\.max_grad_norm=0.*: must be positive and finite, or null"),
        ("training.adam_beta1=-0.1", r"training\.adam_beta1=-0\.1: must lie in \[0, 1\)"),
        ("training.adam_beta2=1.0", r"training\.adam_beta2=1: must lie in \[0, 1\)"),
        ("training.log_steps=0", r"training\.log_steps=0: must be positive"),
        ("training.checkpoint_steps=0", r"training\.checkpoint_steps=0: must be positive and finite, or null"),
        ("training.checkpoint_minutes=-1", r"training\.checkpoint_minutes=-1.*: must be positive and finite, or null"),
        ("method.beta1=1.0", r"method\.beta1=1: must lie in \[0, 1\)"),
        ("method.beta2=-0.1", r"method\.beta2=-0\.1: must lie in \[0, 1\)"),
        ("method.init_rank=0", r"method\.init_rank=0: at least 1"),
        ("method.mask_interval=0", r"method\.mask_interval=0: at least 1"),
        ("method.initial_steps=-1", r"method\.initial_steps=-1: must be finite and not negative, or null"),
        ("method.final_steps=-1", r"method\.final_steps=-1: must be finite and not negative, or null"),
        ("method.orthogonality=-0.1", r"method\.orthogonality=-0\.1: must be finite and not negative"),
        ("method.alpha=0", r"method\.alpha=0: must be positive"),
        ("method.init_std=0", r"method\.init_std=0: must be positive"),
        ("method.dropout=1.0", r"method\.dropout=1: must lie in \[0, 1\)"),
        ("model.attention=flash", r"model\.attention=flash: allowed for deberta-v2 are exact, eager"),
        ("model.model_type=gpt2", r"model\.model_type=gpt2: allowed are deberta-v2, bart"),
        ("model.classifier_dropout=1.0", r"model\.classifier_dropout=1: must lie in \[0, 1\)"),
        ("task.max_length=2", r"task\.max_length=2: at least 3"),
    ],
)
def test_a_wrong_value_is_named_with_the_allowed_ones(compose, override, message):
    with pytest.raises(UserError, match=message):
        compose(override)


@pytest.mark.parametrize(
    "line, message",
    [
        (
            "task=squad_v2 model.classifier_dropout=0.3",
            r"model\.classifier_dropout=0\.3: task=squad_v2 has no classifier",
        ),
        ("method=increlora method.compat=old", r"method\.compat=old: allowed are none, released"),
        ("method=increlora method.top_h=0", r"method\.top_h=0: at least 1"),
        ("method=increlora method.add_rank=0", r"method\.add_rank=0: at least 1"),
        ("method=increlora method.interval=0", r"method\.interval=0: at least 1"),
        (
            "method=increlora method.initial_steps=-1",
            r"method\.initial_steps=-1: must be finite and not negative, or null",
        ),
        ("method=increlora method.target_rank=0.5", r"target_rank=0\.5 is below method\.init_rank=1.*lower init_rank"),
        ("method=increlora method.beta1=1.0", r"method\.beta1=1: must lie in"),
        ("method=increlora method.dropout=1.0", r"method\.dropout=1: must lie in"),
        ("method=lora method.rank=0", r"method\.rank=0: at least 1"),
        ("method.init_rank=4 method.target_rank=5", r"method\.target_rank=5"),
        ("+model.targets.one=deberta.encoder.layer.0.output.dense", r"model\.targets\.one=deb.*: \{layer\} stands for"),
        ("model.targets.query='a.{l}.b'", r"model\.targets\.query=a\.\{l\}\.b: \{layer\} stands for"),
        ("task.source.files='{x}.parquet'", r"task\.source\.files=\{x\}\.parquet: only \{split\} may stand in braces"),
        ("task=squad_v1 model=deberta_v3_base task.null_threshold=1", r"task\.null_threshold=1: every question"),
        ("training.micro_batches=true", r"training\.micro_batches=True: must be a positive whole number"),
        ("method=adalora method.target_rank=-1", r"method\.target_rank=-1: must be positive"),
        ("method.form=quadruplets", r"method\.form=quadruplets: allowed are triplets, doublets"),
        ("method.importance=age", r"method\.importance=age: allowed are smoothed, sensitivity, magnitude"),
        ("method.form=doublets method.importance=magnitude", r"magnitude is \|lambda\|, which method\.form=doublets"),
        (
            "method.modules=[query,valu]",
            r"method\.modules: valu isn't a module of DeBERTaV3-base, allowed are query, key",
        ),
        ("method=lora method.modules=[]", r"method\.modules=\[\]: give at least one"),
        ("method=lora model=bart_large method.modules=[query]", r"query isn't a module of BART-large.*encoder\.query"),
        ("method=houlsby method.width=0", r"method\.width=0: at least 1"),
        ("method=pfeiffer method.init_std=0", r"method\.init_std=0: must be positive"),
        ("method=pfeiffer method.modules=[query]", r"query has no residual.*allowed are attention\.output, "),
        (
            "method=houlsby model=bart_large method.modules=[output]",
            r"output has no residual.*allowed are encoder\.out, encoder\.fc2, decoder\.out, cross\.out, decoder\.fc2",
        ),
        ("method=mora method.rank=0", r"method\.rank=0: at least 1 is needed"),
        ("method=mora method.type=2", r"method\.type=2: allowed are 1, 6"),
        ("method=mora method.narrowing_type=2", r"method\.narrowing_type=2: allowed are 1, 6, or null"),
        ("method=mora method.dropout=1", r"method\.dropout=1: must lie in \[0, 1\)"),
        ("method=melora method.minis=0", r"method\.minis=0: at least 1 is needed"),
        ("method=melora method.alpha=-1", r"method\.alpha=-1: must be positive"),
        ("method=melora method.modules=[quary]", r"quary isn't a module of DeBERTaV3-base"),
        ("method=lorta method.heads=0", r"method\.heads=0: at least 1 is needed"),
        ("method=lorta method.head_side=left", r"method\.head_side=left: allowed are as_released, output_for_qkv"),
        (
            "method=lorta method.head_side=output_for_qkv method.modules=[query,value]",
            r"head_side=output_for_qkv.*needs method\.modules=null",
        ),
        ("method=lorta method.init_scale=-1", r"method\.init_scale=-1: must be finite and not negative"),
        ("method=lora_mini method.rank=8 method.inner_out=7", r"method\.rank=8 is above method\.inner_out=7.*lower it"),
        ("method=lora_mini method.outer=svd", r"method\.outer=svd: allowed are orthonormal, gaussian"),
    ],
)
def test_a_wrong_option_of_a_method_is_named(compose, line, message):
    with pytest.raises(UserError, match=message):
        compose(*line.split())


def test_modules_narrow_the_targets(compose):
    config = compose("method=lora", "method.modules=[value,query]")
    assert list(config.backbone.targets) == ["query", "value"]  # the backbone's order
    assert replace(config, seed=2).backbone == config.backbone
    assert list(compose("method=houlsby").backbone.targets) == ["attention.output", "output"]
    assert len(compose("method=houlsby", "model=bart_large").backbone.targets) == 5
    assert len(compose("method=pfeiffer", "model=bart_minilm").backbone.targets) == 2
    assert list(compose("method=houlsby", "method.modules=[output]").backbone.targets) == ["output"]
    assert compose("method=pfeiffer").backbone.targets == {"output": "deberta.encoder.layer.{layer}.output.dense"}


def test_doublets_have_no_orthogonality(compose):
    assert compose("method.form=doublets").method.orthogonality == 0  # RTE's recipe says 0.3


def test_the_ends_of_the_ranges_are_allowed(compose):
    config = compose(
        "seed=0",
        "method.init_rank=4",
        "method.target_rank=4",
        "method.beta1=0",
        "method.dropout=0",
        "method.orthogonality=0",
        "method.initial_steps=0",
        "training.weight_decay=0",
        "training.warmup_steps=0",
        "training.max_grad_norm=null",
        "training.micro_batches=32",
        "training.epochs=0.5",
        "task.max_length=3",
    )
    assert (config.method.init_rank, config.method.target_rank, config.method.beta1) == (4, 4.0, 0.0)
    assert config.training.max_grad_norm is None


@pytest.mark.parametrize(
    "override", ["training.batch_size=1.5", "training.batch_size=null", "method.mask_interval=0.5", "task.text=null"]
)
def test_a_wrong_type_is_not_accepted(compose, override):
    with pytest.raises((ConfigCompositionException, UserError), match=override.partition("=")[0].rpartition(".")[2]):
        compose(override)


def test_another_method_s_option_is_not_accepted(compose):
    with pytest.raises(ConfigCompositionException, match=r"method\.init_rank"):
        compose("method=lora", "method.init_rank=3")


def test_pruning_needs_a_step():
    config = AdaLoRAConfig(initial_steps=30, final_steps=70)
    with pytest.raises(UserError, match=r"method\.initial_steps=30"):
        config.with_steps(100)
    assert config.with_steps(101) == replace(config, mask_interval=1)


def test_a_length_left_open_counts_when_filled():
    # final_steps becomes 45 of 100
    with pytest.raises(UserError, match=r"method\.initial_steps=55"):
        AdaLoRAConfig(initial_steps=55).with_steps(100)


def test_lengths_left_open_are_shares_of_the_training():
    planned = AdaLoRAConfig().with_steps(1000)
    assert (planned.initial_steps, planned.final_steps) == (150, 450)
    assert AdaLoRAConfig(final_steps=10).with_steps(1000).initial_steps == 150


def test_a_zero_is_not_a_length_left_open():
    planned = AdaLoRAConfig(initial_steps=0, final_steps=0).with_steps(1000)
    assert (planned.initial_steps, planned.final_steps) == (0, 0)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_the_shortest_trainings_have_room(steps):
    planned = AdaLoRAConfig().with_steps(steps)
    assert 0 <= planned.initial_steps + planned.final_steps < steps


def test_lora_has_no_lengths():
    assert LoRAConfig(rank=2).with_steps(1) == LoRAConfig(rank=2)
