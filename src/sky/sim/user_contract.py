"""What every store keeps of users, tokens, workspaces and the audit log. Part of `store_contract.StoreContract`."""

import asyncio
from dataclasses import replace

from sky.core.model.audit import AuditLine
from sky.core.model.users import Role, Token, TokenKind, User, UserKind
from sky.sim.store_bed import Bed, same, true


def token(id: str, user: str = "ann") -> Token:
    """One that does not expire."""
    return Token(id, TokenKind.ACCOUNT, user, f"of {user}", "h" * 64, 10.0)


class UserContract:
    """Who may come in is known to every server, and what one has taken away no other gives back."""

    async def test_users_are_known_to_all(self, bed: Bed) -> None:
        """As they were recorded, by name."""
        one, two = bed.one.store.users, bed.two.store.users
        ann = User("ann", Role.VIEWER, UserKind.PERSON, 5.0, "oidc", "team", True)
        for user in (User("bob", Role.USER, UserKind.SERVICE), ann, User("Zoe", Role.ADMIN)):
            true(await one.add(user), "recorded")
        same(await two.get("ann"), ann)
        same(await two.get("eve"), None)
        same([each.name for each in await two.all()], ["Zoe", "ann", "bob"])
        true(await two.change(replace(ann, role=Role.ADMIN, preferred=None, disabled=False, created_at=9.0)), "changed")
        same(await one.get("ann"), replace(ann, role=Role.ADMIN, preferred=None, disabled=False))

    async def test_a_name_is_one_user_s(self, bed: Bed) -> None:
        """Whoever records it first; the others are told, and change nothing."""
        drawn = [User("ann", Role.USER, made_by=str(number)) for number in range(6)]
        sides = (bed.one, bed.two) * 3
        taken = await asyncio.gather(*(side.store.users.add(each) for side, each in zip(sides, drawn, strict=True)))
        same(sum(taken), 1)
        found = await bed.two.store.users.get("ann")
        same(found and found.made_by, str(taken.index(True)))

    async def test_who_was_removed_is_not_brought_back_by_a_change(self, bed: Bed) -> None:
        """Nor are their tokens."""
        one, two = bed.one.store.users, bed.two.store.users
        await one.add(User("ann", Role.USER))
        for each in (token("1"), token("2"), token("3", "bob")):
            true(await one.add_token(each), "recorded")
        true(await one.remove("ann"), "removed")
        true(not await two.remove("ann"), "there is none any more")
        true(not await two.change(User("ann", Role.ADMIN)), "not changed")
        true(not await two.change_token(token("1")), "not changed")
        same(await two.get("ann"), None)
        same([each.id for each in await two.tokens()], ["3"])

    async def test_tokens_are_kept_as_they_are(self, bed: Bed) -> None:
        """Newest first; an id is taken once."""
        one, two = bed.one.store.users, bed.two.store.users
        full = replace(
            token("1"),
            made_by="lea",
            role=Role.USER,
            workspaces=("a", "b"),
            expires_at=20.5,
            lifetime_s=10.0,
            renew_until=30.0,
            used_at=11.0,
        )
        await one.add_token(full)
        await one.add_token(replace(token("2", "bob"), created_at=50.0))
        await one.add_token(replace(token("3"), created_at=60.0))
        true(not await two.add_token(token("1", "eve")), "not recorded")
        same(await two.token("1"), full)
        same(await two.token("4"), None)
        same([each.id for each in await two.tokens()], ["3", "2", "1"])
        same([each.id for each in await two.tokens("ann")], ["3", "1"])
        longer = replace(full, expires_at=25.0, role=None, workspaces=None)
        await two.used("1", 15.0)
        true(await two.change_token(longer), "changed")
        same(await one.token("1"), replace(longer, used_at=15.0))

    async def test_what_is_revoked_stays_so(self, bed: Bed) -> None:
        """Also for a server that renews it in the same moment; of several that end it, one does."""
        one, two = bed.one.store.users, bed.two.store.users
        await one.add_token(token("1"))
        seen = await two.token("1")
        assert seen is not None
        ended = await asyncio.gather(
            *(users.change_token(replace(seen, revoked_at=float(n))) for n, users in enumerate((one, two) * 3))
        )
        same(sum(ended), 1)
        true(not await two.change_token(replace(seen, expires_at=99.0)), "not renewed")
        found = await one.token("1")
        same(found and found.revoked_at, float(ended.index(True)))

    async def test_tokens_that_are_over_are_swept(self, bed: Bed) -> None:
        """Those that ran out or were revoked before a time."""
        users = bed.one.store.users
        for each in (
            replace(token("old"), expires_at=10.0),
            replace(token("gone"), revoked_at=10.0),
            replace(token("good"), expires_at=99.0),
            token("ever"),
        ):
            await users.add_token(each)
        same(await bed.two.store.users.sweep(50.0), 2)
        same({each.id for each in await users.tokens()}, {"good", "ever"})

    async def test_a_revision_tells_of_changes_made_here(self, bed: Bed) -> None:
        """That a token was used is none."""
        users = bed.one.store.users
        seen = [users.revision]
        await users.add(User("ann", Role.USER))
        seen.append(users.revision)
        await users.add_token(token("1"))
        seen.append(users.revision)
        await users.change_token(replace(token("1"), revoked_at=1.0))
        seen.append(users.revision)
        await users.remove("ann")
        seen.append(users.revision)
        same(len(set(seen)), 5)
        await users.used("1", 5.0)
        same(users.revision, seen[-1])

    async def test_workspaces_are_replaced(self, bed: Bed) -> None:
        """By whoever comes last, by name; None forgets one."""
        one, two = bed.one.store.users, bed.two.store.users
        await one.put_workspace("team", {"private": True})
        await two.put_workspace("team", {"private": False, "aws": {"disabled": True}})
        await one.put_workspace("Other", {})
        told = {"Other": {}, "team": {"private": False, "aws": {"disabled": True}}}
        same(await two.workspaces(), told)
        same(list(await two.workspaces()), list(told))
        await asyncio.gather(*(users.put_workspace("new", {"admins": [str(n)]}) for n, users in enumerate((one, two))))
        true((await one.workspaces())["new"] in ({"admins": ["0"]}, {"admins": ["1"]}), "one of those that were set")
        await two.put_workspace("Other", None)
        same(list(await one.workspaces()), ["new", "team"])

    async def test_the_audit_log_is_read_newest_first(self, bed: Bed) -> None:
        """Of somebody, from a time on, below a number; whatever callers have sent."""
        sides = (bed.one, bed.two)
        for at in range(5):
            line = AuditLine(
                float(at), f"c{at}", "ann" if at % 2 else "bob", "token", "127.0.0.1", "POST /x", "", "team"
            )
            await sides[at % 2].store.audit.add(line)
        read = bed.two.store.audit.read
        same([line.call for line in await read(limit=3)], ["c4", "c3", "c2"])
        same([line.call for line in await read(limit=9, user="ann")], ["c3", "c1"])
        same([line.call for line in await read(limit=9, since=3.0)], ["c4", "c3"])
        first = await read(limit=2)
        same([line.call for line in await read(limit=2, before=first[-1].seq)], ["c2", "c1"])
        same(await read(limit=9, before=2**70), await read(limit=9))
        same(first[0]._replace(seq=0), AuditLine(4.0, "c4", "bob", "token", "127.0.0.1", "POST /x", "", "team"))
        odd = "'; DROP TABLE audit; -- \ud800 \U0001f600 \n end"
        await bed.one.store.audit.add(line._replace(target=odd, detail="x" * 5000))
        (last,) = await read(limit=1)
        same((last.target, len(last.detail)), (odd.replace("\ud800", "?"), 5000))

    async def test_old_lines_of_the_audit_log_are_forgotten(self, bed: Bed) -> None:
        """Those from before a time and no others, until none is left."""
        one, two = bed.one.store.audit, bed.two.store.audit
        for at in range(6):
            await one.add(AuditLine(float(at), f"c{at}", "ann", "token", "127.0.0.1", "POST /x", "", "team"))
        gone = 0
        while count := await two.forget(4.0):
            gone += count
        same((gone, [line.call for line in await one.read(limit=9)]), (4, ["c5", "c4"]))
