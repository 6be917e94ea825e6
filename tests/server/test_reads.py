"""The ring of kept reads: bounded in number, bytes and age."""

from sky.server.reads import Read, Reads


def read(number: int, at: float = 0.0, size: int = 10) -> Read:
    return Read(f"id-{number:04d}", "status", at, result=b"x" * size)


def test_newest_are_kept() -> None:
    reads = Reads(most=3)
    for number in range(5):
        reads.keep(read(number))
    assert len(reads) == 3
    assert reads.find("id-0001", 0) is None
    assert reads.find("id-0004", 0) == read(4)


def test_bytes_are_bounded() -> None:
    reads = Reads(most_bytes=100)
    for number in range(50):
        reads.keep(read(number, size=30))
    assert len(reads) == 3
    reads.keep(read(99, size=1000))
    assert len(reads) == 0


def test_old_ones_are_gone() -> None:
    reads = Reads(longest_s=10)
    reads.keep(read(1, at=0))
    assert reads.find("id-0001", 10) is not None
    assert reads.find("id-0001", 10.1) is None
    reads.keep(read(2, at=20))
    assert len(reads) == 1


def test_same_id_again_replaces() -> None:
    reads = Reads(most_bytes=100)
    for _ in range(20):
        reads.keep(read(1, size=60))
    assert len(reads) == 1


def test_prefix_must_be_unique_and_not_too_short() -> None:
    reads = Reads()
    reads.keep(read(1))
    reads.keep(read(12))
    assert reads.find("id-000", 0) == read(1)
    assert reads.find("id-0", 0) is None
    assert reads.find("id", 0) is None
