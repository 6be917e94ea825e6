"""Fresh prices from end to end: a place that answers on loopback, the command, the server, the plan."""

import json
import os
import re
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

RECORDED = Path(__file__).parent.parent / "providers" / "recorded"
PLANS, METAL = "/vultr/v2/plans", "/vultr/v2/plans-metal"
TABLE = "/gcp/machine-types-regions.csv"


class PricePlace:
    """Answers as two places do. A path in `held` is answered only when its event is set."""

    def __init__(self):
        self.documents = {}
        self.etags = {}
        self.held = {}
        self.asked = []
        place = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                path = self.path.partition("?")[0]
                place.asked.append(path)
                body, etag = place.documents.get(path), place.etags.get(path)
                if (held := place.held.get(path)) is not None:
                    held.wait(60)
                same = etag is not None and self.headers.get("If-None-Match") == etag
                self.send_response(404 if body is None else 304 if same else 200)
                if etag is not None:
                    self.send_header("ETag", etag)
                self.send_header("Content-Type", "text/csv" if path.endswith(".csv") else "application/json")
                content = b"" if same else body or b""
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # some tests end the one who asks

        self.server = Server(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def sell(self, plans):
        """Vultr's plans: name to USD per hour, all of 4 vCPUs and 8 GiB."""
        listed = [
            {"id": name, "vcpu_count": 4, "ram": 8192, "disk": 50, "disk_count": 1, "hourly_cost": usd, "type": "vc2",
             "locations": ["ewr", "ams"]}
            for name, usd in plans.items()
        ]  # fmt: skip
        self.documents[PLANS] = json.dumps({"plans": listed, "meta": {"links": {"next": ""}}}).encode()
        self.documents[METAL] = (RECORDED / "vultr-metal.json").read_bytes()

    def close(self):
        for event in self.held.values():
            event.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)


#: Enough of them for a share of them to mean something.
MANY = {f"vc2-4c-8gb-{number:02}": 0.05 + number / 1000 for number in range(30)}
TASK = ("--infra", "vultr", "--cpus", "4", "--memory", "8", "--all-infra")


@pytest.fixture
def place():
    made = PricePlace()
    made.sell(MANY)
    yield made
    made.close()


@pytest.fixture
def sky(shared_sky, place):
    """One server for the file; each test has places of its own."""
    shared_sky.env |= {"VULTR_API_KEY": "", "GCP_API_KEY": ""}
    config = shared_sky.root / ".sky" / "config.yaml"
    config.parent.mkdir(exist_ok=True)
    sources = {"vultr": {"endpoint": f"{place.url}/vultr"}, "gcp": {"endpoint": f"{place.url}/gcp"}}
    before = config.stat().st_mtime_ns if config.exists() else 0
    config.write_text(json.dumps({"catalog": {"sources": sources}}))
    assert config.stat().st_mtime_ns != before
    yield shared_sky
    for event in place.held.values():
        event.set()


def refresh(sky, *words):
    """Outcomes by cloud, and the exit code."""
    done = sky("catalog", "refresh", *words, "-o", "json")
    assert "Traceback" not in done.stderr
    return {each["cloud"]: each for each in json.loads(done.stdout)}, done.returncode


def cheapest(sky, *words):
    plan = json.loads(sky.good("optimize", *TASK, *words, "-o", "json").stdout)[0]
    return plan["placements"][0]


def children(sky):
    """Pids of refreshes of this state directory: they run in the catalog's process group, with its lock file open."""
    lock = sky.state / "catalog" / "refresh.lock"
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                held = [each.readlink() for each in (entry / "fd").iterdir()]
            except OSError:
                continue
            if b"sky.server.refreshing" in command and lock in held:
                found.append(int(entry.name))
    return found


