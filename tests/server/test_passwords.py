"""Users who come with name and password, where the server asks for them; and tables of users."""

import asyncio
import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from townhall import Town

from sky.core.model.users import Role
from sky.sdk import users as sdk_users
from sky.sdk.transport import parse_endpoint, using_endpoint
from sky.server import passwords
from sky.server.passwords import hashed, is_hash, matches
from sky.server.rosters import Row, read_roster, write_roster

WORD = "correct horse"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least cost that is accepted, so that these tests take no minute."""
    monkeypatch.setattr(passwords, "_LOG_N", 14)
    monkeypatch.setattr(passwords, "_P", 1)


@pytest.fixture
def basic(state: Path) -> Iterator[Town]:
    made = Town(state, auth=lambda port: {"basic": {"enabled": True}})
    made.call(made.owner, "POST", "/users/create", {"username": "ann", "role": "user", "password": WORD})
    yield made
    made.served.stop()


def come(town: Town, name: str, password: str, method: str = "GET", path: str = "/users/role", **headers: str) -> Any:
    shown = base64.b64encode(f"{name}:{password}".encode()).decode()
    sent = {"Authorization": f"Basic {shown}", **{key.replace("_", "-"): value for key, value in headers.items()}}
    return town.call(None, method, path, {} if method == "POST" else None, sent)


def test_a_hash_opens_to_its_password_alone() -> None:
    kept = hashed(WORD)
    assert is_hash(kept)
    assert WORD not in kept
    assert kept != hashed(WORD)
    assert matches(kept, WORD)
    assert not matches(kept, WORD + " ")
    assert not matches("$scrypt$nonsense", WORD)
    for cost in ("ln=4,r=8,p=1", "ln=30,r=8,p=1", "ln=14,r=8,p=99"):
        assert not is_hash(f"$scrypt${cost}${kept.split('$', 3)[3]}")


def test_name_and_password_let_in(basic: Town) -> None:
    status, told = come(basic, "ann", WORD)
    assert (status, told["name"], told["role"], told["via"]) == (200, "ann", "user", "password")
    # Known for a moment, and right all the same.
    assert come(basic, "ann", WORD)[0] == 200


@pytest.mark.parametrize(
    ("name", "password"),
    [("ann", "wrong"), ("ann", ""), ("nobody", WORD), ("", WORD), ("ann", "x" * 100_0), ("a\nb", "x")],
)
def test_others_are_refused_alike(basic: Town, name: str, password: str) -> None:
    status, told = come(basic, name, password)
    assert status == 401
    assert told["error"]["message"] == "The API server does not know this name and password."


def test_what_is_no_name_and_password_is_refused(basic: Town) -> None:
    for shown in ("Basic", "Basic !!!", "Basic YW5u", "Basic /////w=="):
        assert basic.call(None, "GET", "/users/role", None, {"Authorization": shown})[0] == 401


def test_it_is_off_unless_configured(town: Town) -> None:
    town.call(town.owner, "POST", "/users/create", {"username": "ann", "password": WORD})
    assert come(town, "ann", WORD)[0] == 401


def test_who_guesses_has_to_wait(basic: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    assert come(basic, "ann", WORD)[0] == 200
    monkeypatch.setattr(passwords, "_WRONG", 3)
    assert [come(basic, "ann", f"wrong-{number}")[0] for number in range(5)] == [401, 401, 401, 429, 429]
    # Somebody else at the same address waits as well; who is known already does not.
    assert come(basic, "bob", "whatever")[0] == 429
    assert come(basic, "ann", WORD)[0] == 200


def test_a_new_password_ends_the_old_one(basic: Town) -> None:
    assert come(basic, "ann", WORD)[0] == 200
    basic.call(basic.owner, "POST", "/users/update", {"user_name": "ann", "password": "another one"})
    assert come(basic, "ann", WORD)[0] == 401
    assert come(basic, "ann", "another one")[0] == 200
    basic.call(basic.owner, "POST", "/users/update", {"user_name": "ann", "disabled": True})
    assert come(basic, "ann", "another one")[0] == 401


def test_a_page_of_another_site_cannot_use_it(basic: Town) -> None:
    assert come(basic, "ann", WORD, "POST", "/status")[0] == 200
    assert come(basic, "ann", WORD, "POST", "/status", Origin="https://evil.example")[0] == 403
    assert come(basic, "ann", WORD, "POST", "/status", Sec_Fetch_Site="cross-site")[0] == 403


def test_short_passwords_and_the_owners_are_refused(basic: Town) -> None:
    status, told = basic.call(basic.owner, "POST", "/users/create", {"username": "bob", "password": "short"})
    assert status == 400
    assert "short" not in told["error"]["message"]
    assert come(basic, "bob", "short")[0] == 401
    update = {"user_name": basic.call(basic.owner, "GET", "/users/role")[1]["name"], "password": WORD}
    assert basic.call(basic.owner, "POST", "/users/update", update)[0] == 403


def test_no_password_is_in_the_audit_log_or_told_by_any_call(basic: Town) -> None:
    come(basic, "ann", WORD, "POST", "/users/update")
    kept = asyncio.run(basic.plane.users.tokens("ann"))[0]
    assert kept.hash.startswith("$scrypt$")
    told = str(basic.audit()) + str(basic.call(basic.owner, "GET", "/users")[1])
    told += str(basic.call(basic.owner, "GET", "/users/service-account-tokens")[1])
    assert WORD not in told
    assert kept.hash not in told
    # Nor does the record open anything by being shown.
    assert basic.call(f"sky_{kept.id}_{kept.hash}", "GET", "/users/role")[0] == 401


def test_the_client_comes_with_what_the_address_names(basic: Town) -> None:
    address = basic.url.replace("//", "//ann:correct%20horse@")
    with using_endpoint(address):
        assert sdk_users.me()["name"] == "ann"
    assert WORD not in str(parse_endpoint(address))
    with pytest.raises(ValueError, match="Not an API server endpoint") as refused:
        parse_endpoint("ftp://ann:hidden-word@host")
    assert "hidden-word" not in str(refused.value)


# --- tables ----------------------------------------------------------------------------------------------------------


def test_a_table_is_read_line_by_line() -> None:
    kept = hashed(WORD)
    rows, wrong = read_roster(
        f'username,password,role\nann,{WORD},admin\n"bob",{kept.replace(",", "")},user\ncay,"{kept}",\n'
        "d d,longenough,user\neve,x,user\nfay,longenough,king\nann,longenough,user\ngus,$2b$12$abc,user\nhal,a,user,b\n"
    )
    assert rows == [Row("ann", WORD, "admin"), Row("cay", kept, None)]
    assert [each.split(":")[0] for each in wrong] == [f"line {number}" for number in (3, 5, 6, 7, 8, 9, 10)]
    assert WORD not in str(wrong)


@pytest.mark.parametrize("text", ["", "name,role\nann,user\n", "username,shoe\nann,3\n", 'username\n"ann\n'])
def test_what_is_no_table_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="line"):
        read_roster(text)


def test_users_go_out_and_in_again(basic: Town) -> None:
    basic.call(basic.owner, "POST", "/users/create", {"username": "bob", "role": "viewer"})
    status, told = basic.call(basic.owner, "GET", "/users/export")
    assert (status, told["user_count"]) == (200, 2)
    assert WORD not in told["csv_content"]
    basic.call(basic.owner, "POST", "/users/delete", {"user_name": "ann"})
    basic.call(basic.owner, "POST", "/users/update", {"user_name": "bob", "role": "user"})
    status, done = basic.call(basic.owner, "POST", "/users/import", {"csv_content": told["csv_content"]})
    assert (status, done["success_count"], done["errors"]) == (200, 2, [])
    assert come(basic, "ann", WORD)[1]["role"] == "user"
    roles = {each["name"]: each["role"] for each in basic.call(basic.owner, "GET", "/users")[1]}
    assert roles["bob"] == "viewer"
    assert "/users/export" in {line["operation"].split()[-1] for line in basic.audit()}


def test_several_are_changed_at_once_and_each_error_is_named(basic: Town) -> None:
    updates = [{"user_name": "ann", "role": "viewer"}, {"user_name": "nobody", "role": "user"}]
    status, done = basic.call(basic.owner, "POST", "/users/batch_update", {"updates": updates})
    assert (status, done["success_count"], done["error_count"]) == (200, 1, 1)
    assert "nobody" in done["errors"][0]
    assert come(basic, "ann", WORD)[1]["role"] == "viewer"


def test_tables_are_for_admins(basic: Town) -> None:
    for method, path in (("GET", "/users/export"), ("POST", "/users/import"), ("POST", "/users/batch_update")):
        assert come(basic, "ann", WORD, method, path)[0] == 403


def test_a_table_is_written_as_it_is_read() -> None:
    rows = [Row("ann", hashed(WORD), Role.USER), Row("bob", "", Role.VIEWER)]
    assert read_roster(write_roster(rows)) == (rows, [])
