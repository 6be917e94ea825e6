"""Where the database is: by the environment or the configuration, and told to nobody."""

import pytest

from sky.server.__main__ import parse
from sky.server.settings import Role, Settings, SharedDatabase, database_of

URI = "postgresql://sky:hunter2@db:5432/sky?sslmode=require"


def test_none_is_named():
    assert database_of({}, None) is None
    assert database_of({"SKYPILOT_DB_POOL_HOSTPORT": "p:1"}, None) is None


def test_the_environment_comes_before_the_configuration():
    assert database_of({}, URI) == SharedDatabase(URI)
    assert database_of({"SKYPILOT_DB_CONNECTION_URI": URI}, "postgresql://other") == SharedDatabase(URI)


def test_pgbouncer_is_named_by_its_place_or_its_whole_address():
    named = {"SKYPILOT_DB_CONNECTION_URI": URI, "SKY_DB_CONNECTIONS": "3"}
    found = database_of({**named, "SKYPILOT_DB_POOL_HOSTPORT": "pool:6432"}, None)
    assert found == SharedDatabase(URI, "postgresql://sky:hunter2@pool:6432/sky?sslmode=require", 3)
    found = database_of({**named, "SKYPILOT_DB_POOL_CONNECTION_URI": "postgresql://x@y/z"}, None)
    assert found.pooled == "postgresql://x@y/z"


def test_a_number_that_is_none_is_refused():
    with pytest.raises(ValueError, match="SKY_DB_CONNECTIONS"):
        database_of({"SKYPILOT_DB_CONNECTION_URI": URI, "SKY_DB_CONNECTIONS": "many"}, None)


def test_no_password_is_shown(tmp_path):
    settings = Settings(tmp_path, database=SharedDatabase(URI, URI))
    assert "hunter2" not in repr(settings)


def test_targets_are_shown_without_their_password():
    pytest.importorskip("asyncpg")
    from sky.store.postgres import Target

    target = Target("postgres+asyncpg://sky:hunter2@db:5432/sky?password=hunter3")
    assert target.direct.startswith("postgresql://sky:hunter2@db")
    assert "hunter" not in repr(target) + target.shown
    with pytest.raises(ValueError, match="has to be postgresql://") as told:
        Target("mysql://sky:hunter2@db/sky")
    assert "hunter2" not in str(told.value)


def test_several_servers_need_a_database(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("SKYPILOT_DB_CONNECTION_URI", "SKYPILOT_GLOBAL_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="SKYPILOT_DB_CONNECTION_URI"):
        parse(["--state", str(tmp_path), "--role", "worker"])
    (tmp_path / ".sky").mkdir()
    (tmp_path / ".sky" / "config.yaml").write_text(f"db: {URI}\n")
    settings, _ = parse(["--state", str(tmp_path), "--role", "worker", "--shared", str(tmp_path / "all")])
    assert settings.role is Role.WORKER
    assert settings.database == SharedDatabase(URI)
    assert (settings.files, settings.lock_file.parent) == (tmp_path / "all", tmp_path)
    assert settings.secret_file.parent == tmp_path / "all"