def test_new_prices_are_planned_with_at_once(sky, place):
    outcomes, code = refresh(sky, "--infra", "vultr", "--accept")
    assert code == 0
    assert outcomes["vultr"] | {"detail": ""} == {
        "cloud": "vultr", "state": "refreshed", "detail": "", "offers": 61, "quarantined": 0,
    }  # fmt: skip
    first = cheapest(sky)
    assert (first["instance_type"], first["price_hourly"], first["quality"]) == ("vc2-4c-8gb-00", 0.05, "live")
    server = sky.server_pid()

    place.sell(MANY | {"vc2-4c-8gb-07": 0.041})
    assert refresh(sky, "--infra", "vultr")[1] == 0
    now = cheapest(sky)
    assert (now["instance_type"], now["price_hourly"]) == ("vc2-4c-8gb-07", 0.041)
    assert sky.server_pid() == server, "without a restart"

    told = {each["cloud"]: each for each in sky.json("catalog", "status")["clouds"]}
    assert told["vultr"]["offers"] == told["vultr"]["priced"] == 61
    assert told["vultr"]["qualities"] == {"live": 60, "derived": 1}
    assert told["vultr"]["fetched"] == pytest.approx(now["observed"], abs=60)
    shown = sky.good("catalog", "status").stdout
    assert re.search(r"^vultr +\d+ +3 +61 +61 +live 60, derived 1 +a few secs ago", shown, re.MULTILINE), shown


def test_one_that_fails_does_not_hold_up_the_other(sky, place):
    before = {each["cloud"]: each["offers"] for each in sky.json("catalog", "status")["clouds"]}
    outcomes, code = refresh(sky, "--infra", "gcp", "--infra", "vultr", "--accept")
    assert code == 1
    assert outcomes["gcp"]["state"] == "failed" and "404" in outcomes["gcp"]["detail"]
    assert outcomes["vultr"]["state"] == "refreshed"
    assert outcomes["vultr"]["offers"] == 61
    told = {each["cloud"]: each for each in sky.json("catalog", "status")["clouds"]}
    assert told["gcp"]["offers"] == before["gcp"] > 0, "what is known from before stays"
    done = sky("catalog", "refresh", "--infra", "gcp", "--infra", "vultr")
    assert done.returncode == 1
    assert re.search(r"^gcp +failed .*404", done.stdout, re.MULTILINE)
    assert re.search(r"^vultr +(refreshed|unchanged) +61", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({name: usd * 10 for name, usd in MANY.items()}, "moved more than 3 times"),
        (dict(list(MANY.items())[:3]), "are gone"),
    ],
)
def test_a_wrong_list_is_kept_out_until_it_is_accepted(sky, place, wrong, reason):
    assert refresh(sky, "--infra", "vultr", "--accept")[1] == 0
    place.sell(wrong)
    outcomes, code = refresh(sky, "--infra", "vultr")
    assert (code, outcomes["vultr"]["state"]) == (1, "kept")
    assert reason in outcomes["vultr"]["detail"]
    assert cheapest(sky)["price_hourly"] == 0.05
    assert outcomes["vultr"]["offers"] == 61
    done = sky("catalog", "refresh", "--infra", "vultr")
    assert done.returncode == 1 and "kept" in done.stdout and "--accept" in done.stdout + done.stderr

    outcomes, code = refresh(sky, "--infra", "vultr", "--accept")
    assert (code, outcomes["vultr"]["state"]) == (0, "refreshed")
    assert cheapest(sky)["price_hourly"] == pytest.approx(min(wrong.values()))


def test_what_is_young_is_left_alone(sky, place):
    assert refresh(sky, "--infra", "vultr", "--accept")[1] == 0
    place.asked.clear()
    outcomes, code = refresh(sky, "--infra", "vultr", "--if-older", "7h")
    assert (code, outcomes["vultr"]["state"], place.asked) == (0, "young", [])
    assert refresh(sky, "--infra", "vultr", "--if-older", "0s")[0]["vultr"]["state"] == "refreshed"
    assert place.asked


def test_a_document_that_has_not_changed_is_not_read_again(sky, place):
    place.documents[TABLE] = (RECORDED / "gcp.csv").read_bytes()
    place.etags[TABLE] = '"v1"'
    outcomes, code = refresh(sky, "--infra", "gcp", "--accept")
    assert (code, outcomes["gcp"]["state"]) == (0, "refreshed")
    offers = outcomes["gcp"]["offers"]
    outcomes, code = refresh(sky, "--infra", "gcp")
    assert (code, outcomes["gcp"]["state"], outcomes["gcp"]["offers"]) == (0, "unchanged", offers)
    plan = sky.json("optimize", "--infra", "gcp", "-t", "n1-standard-8", "--all-infra")[0]["placements"][0]
    assert plan["price_hourly"] == 0.4


