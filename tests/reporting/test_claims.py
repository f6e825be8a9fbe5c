"""The papers' claims: every claim finds its printed cells, and mistakes in the file are one line."""

import re

import pytest
import yaml

from adalora.errors import UserError
from adalora.paths import PAPER
from adalora.records.published import read_paper
from adalora.reporting.claims import read_claims
from adalora.reporting.frame import frame_of
from adalora.reporting.verdicts import judge

PRINTED = {  # by hand from the papers: (claim, part) -> difference in points; a cost ratio minus the largest one
    ("glue-average", "AdaLoRA - LoRA at 0.3M, mean of 8 tasks"): 88.86 - 88.15,
    ("glue-average", "AdaLoRA - PAdapter (Pfeiffer) at 0.3M, mean of 8 tasks"): 88.86 - 87.90,
    ("glue-lora", "AdaLoRA - LoRA at 0.3M, mnli"): (90.66 + 90.70 - 90.30 - 90.38) / 2,
    ("glue-lora", "AdaLoRA - LoRA at 0.3M, stsb"): 91.63 - 91.68,
    ("low-budget-rte", "AdaLoRA - LoRA at 0.3M, rte"): 1.80,
    ("squad-low-budget", "AdaLoRA - LoRA at 0.08%, squad_v2 f1"): 1.2,
    ("summaries", "AdaLoRA - LoRA at 1.10%, xsum rouge2"): 21.13 - 20.20,
    ("summaries", "AdaLoRA - LoRA at 2.20%, cnn_dailymail rouge1"): 45.00 - 45.03,
    ("svd-form", "AdaLoRA - AdaLoRA [form=doublets] at 0.3M, rte"): 87.73 - 86.15,
    ("orthogonality", "AdaLoRA - AdaLoRA [orthogonality=0] at 1.2M, mnli"): 90.77 - 90.43,
    ("cost-time", "AdaLoRA - LoRA at 0.3M, mnli minutes_per_epoch"): 117 / 105 - 71 / 60,
    ("increlora", "IncreLoRA - AdaLoRA at 0.3M, sst2"): 96.26 - 95.80,
    ("peft-gsm8k", "LoRA - AdaLoRA at 9.2M, metamath exact_number_test"): 47.839 - 37.301,
    ("increlora-orthogonality",
     "IncreLoRA [advance_learning=false] - IncreLoRA [advance_learning=false, orthogonality=0] at 0.3M, rte"): 1.81,
}  # fmt: skip


def test_every_claim_finds_its_printed_cells():
    found = {}
    verdicts = judge(read_claims(PAPER), frame_of([]), read_paper())
    for verdict in verdicts:
        assert verdict.verdict == "not run"
        assert bool(verdict.comparisons) != bool(verdict.claim.lacks), verdict.claim.id
        for part in verdict.comparisons:
            assert (part.published is None) == (verdict.claim.kind == "ranks"), part.name
            found[verdict.claim.id, part.name] = part.published
    assert {key: found[key] for key in PRINTED} == pytest.approx(PRINTED, abs=0.011)  # the printed averages are cut
    assert len(verdicts) >= 30


def test_all_tables_of_the_issue_are_spoken_of():
    tables = {claim.table for claim in read_claims(PAPER)}
    assert tables >= {*(f"AdaLoRA-T{n}" for n in (1, 2, 3, 4, 5, 14, 15)), "IncreLoRA-T1", "IncreLoRA-T2"}


GOOD = {"id": "x", "statement": "s", "place": "p", "one": {"method": "adalora"}, "others": [{"method": "lora"}],
        "budgets": ["0.3M"], "tasks": ["rte"]}  # fmt: skip


@pytest.mark.parametrize(
    "change, message",
    [
        ({"taks": ["rte"]}, "0.taks: unexpected keyword argument"),
        ({"one": {"method": "adalora", "options": {}}}, "0.one.options: unexpected keyword argument"),
        ({"over": "all"}, "0.over: input should be 'each' or 'average'"),
        ({"kind": "rank"}, "0.kind: input should be 'scores', 'ranks' or 'cost'"),
        ({"budgets": []}, "x: one side has no budget"),
        ({"tasks": []}, "x: give either tasks, or what the suite lacks"),
        ({"table": "AdaLoRA-T1", "margin": 0.1}, "x: margin and resolution are for a study's claims"),
        ({"lacks": "RoBERTa"}, "x: give either tasks, or what the suite lacks"),
        ({"kind": "ranks"}, "kind: ranks needs both more and less"),
        ({"kind": "cost"}, "kind: cost needs a table or a limit"),
        ({"kind": "ranks", "more": {"module": ["query"]}}, "0.more.module: unexpected keyword argument"),
        ({"kind": "ranks", "more": {"half": "uper"}}, "0.more.half: input should be 'upper' or 'lower'"),
    ],
)
def test_a_wrong_claim_is_one_line(tmp_path, change, message):
    for claim in (GOOD, GOOD | change):
        (tmp_path / "claims.yaml").write_text(yaml.safe_dump([claim]))
        if claim == GOOD:
            assert read_claims(tmp_path)[0].id == "x"
    with pytest.raises(UserError, match=re.escape(message)) as error:
        read_claims(tmp_path)
    assert "\n" not in str(error.value) and "claims.yaml" in str(error.value)


@pytest.mark.parametrize(
    "text, message",
    [("- id: [", "is damaged"), ("id: 3", "input should be a valid list"), ("- {id: x}", "statement: field required"),
     (None, "it belongs to the repository")],
)  # fmt: skip
def test_a_file_that_cannot_be_read(tmp_path, text, message):
    if text is not None:
        (tmp_path / "claims.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_claims(tmp_path)


def test_no_claim_has_the_name_of_another(tmp_path):
    text = (PAPER / "claims.yaml").read_text()
    (tmp_path / "claims.yaml").write_text(text + text[text.index("- id: glue-lora") : text.index("- id: glue-houlsby")])
    with pytest.raises(UserError, match="has glue-lora twice"):
        read_claims(tmp_path)
