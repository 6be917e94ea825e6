"""What the head remembers: its jobs, their events and a few settings, in one SQLite file.

Every change of a job's state goes through `move`, which consults the table of `states.py` and writes the event in the
same transaction: no state without its event, no event without its state. Secrets live in a file of their own per job,
readable by the owner only, gone when the job ends. Statements take microseconds, so they run inline on the loop.
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import contextmanager, suppress
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

from . import states
from .signals import Signal
from .spec import JobSpec, Secrets, restored, stored

KEPT_EVENTS = 10000
_PRUNE_EVERY = 500

_NETWORK_DISKS = ("nfs", "lustre", "gpfs", "beegfs", "cifs", "smb", "ceph", "glusterfs", "fuse.", "9p", "afs", "panfs")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
  job_id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, status TEXT NOT NULL, spec TEXT NOT NULL,
  submitted_at REAL NOT NULL, start_at REAL, end_at REAL, exit_codes TEXT, reason TEXT, pid INTEGER, placement TEXT,
  first_failure TEXT, cancelled INTEGER NOT NULL DEFAULT 0,
  log_dir TEXT NOT NULL UNIQUE, facts TEXT);
CREATE INDEX IF NOT EXISTS jobs_status ON jobs (status);
CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY AUTOINCREMENT, event TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

_COLUMNS = (
    "job_id, key, status, spec, submitted_at, start_at, end_at, exit_codes, reason, pid, placement, first_failure, "
    "cancelled, log_dir, facts"
)


class Job(NamedTuple):
    """A row of the queue. Times are Unix seconds; `first_failure` is set once a rank of the gang has
    failed; `log_dir` is a name under the node's log folder; `facts` are what was seen of it: `progress`, `checkpoint`,
    `concerns`, `cause`."""

    job_id: int
    key: str
    status: str
    spec: JobSpec
    submitted_at: float
    start_at: Optional[float]
    end_at: Optional[float]
    exit_codes: Optional[List[Optional[int]]]
    reason: Optional[str]
    pid: Optional[int]
    placement: List[Dict[str, Any]]
    first_failure: Optional[Dict[str, Any]]
    cancelled: bool
    log_dir: str
    facts: Dict[str, Any]

    @property
    def ended(self) -> bool:
        """True in a terminal state."""
        return self.status in states.TERMINAL


class Ledger:
    """The head's memory; `changed` fires after every committed event."""

    def __init__(self, root: str, clock: Callable[[], float]) -> None:
        os.makedirs(root, mode=0o700, exist_ok=True)
        self._secrets = os.path.join(root, "secrets")
        os.makedirs(self._secrets, mode=0o700, exist_ok=True)
        self._clock = clock
        self.changed = Signal()
        path = os.path.join(root, "jobs.db")
        self._db = sqlite3.connect(path, isolation_level=None)
        os.chmod(path, 0o600)
        if on_network(path):
            # The log's index lies in memory that several processes share, which such disks cannot give; alone, the
            # agent keeps it in its own.
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode=WAL")
        # A killed agent loses nothing in this mode; only a power cut could, and `add` guards what was promised
        # against that.
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA cache_size=-512")
        self._db.executescript(_SCHEMA)
        if "facts" not in {row[1] for row in self._db.execute("PRAGMA table_info(jobs)")}:
            # Written by an agent of before.
            self._db.execute("ALTER TABLE jobs ADD COLUMN facts TEXT")
        # For the agent that will have to change the tables: what it finds.
        self._db.execute("PRAGMA user_version=1")

    def close(self) -> None:
        """Close the file; the ledger is not used afterwards."""
        self._db.close()

    @contextmanager
    def _transaction(self, durable: bool = False) -> Iterator[sqlite3.Connection]:
        if durable:
            self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        else:
            self._db.execute("COMMIT")
        finally:
            if durable:
                self._db.execute("PRAGMA synchronous=NORMAL")

    def add(self, key: str, spec: JobSpec, secrets: Secrets) -> int:
        """Record a new PENDING job durably; returns its id. The caller has looked the key up with `find`."""
        if any(secrets):
            self._write_secrets(key, secrets)
        with self._transaction(durable=True) as db:
            used = db.execute("SELECT count(*) FROM jobs WHERE log_dir = ?", (spec.task_id,)).fetchone()[0]
            # A task id may come again (a managed job recovers); each job still has a log folder of its own.
            folder = "%s+%s" % (spec.task_id, key) if used else spec.task_id
            cursor = db.execute(
                "INSERT INTO jobs (key, status, spec, submitted_at, log_dir) VALUES (?, ?, ?, ?, ?)",
                (key, states.PENDING, json.dumps(stored(spec)), spec.submitted_at, folder),
            )
            job_id = int(cursor.lastrowid or 0)
            self._append(db, {"kind": "job", "job_id": job_id, "key": key, "status": states.PENDING})
        self.changed.fire()
        return job_id

    def find(self, key: str) -> Optional[int]:
        """The id of the job that was submitted under `key`."""
        row = self._db.execute("SELECT job_id FROM jobs WHERE key = ?", (key,)).fetchone()
        return None if row is None else int(row[0])

    def get(self, job_id: int) -> Optional[Job]:
        """One job, None when there is none of that id."""
        row = self._db.execute("SELECT %s FROM jobs WHERE job_id = ?" % _COLUMNS, (job_id,)).fetchone()  # noqa: S608
        return None if row is None else _job(row)

    def jobs(self, skip_finished: bool = False, after: int = 0, limit: int = -1) -> List[Job]:
        """Jobs with an id above `after` in order of submission, at most `limit` if it is not negative."""
        where = "WHERE job_id > ?"
        if skip_finished:
            where += " AND status NOT IN (%s)" % ", ".join("'%s'" % status for status in sorted(states.TERMINAL))
        rows = self._db.execute("SELECT %s FROM jobs %s ORDER BY job_id LIMIT ?" % (_COLUMNS, where), (after, limit))  # noqa: S608
        return [_job(row) for row in rows]

    def move(self, job_id: int, status: str, **facts: Any) -> Job:
        """Take a job to `status` and note the facts (columns of the row); ForbiddenStep when the table forbids it."""
        with self._transaction() as db:
            job = self.get(job_id)
            assert job is not None, "job %d is not in the ledger" % job_id
            states.check(job_id, job.status, status)
            now = self._clock()
            if status in states.ACTIVE and job.start_at is None:
                facts["start_at"] = now
            if status in states.TERMINAL:
                facts["end_at"] = now
            self._set(db, job_id, dict(facts, status=status))
            job = self.get(job_id)
            assert job is not None
            self._append(db, _job_event(job))
        if job.ended:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(self._secrets, job.key))
        self.changed.fire()
        return job

    def note(self, job_id: int, **facts: Any) -> None:
        """Write facts of a job that are no change of its state."""
        with self._transaction() as db:
            self._set(db, job_id, facts)

    def tell(self, job_id: int, facts: Dict[str, Any]) -> None:
        """Write what was seen of a job, and that there is news of it."""
        with self._transaction() as db:
            job = self.get(job_id)
            assert job is not None, "job %d is not in the ledger" % job_id
            told = dict(job.facts, **facts)
            if told != job.facts:
                self._set(db, job_id, {"facts": told})
                self._append(db, _job_event(job._replace(facts=told)))
        self.changed.fire()

    def _set(self, db: sqlite3.Connection, job_id: int, facts: Dict[str, Any]) -> None:
        values = [json.dumps(item) if isinstance(item, (list, dict)) else item for item in facts.values()]
        columns = ", ".join("%s = ?" % name for name in facts)
        db.execute("UPDATE jobs SET %s WHERE job_id = ?" % columns, (*values, job_id))  # noqa: S608

    def secrets(self, key: str) -> Secrets:
        """The secrets of a job that has not ended; empty when it has none."""
        try:
            with open(os.path.join(self._secrets, key), encoding="utf-8") as file:
                return Secrets(**json.load(file))
        except FileNotFoundError:
            return Secrets({})

    def _write_secrets(self, key: str, secrets: Secrets) -> None:
        path = os.path.join(self._secrets, key)
        handle = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(secrets._asdict(), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + ".new", path)

    def event(self, kind: str, **facts: Any) -> None:
        """Append an event that is not a job's state: kind is `autostop`, `hook`, `node`, `notice` or `span`."""
        with self._transaction() as db:
            self._append(db, dict(facts, kind=kind))
        self.changed.fire()

    def _append(self, db: sqlite3.Connection, event: Dict[str, Any]) -> None:
        text = json.dumps(dict(event, time=self._clock()))
        seq = db.execute("INSERT INTO events (event) VALUES (?)", (text,)).lastrowid or 0
        if seq % _PRUNE_EVERY == 0:
            db.execute("DELETE FROM events WHERE seq <= ?", (seq - KEPT_EVENTS,))

    def events(self, since: int, limit: int = 500) -> List[Dict[str, Any]]:
        """Events with a sequence number above `since`, oldest first, at most `limit`."""
        rows = self._db.execute("SELECT seq, event FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (since, limit))
        return [dict(json.loads(text), seq=seq) for seq, text in rows]

    def setting(self, name: str) -> Any:
        """A stored setting, None when never set."""
        row = self._db.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def keep(self, name: str, value: Any) -> None:
        """Store a setting (any JSON value)."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", (name, json.dumps(value)))


def on_network(path: str, mounts: str = "/proc/self/mounts") -> bool:
    """Whether a path lies on a disk that other machines mount as well, as homes of a Slurm cluster do."""
    try:
        with open(mounts, encoding="utf-8", errors="replace") as file:
            lines = [line.split(" ") for line in file]
    except OSError:
        return False
    inside = [each for each in lines if len(each) > 2 and (path + "/").startswith(each[1].rstrip("/") + "/")]
    kind = max(inside, key=lambda each: len(each[1]))[2] if inside else ""
    return kind.startswith(_NETWORK_DISKS)


def _job(row: Any) -> Job:
    values = list(row)
    values[3] = restored(json.loads(values[3]))
    values[7] = json.loads(values[7]) if values[7] else None
    values[10] = json.loads(values[10]) if values[10] else []
    values[11] = json.loads(values[11]) if values[11] else None
    values[12] = bool(values[12])
    values[14] = json.loads(values[14]) if values[14] else {}
    return Job(*values)


def _job_event(job: Job) -> Dict[str, Any]:
    event: Dict[str, Any] = {"kind": "job", "job_id": job.job_id, "key": job.key, "status": job.status}
    for name in ("start_at", "end_at", "exit_codes", "reason", "pid"):
        value = getattr(job, name)
        if value is not None:
            event[name] = value
    if job.facts:
        event["facts"] = job.facts
    return event
