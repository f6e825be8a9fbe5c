"""The report: its content, that it needs no other file, and how it behaves in a real browser."""

import json
import os
import re
import signal
from html.parser import HTMLParser
from pathlib import Path

import pytest

from adalora.errors import UserError
from adalora.reporting.pages import gather
from adalora.reporting.report import write_report
from scripts.report import main
from tests.programs import Program, error_of
from tests.reporting.forged import MINILM, make, put

SMALL = {f"model__{key}": value for key, value in MINILM.items()}
MODULES = {name: f"deberta.encoder.layer.{{layer}}.{name}" for name in ("query", "value", "output")}
CHROMIUM = next((path for path in map(Path, ("/usr/bin/chromium", "/usr/bin/chromium-browser")) if path.exists()), None)


def forge(root):
    """AdaLoRA and LoRA on RTE and MRPC over eight seeds, and AdaLoRA on another backbone; their logs."""
    runs = []
    for task in ("rte", "mrpc"):
        for seed in range(1, 9):
            noise = seed / 1000
            ranks = {MODULES[name].format(layer=layer): 1 + layer + seed % 2 for name in MODULES for layer in range(3)}
            ours = {
                "model__targets": MODULES,
                "recipe__values": {},
                "method__alpha": 16.0,
                "method__orthogonality": 0.1,
            }
            runs.append(make(task, "adalora", seed=seed, last=0.88 + 2 * noise, **ours) | {"ranks": ranks})
            runs.append(make(task, "lora", seed=seed, last=0.86 + noise, recipe__values={}))
    runs.append(make("rte", "lora", seed=7, last=0.6, task__origin="<script>alert(1)</script>", **SMALL))
    put(root, *runs)
    for number, each in enumerate(runs):
        each["command"] = ["train.py", "task=rte", "data_root=/secret/place", f"seed={each['seed']}"]
        (path,) = root.rglob(f"seed*-{number:010x}/result.json")
        path.write_text(json.dumps(each))
        logs = [
            {"step": step, "allocation/budget": 200.0 - step, "allocation/threshold": 1e-9 * step} for step in (50, 100)
        ]
        logs.append({"step": 100, "eval/accuracy": 0.8 + number / 1000, "eval/loss": 0.4})
        (path.parent / "metrics.jsonl").write_text("\n".join(map(json.dumps, logs)))
        if each["method"]["name"] == "adalora":
            lines = [{"step": step, **each["ranks"]} for step in (50, 100)]
            (path.parent / "ranks.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The path of a report and what was warned of."""
    folder = tmp_path_factory.mktemp("report")
    root = forge(folder / "runs")
    (damaged, *_) = sorted(root.rglob("lora/*/seed3-*/metrics.jsonl"))
    damaged.write_text('{"step": 1}\n{"st')
    (root / "x/result.json").parent.mkdir()
    (root / "x/result.json").write_text("{")
    return write_report(gather(root), folder / "out")


class Outline(HTMLParser):
    """Headings, captions and addresses of a page."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.headings, self.captions, self.addresses, self.images = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.stack.append(tag)
        given = dict(attributes)
        self.addresses += [given[key] for key in ("src", "href") if key in given]
        if tag == "img":
            self.images.append(given["alt"])
            self.stack.pop()

    def handle_data(self, data):
        if data.strip() and self.stack[-1] in ("h1", "h2", "h3"):
            self.headings.append((self.stack[-1], data.strip()))
        if data.strip() and self.stack[-1] == "caption":
            self.captions.append(data.strip())

    def handle_endtag(self, tag):
        while self.stack.pop() != tag:
            pass


def test_it_stands_alone_and_has_an_outline(report):
    path, _ = report
    text = path.read_text()
    page = Outline(text)
    assert [title for level, title in page.headings if level == "h1"] == ["AdaLoRA reproduction report"]
    titles = [title for level, title in page.headings if level == "h2"]
    assert titles == [
        "What was run", "The papers' claims", "Tables", "Methods over tasks", "Learning curves",
        "Metric against budget", "Realised ranks", "Ranks over time", "Budget and threshold",
        "Time, memory and parameters", "Run a cell again",
        "Versions and what was left out",
    ]  # fmt: skip
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert not re.search(r"(src|href)=.https?:|@import|fetch\(|url\((?!#)", text)
    assert len(page.captions) == text.count("<table")
    assert page.images and all(page.images)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert path.stat().st_size < 5_000_000


def test_it_says_what_was_found(report):
    text = report[0].read_text()
    plain = " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"<(style|script).*?</\1>", " ", text, flags=re.S)).split())
    assert "✓ reproduced 0 ◐ partly 2 ✗ not reproduced 0 ? undecided 0 – not run 33" in plain
    assert "– not run : 33 claims" in plain
    assert "AdaLoRA - LoRA at 0.3M, rte ✓ holds +1.80 +2.45 " in plain  # 2 + the mean of 0.1 to 0.8
    assert "88.90 n=8 mean 88.90 (88.5 to 89.3) best 87.00 paper 87.36 +1.54" in plain
    assert "AdaLoRA 0.3M DeBERTaV3-base mrpc 8, rte 8" in plain  # what was run


def test_places_of_the_machine_and_markup_of_others_stay_out(report):
    text = report[0].read_text()
    assert "/secret/place" not in text and "python train.py task=rte seed=1" in text
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)" in text


def test_what_is_damaged_is_named(report):
    lines = "\n".join(report[1])
    assert "skipped x/result.json: invalid JSON" in lines
    assert re.search(r"no curve of seed3-\w+/metrics.jsonl: ", lines)


@pytest.mark.slow
def test_the_same_runs_give_the_same_page(tmp_path):
    root = put(tmp_path / "runs", *(make(seed=seed, last=0.86 + seed / 100) for seed in range(3)))
    pages = [write_report(gather(root), tmp_path / name)[0].read_text() for name in "ab"]
    assert pages[0] == pages[1]


def test_the_command_line(called, tmp_path):
    root = put(tmp_path / "runs", make())  # without logs
    done = called(main, "--runs", root, "--out", tmp_path / "out", "--tracking", "none")
    assert done.code == 0, done.stderr
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".html", ".md", ".csv", ".tex"}
    assert "no such file" in done.stderr
    (tmp_path / "file").write_text("")
    assert "can't be written" in error_of(called(main, "--runs", root, "--out", tmp_path / "file"))
    assert "no such folder" in error_of(called(main, "--runs", tmp_path / "gone"))
    with pytest.raises(UserError, match="holds no finished run"):
        gather(tmp_path / "out")


def interrupt_at_the_claims():
    """Ctrl-C as soon as claims.csv is there, before the report."""
    replace = os.replace

    def act(source, target):
        replace(source, target)
        if Path(target).name == "claims.csv":
            os.kill(os.getpid(), signal.SIGINT)

    os.replace = act


def test_ctrl_c_leaves_one_line_and_nothing_half_written(tmp_path):
    forge(tmp_path / "runs")
    arguments = ("--runs", tmp_path / "runs", "--out", tmp_path / "out", "--tracking", "none")
    done = Program("scripts.report", *arguments, before=interrupt_at_the_claims).ended()
    assert done.code == 130
    assert done.stderr.strip().endswith("stopped, nothing is half written") and "Traceback" not in done.stderr
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".md", ".csv", ".tex"}


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, driven by Playwright."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        started = play.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield started
        started.close()


@pytest.fixture
def opened(browser, report):
    """`opened(width=390, color_scheme="dark")`: the report in a tab, and what its console said."""
    contexts = []

    def go(width=1280, **how):
        context = browser.new_context(viewport={"width": width, "height": 850}, offline=True, **how)
        contexts.append(context)
        page, told = context.new_page(), []
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("requestfailed", lambda request: told.append(request.url))
        page.goto(report[0].as_uri())
        return page, told

    yield go
    for context in contexts:
        context.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_says_nothing_and_axe_finds_nothing_serious(opened, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page, told = opened(width, color_scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page).response["violations"]
    assert [(each["id"], each["impact"]) for each in found if each["impact"] in ("serious", "critical")] == []
    assert told == []


def test_tables_sort_by_click_and_key_and_sections_fold(opened):
    page, told = opened()
    table = page.get_by_role("table", name="What each cell took")

    def column(number):
        return table.locator(f"tbody tr td:nth-child({number})").all_inner_texts()

    head = table.get_by_role("columnheader", name="kept")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    kept = [int(text.replace(",", "")) for text in column(5)]
    assert kept == sorted(kept, reverse=True)
    task = table.get_by_role("columnheader", name="task")
    task.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert task.get_attribute("aria-sort") == "ascending" and head.get_attribute("aria-sort") is None
    assert column(2) == sorted(column(2))
    page.keyboard.press("Enter")
    assert column(2) == sorted(column(2), reverse=True)

    fold = page.locator("#rerun ~ details").first
    assert not fold.locator("code").first.is_visible()
    fold.locator("summary").focus()
    page.keyboard.press("Space")
    assert fold.locator("code").first.is_visible()
    assert told == []


def test_on_paper_everything_is_open(opened):
    page, _ = opened()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
    assert page.pdf(format="A4").startswith(b"%PDF")
