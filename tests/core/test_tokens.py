"""When a token opens anything. What is kept of tokens is in `sim.user_contract`."""

import pytest

from sky.core.model.users import Token, TokenKind


@pytest.mark.parametrize(
    ("facts", "now", "good"),
    [
        ({}, 1e12, True),
        ({"expires_at": 10.0}, 9.9, True),
        ({"expires_at": 10.0}, 10.0, False),
        ({"revoked_at": 1.0}, 0.0, False),
    ],
    ids=["for ever", "not yet over", "over", "revoked"],
)
def test_a_token_is_good_until_it_ends(facts, now, good):
    token = Token("x", TokenKind.ACCOUNT, "ann", "of ann", "h" * 64, 10.0, **facts)
    assert token.good(now) is good
