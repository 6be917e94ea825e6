"""A real OpenID provider for the tests of logins, made to insist on PKCE; prints its address. A program."""

import base64
import hashlib
import io
from typing import Any
from urllib.parse import parse_qs, urlsplit

import oidc_provider_mock as mock
import werkzeug.serving

PEOPLE = {
    "ann": {"email": "ann@example.org", "email_verified": True, "groups": ["staff", "ops"]},
    "bob": {"email": "bob@example.org", "groups": "staff"},
    "eve": {"email": "ann@example.org", "email_verified": False, "groups": ["ops"]},
    "out": {"email": "out@example.org", "groups": ["elsewhere"]},
}


class Pkce:
    """In front of the provider, which takes any verifier: one that takes the right one only."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.challenges: dict[str, str] = {}
        self.redeemed = 0

    def __call__(self, environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/oauth2/token":
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            environ["wsgi.input"] = io.BytesIO(body)
            form = parse_qs(body.decode())
            digest = hashlib.sha256(form.get("code_verifier", [""])[0].encode()).digest()
            shown = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            if self.challenges.pop(form["code"][0], None) != shown:
                start_response("400 Bad Request", [("content-type", "application/json")])
                return [b'{"error": "invalid_grant"}']
            self.redeemed += 1

        def noted(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            query = parse_qs(environ.get("QUERY_STRING", ""))
            for name, value in headers:
                if name.lower() == "location" and "code=" in value:
                    assert query["code_challenge_method"] == ["S256"]
                    self.challenges[parse_qs(urlsplit(value).query)["code"][0]] = query["code_challenge"][0]
            return start_response(status, headers, *more)

        return self.app(environ, noted)


if __name__ == "__main__":
    people = [mock.User(sub=sub, claims=claims) for sub, claims in PEOPLE.items()]
    server = werkzeug.serving.make_server("localhost", 0, Pkce(mock.app(user_claims=people)), threaded=True)
    print(f"http://localhost:{server.server_port}", flush=True)
    server.serve_forever()
