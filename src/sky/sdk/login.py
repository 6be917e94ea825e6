"""Logging in to a server and out again. The token is kept in a file of the state directory that its owner alone reads.

Called as `sky.api_login` and `sky.api_logout`; `sdk.transport` reads the file for every call.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from sky.core.errors import ApiServerAuthenticationError
from sky.sdk import settings
from sky.sdk.transport import call, parse_endpoint, using_endpoint
from sky.wire.protocol import ENV_ENDPOINT

#: Told to whoever logs in: a page to open, and the code that it must show.
Tell = Callable[[str, str], None]


def api_login(
    endpoint: str | None = None,
    relogin: bool = False,
    service_account_token: str | None = None,
    no_browser: bool = False,
    *,
    _tell: Tell | None = None,
) -> dict[str, Any]:
    """Use a shared server from now on; returns who one is there.

    With a token that token is kept. Without, a page of the server is opened in a browser, where one logs in and
    compares a code. `relogin` does so although there is a login that still holds. Raises ValueError for no endpoint,
    ApiServerAuthenticationError.
    """
    named = endpoint or os.environ.get(ENV_ENDPOINT) or (settings.stored_login() or {}).get("endpoint")
    if not named:
        raise ValueError("Say which server: sky api login -e https://HOST")
    where = parse_endpoint(named, service_account_token)
    url = str(where.address)
    if where.token is None and not relogin:
        known = settings.stored_login()
        if known is not None and known["endpoint"] == url:
            try:
                return _kept(url, known["token"])
            except ApiServerAuthenticationError:
                pass
    return _kept(url, where.token or _by_browser(url, _tell, no_browser=no_browser))


def api_logout() -> None:
    """End the login on the server, and forget it here. Raises ValueError if there is none."""
    known = settings.stored_login()
    if known is None:
        raise ValueError("There is no login to end.")
    try:
        if known.get("ends_with_logout"):
            with using_endpoint(known["endpoint"], known["token"]):
                call("POST", "/users/tokens/end")
    except (ApiServerAuthenticationError, OSError, RuntimeError):
        # The server is away, or knows the token no more: there is nothing left to end but what is here.
        pass
    finally:
        settings.login_file().unlink(missing_ok=True)


def _kept(url: str, token: str) -> dict[str, Any]:
    with using_endpoint(url, token):
        me: dict[str, Any] = call("GET", "/users/role").json()
        mine = [
            each for each in call("GET", "/users/service-account-tokens").json() if each["token_id"] == me["token_id"]
        ]
    life = settings.life_of(mine[0]) if mine else {}
    settings.keep_login({"endpoint": url, "token": token, "user": me["name"], **life})
    return me


def _by_browser(url: str, tell: Tell | None, *, no_browser: bool) -> str:
    """The token of a login that somebody confirms in a browser. Raises ApiServerAuthenticationError."""
    # Nobody yet: a login that is kept is what is being replaced.
    with using_endpoint(parse_endpoint(url)):
        asked = call("POST", "/auth/device").json()
        page, code = asked["verification_uri_complete"], asked["user_code"]
        (tell or _print)(page, code)
        if not no_browser:
            import webbrowser  # noqa: PLC0415 - 10 ms that only this needs

            webbrowser.open(page)
        end = settings.now() + float(asked["expires_in"])
        while settings.now() < end:
            told = call("POST", "/auth/device/token", {"device_code": asked["device_code"]}).json()
            if told["status"] == "done":
                return str(told["token"])
            time.sleep(float(asked["interval"]))
    raise ApiServerAuthenticationError("Nobody confirmed the login in time; try again: sky api login")


def _print(page: str, code: str) -> None:
    sys.stderr.write(f"Open {page}\nand check that it shows the code {code}.\n")
