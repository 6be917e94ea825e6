"""`sky api backup`, `restore`, `rotate-key` and `sky debug-dump`, as they are typed."""

import json
import zipfile

import pytest

from sky.cli import main
from sky.sdk import server


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SKY_STATE_DIR", str(tmp_path / "s"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    if (tmp_path / "s" / "server.lock").exists():
        server.api_stop()


def typed(capsys, *words):
    code = main([*words, "-o", "json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if code == 0 else said.err


def test_there_and_back(folder, capsys):
    code, told = typed(capsys, "api", "rotate-key")
    assert (code, told["rows"]) == (0, 0)
    code, told = typed(capsys, "api", "backup", "copy.db")
    assert (code, told["path"]) == (0, str(folder / "copy.db"))
    assert told["bytes"] == (folder / "copy.db").stat().st_size
    code, said = typed(capsys, "api", "restore", "copy.db", "-y")
    assert code == 1
    assert "sky api stop" in said
    code, told = typed(capsys, "debug-dump")
    assert code == 0
    assert "rows/clusters.json" in zipfile.ZipFile(folder / "sky-debug.zip").namelist()
    server.api_stop()
    code, told = typed(capsys, "api", "restore", "copy.db", "-y")
    assert (code, told["aside"].startswith(str(folder / "s" / "state.db.before-"))) == (0, True)
    assert typed(capsys, "api", "info")[0] == 0
