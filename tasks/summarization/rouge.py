"""ROUGE (Lin 2004) as an `evaluate.Metric`, computed by rouge_score with Punkt's sentences.

With the n-grams g of a reference R and a prediction P, stemmed and in lower case,

    ROUGE-n = 2 p r / (p + r),   p = sum_g min(R_g, P_g) / sum_g P_g,   r = sum_g min(R_g, P_g) / sum_g R_g

ROUGE-L uses the longest common subsequence of the texts instead of common n-grams; ROUGE-Lsum the union of those
between each reference sentence and all predicted ones. A score is the mean over the rows.

docs/deviations.md: D-sentences, D-rouge-mean, D-references.
"""

from collections.abc import Sequence
from functools import lru_cache
from types import SimpleNamespace

import datasets
import evaluate
import punkt
from nltk.stem.porter import PorterStemmer
from rouge_score import tokenize
from rouge_score.rouge_scorer import RougeScorer

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")


class Words:
    """rouge_score's tokenisation: lower case, letters and digits, Porter stems of words longer than three letters.

    Stems are cached: the same scores in half the time.
    """

    def __init__(self) -> None:
        self.stemmer = SimpleNamespace(stem=lru_cache(maxsize=1 << 17)(PorterStemmer().stem))

    def tokenize(self, text: str) -> list[str]:
        return tokenize.tokenize(text, self.stemmer)


def sentences(text: str) -> str:
    """Put each sentence on a line of its own, as ROUGE-Lsum expects.

    Existing line breaks remain boundaries: CNN/DailyMail's highlights often have no full stop.
    """
    return "\n".join(punkt.sent_tokenize(text.strip()))


class Rouge(evaluate.Metric):
    """The mean F-measures of `ROUGE`, as fractions; 0 for an empty prediction."""

    def __init__(self) -> None:
        self.scorer = RougeScorer(list(ROUGE), tokenizer=Words())
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=", ".join(ROUGE),
            citation="Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        rows = [
            self.scorer.score(sentences(reference), sentences(prediction))
            for reference, prediction in zip(references, predictions, strict=True)
        ]
        return {name: sum(row[name].fmeasure for row in rows) / len(rows) for name in ROUGE}
