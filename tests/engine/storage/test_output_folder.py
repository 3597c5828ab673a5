"""Output folders: whole or not at all, and nobody's data is lost."""

import pytest

from sennet_engine.errors import OutputError
from sennet_engine.storage.output_folder import FolderKind, output_folder

KIND = FolderKind(marker="summary.json", others=("mask.tif",))


def write(path, content, *, overwrite=False):
    """Write one finished folder at `path`."""
    with output_folder(path, KIND, overwrite=overwrite) as folder:
        (folder / "summary.json").write_text(content)
        (folder / "mask.tif").write_text(content)


def test_nothing_stands_under_the_final_name_before_the_end(tmp_path):
    """While the folder is written it has another name; afterwards nothing else is left."""
    with output_folder(tmp_path / "deep" / "out", KIND, overwrite=False) as folder:
        assert not (tmp_path / "deep" / "out").exists()
        (folder / "summary.json").write_text("")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_a_failure_leaves_neither_folder_nor_parents(tmp_path):
    """Whatever was made on the way is gone; what was there is there."""
    with pytest.raises(ZeroDivisionError), output_folder(tmp_path / "deep" / "out", KIND, overwrite=False):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "out", "first")
    with pytest.raises(ZeroDivisionError), output_folder(tmp_path / "out", KIND, overwrite=True):
        raise ZeroDivisionError
    assert (tmp_path / "out" / "mask.tif").read_text() == "first"


def test_neighbours_with_similar_names_are_not_touched(tmp_path):
    """Folders that happen to be called out.partial or out.former are somebody's."""
    for name in ("out.partial", "out.former"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine")
    write(tmp_path / "out", "first")
    write(tmp_path / "out", "second", overwrite=True)
    assert (tmp_path / "out.partial" / "notes.txt").exists()
    assert (tmp_path / "out.former" / "notes.txt").exists()
    assert (tmp_path / "out" / "mask.tif").read_text() == "second"


def test_the_old_result_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    """An interrupt between the two renames loses neither."""
    path_class = type(tmp_path)
    rename = path_class.rename

    def interrupted(self, target):
        if self.name.endswith(".partial"):
            raise KeyboardInterrupt
        return rename(self, target)

    write(tmp_path / "out", "first")
    monkeypatch.setattr(path_class, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", "second", overwrite=True)
    assert (tmp_path / "out" / "mask.tif").read_text() == "first"
    assert len(list(tmp_path.iterdir())) == 1


def test_of_two_runs_at_once_the_first_to_finish_wins(tmp_path):
    """Neither writes into the other's folder, and without --overwrite the second is refused at its end."""
    slow = output_folder(tmp_path / "out", KIND, overwrite=False)
    folder = slow.__enter__()
    write(tmp_path / "out", "quick")
    (folder / "mask.tif").write_text("slow")
    with pytest.raises(OutputError, match="exists already"):
        slow.__exit__(None, None, None)
    assert (tmp_path / "out" / "mask.tif").read_text() == "quick"


@pytest.mark.parametrize("names", [["notes.txt"], ["mask.tif"], ["summary.json", "mask.tif", "notes.txt"]])
def test_only_an_earlier_result_is_replaced(tmp_path, names):
    """Foreign files, or the lack of the marker, keep a folder from being replaced."""
    (tmp_path / "out").mkdir()
    for name in names:
        (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(OutputError, match="no earlier result"):
        write(tmp_path / "out", "new", overwrite=True)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(names)


def test_a_link_stays_a_link(tmp_path):
    """The folder that it points to is replaced."""
    write(tmp_path / "real", "first")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link", "second", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "mask.tif").read_text() == "second"


def test_what_a_killed_run_left_is_told(tmp_path, caplog):
    """But neither what is kept for a resume, nor what belongs to the neighbours out.old and out.sennet."""
    litter = {".out.12-abcdef.partial", ".out.7-000000.former"}
    others = {".out.work", ".out.old.12-abcdef.partial", ".out.sennet.work", ".out.notes", ".outer.1-abcdef.partial"}
    for name in litter | others:
        (tmp_path / name).mkdir()
    write(tmp_path / "out", "first")
    assert {name for name in litter | others if f"{name} was left" in caplog.text} == litter
    assert len(caplog.records) == 2
