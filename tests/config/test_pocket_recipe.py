"""recipe=pocket against arXiv 2303.10512 Table 8: a fifth of its steps, for every method."""

import pytest

from adalora.planning.plan import make_plan
from tests.methods.matrix import mostly_slow

FIFTH = 5
GLUE = ("cola", "mrpc", "stsb")


@pytest.mark.parametrize("task", GLUE)
@pytest.mark.parametrize("method", mostly_slow(["adalora", "lora", "pfeiffer", "bitfit"], "adalora", "bitfit"))
def test_every_method_has_a_fifth_of_the_published_training(compose, task, method):
    pocket = compose("experiment=pocket", f"task={task}", f"method={method}")
    paper = compose("model=deberta_v3_base", f"task={task}", f"method={method}")
    plans = [make_plan(config, config.task.rows) for config in (pocket, paper)]
    assert plans[0].total_steps * FIFTH == plans[1].total_steps
    assert pocket.training.epochs * FIFTH == paper.training.epochs
    assert plans[0].config.training.warmup_steps * FIFTH == plans[1].config.training.warmup_steps
    for name in ("batch_size", "weight_decay", "max_grad_norm"):
        assert getattr(pocket.training, name) == getattr(paper.training, name)
    if method == "adalora":
        own, published = (plan.config.method for plan in plans)
        assert own.initial_steps * FIFTH == published.initial_steps
        assert own.final_steps * FIFTH == published.final_steps
        assert own.mask_interval == max(1, published.mask_interval // FIFTH)
        assert (own.alpha, own.orthogonality) == (published.alpha, published.orthogonality)
        assert (own.init_rank, own.target_rank) == (3, 2)


@pytest.mark.parametrize("task", [*GLUE, "r8"])
def test_methods_differ_in_their_own_options_only(compose, task):
    shared = set()
    for method in (["method=adalora"], ["method=lora"], ["method.init_rank=2", "method.target_rank=2"]):
        plan = make_plan(config := compose("experiment=pocket", f"task={task}", *method), config.task.rows)
        options = vars(plan.config.training) | {"precision": plan.config.precision, "lr": None}
        shared.add(str((sorted(options.items()), plan.solution.budget, config.budget.params)))
    assert len(shared) == 1
