"""The generations of the catalog on this machine: which file is current, what to do when it is broken or old.

A folder holds `gen-<sha>.sqlite`, named for the content, and the pointer `current`; both only ever appear whole.
Whoever answers questions calls `Generations.reader` before each; `merge` publishes new files. Underneath lies the seed,
compressed inside the package: it becomes the first generation, and another one when a newer package brings a newer
seed than the last refresh.
"""

import fcntl
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sky.store.catalog.read import CatalogFile, Unusable

#: The compressed seed inside this package.
SEED = Path(__file__).with_name("seed.sqlite.z")
#: A seed that claims to be larger than this is not ours.
_MOST_BYTES = 512 * 2**20
_KEPT = 2
#: Seconds after which a file that was never finished is taken for abandoned.
_ABANDONED_S = 3600.0


class Generations:
    """The catalog files of one folder, over a seed (`None`: there is none). Cheap to make: nothing is read yet."""

    def __init__(self, folder: Path, seed: Path | None = SEED) -> None:
        self.folder = folder
        self._seed = seed
        self._pointer = folder / "current"
        self._stamp: tuple[int, ...] | None = None
        self._open: CatalogFile | None = None
        self._whole: tuple[int, ...] | None = None
        #: What was passed over the last time a file was chosen, and why.
        self.passed_over: list[str] = []

    def reader(self) -> CatalogFile:
        """The newest generation that can be read; costs a look at pointer and file while they have not changed.

        Raises Unusable when there is none, with all reasons.
        """
        stamp = _stamp(self._pointer)
        # Nobody writes to a generation; one that is cut short or damaged all the same must not be answered from.
        if self._open is None or stamp != self._stamp or self._whole != _stamp(self._file(self._open.generation)):
            self.passed_over = []
            self._open = self._choose()
            self._whole = _stamp(self._file(self._open.generation))
            # Choosing may have set the pointer; if somebody else did meanwhile, the next call looks again.
            self._stamp = stamp if stamp == _stamp(self._pointer) else _stamp_of_name(self._pointer, self._open)
        return self._open

    def publish(self, write: Callable[[Path], None]) -> str:
        """Make what `write` writes to a path the current generation, and return its name. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        writing = _new_beside(self.folder / "gen")
        try:
            write(writing)
            with writing.open("rb+") as file:
                os.fsync(file.fileno())
            generation = f"gen-{_digest(writing)}"
            writing.chmod(0o644)
            writing.replace(self._file(generation))
        finally:
            writing.unlink(missing_ok=True)
        self._point_at(generation)
        self._prune(generation)
        return generation

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold off other writers, in this process and others, while a generation is made from the last."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _file(self, generation: str) -> Path:
        return self.folder / f"{generation}.sqlite"

    def _choose(self) -> CatalogFile:
        named, weighed = _read_pointer(self._pointer)
        found = self._usable(named)
        if found is not None and weighed == self._seed_mark():
            return found
        return self._with_seed(found)

    def _usable(self, named: str) -> CatalogFile | None:
        """The generation of this name, else the newest other one."""
        if named:
            with suppress(Unusable):
                return self._opened(self._file(named))
        for path in self._newest_first():
            if path.stem != named:
                with suppress(Unusable):
                    return self._opened(path)
        return None

    def _opened(self, path: Path) -> CatalogFile:
        try:
            return CatalogFile.open(path)
        except Unusable as error:
            self.passed_over.append(str(error))
            raise

    def _newest_first(self) -> list[Path]:
        found = []
        with suppress(OSError):
            for path in self.folder.glob("gen-*.sqlite"):
                with suppress(OSError):
                    found.append((path.stat().st_mtime_ns, path))
        return [path for _, path in sorted(found, reverse=True)]

    def _with_seed(self, found: CatalogFile | None) -> CatalogFile:
        """The newer of what was found and the seed, which then is the current generation."""
        seed = self._seed_content()
        if seed is None:
            if found is None:
                told = "; ".join(self.passed_over) or f"{self.folder} is empty, and this installation has no seed"
                raise Unusable(f"there is no catalog to read: {told}. Run: sky catalog refresh")
            return found
        try:
            in_memory = CatalogFile.of_bytes(seed, f"gen-{_digest_of(seed)}")
        except Unusable as error:
            self.passed_over.append(str(error))
            if found is None:
                raise
            return found
        if found is not None and _newest_source(found) > _newest_source(in_memory):
            with suppress(OSError):
                self._point_at(found.generation)
            return found
        try:
            return CatalogFile.open(self._file(self.publish(lambda path: _write(path, seed))))
        except (OSError, Unusable) as error:
            self.passed_over.append(f"{self.folder} cannot hold the seed, which is read into memory: {error}")
            return in_memory

    def _seed_content(self) -> bytes | None:
        if self._seed is None or not self._seed.exists():
            return None
        try:
            unpacker = zlib.decompressobj()
            content = unpacker.decompress(self._seed.read_bytes(), _MOST_BYTES)
        except (OSError, zlib.error) as error:
            self.passed_over.append(f"{self._seed}: {error}")
            return None
        return content

    def _seed_mark(self) -> str:
        """Changes when the package brings another seed."""
        stamp = _stamp(self._seed) if self._seed is not None else None
        return "-" if stamp is None else f"{stamp[1]}.{stamp[2]}"

    def _point_at(self, generation: str) -> None:
        writing = _new_beside(self._pointer)
        try:
            with writing.open("w") as file:
                file.write(f"{generation} {self._seed_mark()}\n")
                file.flush()
                os.fsync(file.fileno())
            writing.chmod(0o644)
            writing.replace(self._pointer)
        finally:
            writing.unlink(missing_ok=True)

    def _prune(self, current: str) -> None:
        """Keep the current generation and the one before; readers that have an older one open go on with it."""
        older = [path for path in self._newest_first() if path.stem != current]
        for path in older[_KEPT - 1 :]:
            path.unlink(missing_ok=True)
        with suppress(OSError):
            newest = self._file(current).stat().st_mtime
            for path in self.folder.glob(".gen.*.new*"):
                # Of a writer that was killed in the middle; one that still writes is younger.
                if path.stat().st_mtime < newest - _ABANDONED_S:
                    path.unlink(missing_ok=True)


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def _stamp_of_name(pointer: Path, chosen: CatalogFile) -> tuple[int, ...] | None:
    """The pointer's stamp if it names what was chosen; else none, so that the next look reads it."""
    stamp = _stamp(pointer)
    return stamp if _read_pointer(pointer)[0] == chosen.generation else None


def _read_pointer(path: Path) -> tuple[str, str]:
    """The name of the current generation and the mark of the seed it was weighed against; empty where unreadable."""
    try:
        words = path.read_text().split()
    except (OSError, UnicodeDecodeError):
        return "", ""
    if len(words) != 2 or not words[0].startswith("gen-") or "/" in words[0]:
        return "", ""
    return words[0], words[1]


def _new_beside(path: Path) -> Path:
    """An empty file of a name that nobody else has, in the same folder."""
    import tempfile  # noqa: PLC0415 - 4 ms that a process which only reads does not need

    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    os.close(handle)
    return Path(name)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _newest_source(catalog: CatalogFile) -> float:
    return max((source.fetched for source in catalog.sources()), default=0.0)


def _digest(path: Path) -> str:
    import hashlib  # noqa: PLC0415 - 4 ms that a process which only reads does not need

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _digest_of(content: bytes) -> str:
    import hashlib  # noqa: PLC0415 - as above

    return hashlib.sha256(content).hexdigest()[:12]
