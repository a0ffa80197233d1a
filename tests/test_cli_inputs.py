"""Which files `dmsr upscale` takes, and what their results are called."""

from __future__ import annotations

import codecs
import io
import os
import sys
from pathlib import Path

import pytest

from dmsr_cli.cli.batch.inputs import MAX_LIST_BYTES, Inputs, find_inputs, read_list, remarks
from dmsr_cli.cli.batch.jobs import Jobs, Naming, plan_jobs
from dmsr_cli.cli.main import main
from dmsr_cli.errors import DmsrError
from pictures import needs_posix


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: an album of two pictures, others inside it, and what is none."""
    monkeypatch.chdir(tmp_path)
    for name in ("album/a.png", "album/b.jpg", "album/inner/c.png", "album/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name in ("album/.hidden.png", "album/.cache/d.png", "album/clip.mp4"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return tmp_path


def names(found: Inputs) -> list[str]:
    return [file.path.as_posix() for file in found.files if file.error is None]


def errors(found: Inputs) -> list[str]:
    texts = [str(file.error) for file in found.files if file.error is not None]
    assert not any("\n" in text for text in texts)
    return texts


def targets(planned: Jobs) -> list[str]:
    return [job.target.name for job in planned.jobs]


@pytest.mark.parametrize(
    ("pattern", "expected", "left_alone"),
    [
        ("album/*.png", ["album/a.png"], 0),
        ("album/[ab].*", ["album/a.png", "album/b.jpg"], 0),
        ("album/?.png", ["album/a.png"], 0),
        ("**/*.png", ["album/a.png", "album/inner/c.png"], 0),
        ("album/**/*", ["album/a.png", "album/b.jpg", "album/clip.mp4", "album/inner/c.png"], 1),
        ("album/.*.png", ["album/.hidden.png"], 0),
        ("album/.cache/*", ["album/.cache/d.png"], 0),
        ("alb*", ["album/a.png", "album/b.jpg"], 2),
    ],
)
def test_patterns(folder: Path, pattern: str, expected: list[str], left_alone: int) -> None:
    for text in (pattern, str(folder / pattern)):
        found = find_inputs([text])
        assert [Path(name).relative_to(Path(text).anchor and folder).as_posix()
                for name in names(found)] == expected  # fmt: skip
        assert errors(found) == []
        assert found.left_alone == left_alone
        assert found.is_batch


def test_a_file_of_just_that_name_is_no_pattern(folder: Path) -> None:
    Path("[ab].png").touch()
    Path("a.png").touch()
    found = find_inputs(["[ab].png"])
    assert names(found) == ["[ab].png"]
    assert not found.is_batch


@pytest.mark.parametrize("pattern", ["*.webp", "nowhere/*.png", "album/*.txt", "no[where"])
def test_a_pattern_without_a_match_fails(folder: Path, pattern: str) -> None:
    found = find_inputs([pattern, "album/a.png"])
    assert errors(found) == [f"no pictures match {pattern}"]
    assert names(found) == ["album/a.png"]


@needs_posix
def test_links_to_folders_are_not_followed(folder: Path) -> None:
    for name in ("loop", "again"):  # two make more paths than there is time to walk
        (folder / "album" / name).symlink_to(folder / "album")
    (folder / "album" / "self.png").symlink_to("self.png")
    assert names(find_inputs(["album"], recursive=True)) == [
        *("album/a.png", "album/b.jpg", "album/inner/c.png", "album/self.png")
    ]
    assert names(find_inputs(["album/**/c.png"])) == ["album/inner/c.png"]


@needs_posix
def test_a_file_named_twice_is_done_once(folder: Path) -> None:
    Path("link.png").symlink_to("album/a.png")
    other = folder / "album" / ".." / "album" / "a.png"
    found = find_inputs(["album/a.png", str(other), "link.png", "album"], ["album/b.jpg"])
    assert names(found) == ["album/a.png", "album/b.jpg"]
    assert found.named_twice == 4
    assert "4 files named twice" in list(remarks(found))
    os.link("album/a.png", "hard.png")  # a file of its own: its result must be there, too
    assert names(find_inputs(["album/a.png", "hard.png"])) == ["album/a.png", "hard.png"]


def test_what_is_no_picture_is_counted(folder: Path) -> None:
    found = find_inputs(["album"])
    assert names(found) == ["album/a.png", "album/b.jpg"]
    assert list(remarks(found)) == ["2 other files left alone"]
    (folder / "empty").mkdir()
    assert errors(find_inputs(["empty"])) == [
        "no pictures in the folder empty (-r looks into the folders inside it)"
    ]


@needs_posix
@pytest.mark.skipif(os.name != "nt" and os.geteuid() == 0, reason="root may list everything")
def test_a_folder_that_cannot_be_listed(folder: Path) -> None:
    (folder / "album/inner").chmod(0)
    try:
        found = find_inputs(["album"], recursive=True)
    finally:
        (folder / "album/inner").chmod(0o700)
    assert names(found) == ["album/a.png", "album/b.jpg"]
    assert len(errors(found)) == 1
    assert "inner" in errors(found)[0]


def test_a_folder_that_fails_costs_only_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = os.scandir

    def closed(path: Path) -> object:
        if Path(path).name == "inner":
            raise PermissionError(13, "Permission denied", str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", closed)
    found = find_inputs(["album"], recursive=True)
    assert names(found) == ["album/a.png", "album/b.jpg"]
    assert errors(found) == ["cannot list the folder album/inner: Permission denied"]


def test_results_are_no_inputs(folder: Path) -> None:
    out = folder / "album" / "out"
    out.mkdir()
    (out / "a_x2.png").touch()
    assert "album/out/a_x2.png" in names(find_inputs(["album"], recursive=True))
    assert "album/out/a_x2.png" not in names(find_inputs(["album"], recursive=True, output=out))
    assert names(find_inputs(["album/out"], output=out)) == ["album/out/a_x2.png"]

    def is_own(path: Path) -> bool:
        return path.name == "a_x2.png"

    found = find_inputs(["album"], recursive=True, is_own_result=is_own)
    assert "album/out/a_x2.png" not in names(found)
    assert found.own_results == 1
    assert "1 result of an earlier run left out" in list(remarks(found))
    assert names(find_inputs(["album/out/a_x2.png"], is_own_result=is_own)) == [
        "album/out/a_x2.png"
    ]
    assert errors(find_inputs(["album/out"], is_own_result=is_own)) == [
        "no pictures in the folder album/out but 1 results of earlier runs: "
        "name those to restore again"
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a.png\nb c.png\n", ["a.png", "b c.png"]),
        (b"\xef\xbb\xbfa.png\r\n\r\n  \r\nb.png", ["a.png", "b.png"]),
        ("a.png\r\ngrün.png\r\n".encode("utf-16"), ["a.png", "grün.png"]),
        (codecs.BOM_UTF16_BE + "grün.png\n".encode("utf-16-be"), ["grün.png"]),
        (b"a\nb.png\0c.png\0\0", ["a\nb.png", "c.png"]),
        (b"*.png\n-\n", ["*.png", "-"]),
        (b"", []),
    ],
)
def test_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, expected: list[str]
) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content)
    assert read_list(str(path)) == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert read_list("-") == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (bytes(range(256)) * 40, "no list of names"),
        (b"x" * 5000, "no list of names"),
        (b"\xff\xfea", "damaged UTF-16; save it as UTF-8"),
        ("a.png\r\n".encode("utf-16-le"), "without a byte order mark; save it as UTF-8"),
        ("a.png\n".encode("utf-16-be"), "without a byte order mark; save it as UTF-8"),
        ("a.png\n".encode("utf-32"), "save it as UTF-8"),
        ("a.png\ngrün.png\n".encode("latin-1"), "not in UTF-8, nor those of files; save it"),
    ],
)
def test_what_is_no_list(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "list.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DmsrError, match=reason) as caught:
        read_list(str(path))
    assert "list.txt" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_in_another_encoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where files are called so, byte for byte, the list is right, and one that is gone, too."""
    monkeypatch.chdir(tmp_path)
    latin, gone = b"gr\xfcn.png", b"\xe9.png"
    Path(os.fsdecode(latin)).touch()
    Path("list.txt").write_bytes(latin + b"\n" + gone + b"\n")
    assert read_list("list.txt") == [os.fsdecode(latin), os.fsdecode(gone)]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(latin)))
    with monkeypatch.context() as context:
        context.setattr(os, "name", "nt")  # where names are Unicode
        with pytest.raises(DmsrError, match="save it as UTF-8"):
            read_list("-")