def test_two_at_once_and_nothing_is_left_of_one_that_is_cancelled(sky, place, eventually):
    place.held[PLANS] = threading.Event()
    request = sky.good("catalog", "refresh", "--infra", "vultr", "--async").stdout.strip()
    eventually(lambda: PLANS in place.asked)
    (child,) = children(sky)
    second = sky("catalog", "refresh", "--infra", "vultr")
    assert second.returncode == 1
    assert "another refresh of this catalog is under way" in second.stderr
    assert children(sky) == [child]
    sky.good("api", "cancel", "-y", request)
    eventually(lambda: not children(sky) and not Path(f"/proc/{child}").exists())
    del place.held[PLANS]
    assert refresh(sky, "--infra", "vultr", "--accept")[1] == 0, "the lock is free again"
    assert not list((sky.state / "catalog").glob("*.new*"))


def test_ctrl_c_stops_the_waiting_only(sky, place, eventually):
    place.held[PLANS] = threading.Event()
    command = sky.start("catalog", "refresh", "--infra", "vultr", "--infra", "gcp", "--accept")
    # What it passes on of the other place, which fails at once, shows that it waits by now.
    assert any("1 to go" in line for line in command.stderr)
    command.send_signal(signal.SIGINT)
    _, said = command.communicate(timeout=60)
    assert command.returncode == 130
    request = re.search(r"Cancel: sky api cancel (\S+)", said)[1]
    assert len(children(sky)) == 1
    place.held.pop(PLANS).set()
    assert "vultr" in sky.good("api", "logs", request).stdout
    eventually(lambda: not children(sky))


def test_a_refresh_that_is_submitted_can_be_followed(sky, place):
    told = json.loads(sky.good("catalog", "refresh", "--infra", "vultr", "--accept", "--async", "-o", "json").stdout)
    logged = sky.good("api", "logs", told["request_id"])
    assert "vultr: 61 prices read" in logged.stdout


def test_a_server_killed_in_the_middle_leaves_the_catalog_as_it_was(sky, place, eventually):
    assert refresh(sky, "--infra", "vultr", "--accept")[1] == 0
    before = sky.json("catalog", "status")["generation"]
    place.sell({"vc2-4c-8gb-00": 0.01})
    place.held[METAL] = threading.Event()
    place.asked.clear()
    request = sky.good("catalog", "refresh", "--infra", "vultr", "--accept", "--async").stdout.strip()
    eventually(lambda: METAL in place.asked)
    (child,) = children(sky)
    os.kill(sky.server_pid(), signal.SIGKILL)
    assert cheapest(sky)["price_hourly"] == 0.05
    assert sky.json("catalog", "status")["generation"] == before
    place.held.pop(METAL).set()
    eventually(lambda: not Path(f"/proc/{child}").exists())
    # The next server takes the request up again: that is over before another test asks for prices.
    sky("api", "logs", request)
    eventually(lambda: not children(sky))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--infra", "vulture"), "did you mean"),
        (("--infra", "vultr", "--if-older", "soon"), "'soon' is not an age: say 30m, 7h or 2d."),
    ],
)
def test_what_cannot_be_asked(sky, words, says):
    done = sky("catalog", "refresh", *words)
    assert done.returncode in (1, 2)
    assert says in done.stderr


def test_nothing_but_a_refresh_asks_for_prices(sky, place):
    for words in (
        ("catalog", "status"),
        ("gpus", "list", "H100:8"),
        ("check",),
        ("optimize", "echo hi", "--gpus", "A100:8", "--all-infra", "--explain"),
        ("launch", "--dryrun", "echo hi", "--gpus", "A100:8", "--all-infra"),
    ):
        sky.good(*words)
    assert place.asked == []
