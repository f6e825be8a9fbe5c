"""What a result says of the code that made it."""

import subprocess

from adalora.paths import ROOT
from adalora.records import provenance


def test_generated_folders_are_ignored_and_new_options_are_dirty(tmp_path, monkeypatch):
    """In a repository of its own, with this one's .gitignore."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")  # a user's hooks or signing

    def git(*arguments):
        who = ("-c", "user.name=x", "-c", "user.email=x@y")
        subprocess.run(["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True)

    def commit():
        return provenance.commit.__wrapped__(tmp_path)  # which isn't kept

    for name in ("adalora", "conf", "tasks", "results/tables", "results/runs", "results/leet"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / ".gitignore").write_bytes((ROOT / ".gitignore").read_bytes())
    (tmp_path / "adalora" / "code.py").write_text("")
    assert commit() is None
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "all")
    clean = commit()
    assert len(clean) == 40
    for name in ("results/tables/glue.md", "results/runs/x", "results/leet/y", "notes.txt"):
        (tmp_path / name).write_text("")
    assert commit() == clean
    (tmp_path / "conf" / "mine.yaml").write_text("")
    assert commit() == f"{clean}-dirty"
    (tmp_path / "conf" / "mine.yaml").unlink()
    (tmp_path / "adalora" / "code.py").write_text("changed")
    assert commit() == f"{clean}-dirty"
    git("checkout", "adalora")
    assert commit() == clean
    (tmp_path / ".git" / "index").write_text("damaged")
    assert commit() == f"{clean}-dirty"
