"""The journal: what it calls done is done, whatever happened to its last line."""

import resource
from concurrent.futures import ThreadPoolExecutor

import pytest

from sennet_engine.errors import OutputError
from sennet_engine.storage.journal import Journal


def written(path, *units):
    """A journal in which `units` are done."""
    with Journal.create(path, "abc") as journal:
        for unit in units:
            journal.mark_done(unit)
    return path


def done(path):
    """What is read from it."""
    with Journal.open(path, "abc") as journal:
        return journal.done


def test_what_is_marked_is_done_for_this_run_and_the_next(tmp_path):
    """And nothing else is."""
    with Journal.create(tmp_path / "journal", "abc") as journal:
        assert journal.done == frozenset()
        journal.mark_done("z 0")
        journal.mark_done("z 0")
        journal.mark_done("größe 16")
        assert journal.is_done("z 0")
        assert not journal.is_done("z")
    assert done(tmp_path / "journal") == {"z 0", "größe 16"}
    assert len((tmp_path / "journal").read_text().splitlines()) == 3


def test_a_last_line_that_is_torn_at_any_byte_is_cut_off(tmp_path):
    """Units before it stay, it is not done, and what is marked afterwards is read."""
    whole = written(tmp_path / "journal", "z 0", "z 16", "z 32").read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    for cut in range(1, last + 1):
        (tmp_path / "journal").write_bytes(whole[:-cut])
        with Journal.open(tmp_path / "journal", "abc") as journal:
            assert journal.done == {"z 0", "z 16"}, cut
            assert (tmp_path / "journal").read_bytes() == whole[:-last]
            journal.mark_done("z 48")
        assert done(tmp_path / "journal") == {"z 0", "z 16", "z 48"}, cut


def test_a_last_line_with_any_wrong_byte_is_cut_off(tmp_path):
    """As zeros in it, which a machine that goes down can leave, or a flipped bit."""
    whole = written(tmp_path / "journal", "z 0", "z 16").read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    for place in range(len(whole) - last, len(whole)):
        for wrong in (0, whole[place] ^ 1, whole[place] ^ 32):
            (tmp_path / "journal").write_bytes(whole[:place] + bytes([wrong]) + whole[place + 1 :])
            assert done(tmp_path / "journal") == {"z 0"}, (place, wrong)


def test_what_follows_a_damaged_line_is_done_again(tmp_path):
    """Rather than guessed at."""
    lines = written(tmp_path / "journal", "z 0", "z 16", "z 32").read_bytes().splitlines(keepends=True)
    (tmp_path / "journal").write_bytes(b"".join([*lines[:2], b"\0" * 14, lines[3]]))
    assert done(tmp_path / "journal") == {"z 0"}


def test_a_unit_that_a_full_disk_did_not_take_is_not_done(tmp_path):
    """The half of its line that was written does not spoil the next one."""
    path = tmp_path / "journal"
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Journal.create(path, "abc") as journal:
        journal.mark_done("z 0")
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 9, former[1]))
        try:
            with pytest.raises(OSError, match="journal"):
                journal.mark_done("z 16")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, former)
        assert not journal.is_done("z 16")
        journal.mark_done("z 32")
    assert done(path) == {"z 0", "z 32"}


def test_units_are_marked_from_many_threads(tmp_path):
    """All of them are there afterwards."""
    units = [f"z {number}" for number in range(200)]
    with Journal.create(tmp_path / "journal", "abc") as journal, ThreadPoolExecutor(8) as threads:
        list(threads.map(journal.mark_done, units))
    assert done(tmp_path / "journal") == set(units)


@pytest.mark.parametrize("content", [None, b"", b"00000000 sennet journal 1 abc\n", b"\0\0\0"])
def test_a_journal_without_its_first_line_is_refused(tmp_path, content):
    """Nobody knows then to which plan its units belong."""
    if content is not None:
        (tmp_path / "journal").write_bytes(content)
    with pytest.raises(OutputError, match=r"journal: .*start anew with --overwrite"):
        Journal.open(tmp_path / "journal", "abc")
    assert content is None or (tmp_path / "journal").read_bytes() == content


def test_the_journal_of_another_plan_is_refused(tmp_path):
    """Its units are not ours."""
    written(tmp_path / "journal", "z 0")
    with pytest.raises(OutputError, match="this plan's hash"):
        Journal.open(tmp_path / "journal", "abd")


def test_a_unit_is_one_line(tmp_path):
    """A name of two lines is a mistake of the caller."""
    with Journal.create(tmp_path / "journal", "abc") as journal, pytest.raises(ValueError, match="one line"):
        journal.mark_done("z\n0")