@needs_posix
def test_a_huge_list(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    with path.open("wb") as file:
        file.truncate(MAX_LIST_BYTES + 1)  # takes no place on the disk
    with pytest.raises(DmsrError, match="split it"):
        read_list(str(path))


def test_names_of_a_list_are_taken_to_the_letter(folder: Path) -> None:
    found = find_inputs([], ["album/*.png", "album/a.png", "album/inner"])
    assert names(found) == ["album/*.png", "album/a.png", "album/inner/c.png"]
    assert found.is_batch


@pytest.mark.parametrize(
    ("sources", "naming", "expected"),
    [
        (["a.png", "a.jpg"], Naming("_x4"), ["a_x4.png", "a_x4.jpg"]),
        (["a.png", "a.jpg"], Naming("_x4", "-big"), ["a-big.png", "a-big.jpg"]),
        (["a.png", "a.jpg"], Naming("_x4", None, ".png"), ["a_x4.png", "a.jpg_x4.png"]),
        (["a.png", "A.png"], Naming("_x4"), ["a_x4.png", "A.png_x4.png"]),
        (["x/é.png", "y/e\u0301.png"], Naming("_x4"), ["é_x4.png", "e\u0301.png_x4.png"]),
        (["x/a.png", "y/a.png", "z/a.png"], Naming("_x4"),
         ["a_x4.png", "a.png_x4.png", "a.png_x4_2.png"]),
        (["a.png", "a.jpg"], Naming("_x4", keeps_stem=True), ["a_x4.png", "a.jpg_x4.jpg"]),
        (["x/a.png", "x/a.jpg"], Naming("_x4", "", ".png"), ["a.png", "a.jpg.png"]),
    ],
)  # fmt: skip
def test_names_cannot_collide(
    tmp_path: Path, sources: list[str], naming: Naming, expected: list[str]
) -> None:
    paths = [str(tmp_path / source) for source in sources]
    assert targets(plan_jobs(paths, str(tmp_path / "out") + "/", False, naming)) == expected


def test_a_folder_keeps_the_size_in_its_name(folder: Path) -> None:
    for ending, name in ((None, "c_x4.png"), ("-big", "c-big.png"), ("", "c.png")):
        planned = plan_jobs(["album/inner"], None, False, Naming("_x4", ending))
        assert planned.jobs[0].target == Path("album/inner_x4", name)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["album/a.png", "--suffix", ""], "use -o FOLDER"),
        (["album/a.png", "-o", "album", "--suffix", ""], "use -o FOLDER"),
        (["album", "-o", "album/", "--suffix", ""], "use -o FOLDER"),
        (["a.png", "--suffix", "/../x"], "has no /"),
        ([], "--files-from"),
        (["-", "--files-from", "-"], "not both"),
        (["-", "--files-from", "list"], "one picture"),
        (["album/a.png", "--files-from", "list", "-o", "-"], "one picture"),
        (["album/*.*", "-o", "one.png"], "several inputs"),
        (["album", "-o", "one.png"], "several inputs"),
    ],
)
def test_wrong_usage(
    folder: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("list").write_text("album/a.png\n")
    before = sorted(folder.rglob("*"))
    assert main(["upscale", *arguments]) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert sorted(folder.rglob("*")) == before


def test_an_empty_list(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("list").touch()
    assert main(["upscale", "--files-from", "list"]) == 1
    assert capsys.readouterr().err == "dmsr: error: the list of files list is empty\n"


def test_where_nothing_can_be_done_no_network_is_loaded(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["upscale", "*.gif"]) == 1
    assert capsys.readouterr().err == "dmsr: error: no pictures match *.gif\n"


def test_a_pattern_that_matches_one_file_may_have_a_named_result(folder: Path) -> None:
    planned = plan_jobs(["album/*.png"], "one.png", False, Naming("_x4"))
    assert [(job.source.name, job.target.name) for job in planned.jobs] == [("a.png", "one.png")]


def test_the_root_has_no_folder_beside_it() -> None:
    root = Path(Path.cwd().anchor)
    planned = plan_jobs([str(root)], None, False, Naming("_x4"))
    assert [job for job in planned.jobs if job.error is None] == []
