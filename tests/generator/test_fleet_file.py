"""The fleet file is found above what is checked, and read as one document."""

from pathlib import Path
from typing import Any

import pytest

from generator import specs


class TestFleetFile:
    def test_the_nearest_above_counts(self, tmp_path: Path) -> None:
        (tmp_path / ".git").mkdir()
        (tmp_path / "berth.yaml").write_text("cloud: aws\n")
        inside = tmp_path / "a" / "b"
        inside.mkdir(parents=True)
        (inside / "w.yaml").write_text("a: b\n")
        assert specs.find_fleet(str(inside / "w.yaml")) == tmp_path / "berth.yaml"
        (tmp_path / "a" / "berth.yaml").write_text("cloud: gcp\n")
        assert specs.find_fleet(str(inside)) == tmp_path / "a" / "berth.yaml"

    def test_the_search_ends_at_the_repository(self, tmp_path: Path) -> None:
        (tmp_path / "berth.yaml").write_text("cloud: aws\n")
        (tmp_path / "repository" / ".git").mkdir(parents=True)
        assert specs.find_fleet(str(tmp_path / "repository")) is None

    def test_standard_input_belongs_to_the_working_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "berth.yaml").write_text("cloud: aws\n")
        monkeypatch.chdir(tmp_path)
        assert specs.find_fleet("-") == tmp_path / "berth.yaml"

    @pytest.mark.parametrize(
        ("text", "data"),
        [
            ("cloud: aws\n", {"cloud": "aws"}),
            ("# a\n---\ncloud: aws\n", {"cloud": "aws"}),
            ("", {}),
            ("# nothing\n", {}),
            ("\ufeffcloud: aws\r\n", {"cloud": "aws"}),
        ],
        ids=["plain", "after a marker", "empty", "only a comment", "a mark and CRLF"],
    )
    def test_is_read(self, tmp_path: Path, text: str, data: dict[str, Any]) -> None:
        (tmp_path / "berth.yaml").write_bytes(text.encode())
        source = specs.load_fleet(tmp_path / "berth.yaml")
        assert source.problems == ()
        assert source.document is not None
        assert source.document.data == data

    @pytest.mark.parametrize(
        ("text", "line"),
        [
            pytest.param(b"a: 1\n---\nb: [\n", 2, id="several documents"),
            pytest.param(b"---\na: [\n", 3, id="broken"),
            pytest.param(b"a: \xff\n", 1, id="not UTF-8"),
            pytest.param(b"cloud: aws\ncloud: gcp\n", 2, id="a repeated key"),
        ],
    )
    def test_what_is_wrong_is_told(self, tmp_path: Path, text: bytes, line: int) -> None:
        (tmp_path / "berth.yaml").write_bytes(text)
        (found,) = specs.load_fleet(tmp_path / "berth.yaml").problems
        assert found.line == line
