"""Files that commands write: whole or not at all, and for whom."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from imslab.cli.output import new_file


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.mark.parametrize(("secret", "mode"), [(True, 0o600), (False, 0o644)])
def test_a_file_stands_when_it_is_complete(secret: bool, mode: int, tmp_path: Path) -> None:
    path = tmp_path / "result"
    with new_file(path, secret=secret) as stream:
        stream.write(b"all of it")
        assert not path.exists()
        (unfinished,) = tmp_path.iterdir()
        assert unfinished.stat().st_mode & 0o777 == mode  # no moment at which others could read it
    assert path.read_bytes() == b"all of it"
    assert path.stat().st_mode & 0o777 == mode
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("end", [KeyboardInterrupt(), ValueError(), OSError(28, "No space left")])
def test_what_comes_between_leaves_nothing(end: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "result"
    path.write_bytes(b"as it was")

    def interrupted() -> None:
        with new_file(path) as stream:
            stream.write(b"half")
            raise end

    with pytest.raises(type(end)):
        interrupted()
    assert path.read_bytes() == b"as it was"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / f".result.{os.getpid()}").write_bytes(b"half")
    with new_file(tmp_path / "result") as stream:
        stream.write(b"whole")
    assert [each.name for each in tmp_path.iterdir()] == ["result"]


def test_links_are_replaced_and_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    for name, link_target in (("link", target), ("dangling", tmp_path / "nowhere")):
        link = tmp_path / name
        link.symlink_to(link_target)
        with new_file(link) as stream:
            stream.write(b"new")
        assert not link.is_symlink()
        assert link.read_bytes() == b"new"
    assert target.read_bytes() == b"precious"
    assert not (tmp_path / "nowhere").exists()


def test_what_is_no_file_is_written_to(tmp_path: Path) -> None:
    with new_file(Path(os.devnull), secret=True) as stream:
        stream.write(b"gone")
    assert Path(os.devnull).is_char_device()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append(pipe.read_bytes()))
    reader.start()
    with new_file(pipe) as stream:
        stream.write(b"through")
    reader.join(10)
    assert heard == [b"through"]
    assert pipe.is_fifo()


def test_errors_name_what_was_asked_for(tmp_path: Path) -> None:
    for path in (tmp_path / "no" / "folder", tmp_path):
        with pytest.raises(OSError, match=r"(No such file|Is a directory)") as caught, new_file(path):
            pass
        assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []
