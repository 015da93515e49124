"""A git tree is searched for Workspaces: ours are read, others left alone, and hostile files cost little."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from berth import workspaces
from generator import folders, specs

GOOD = """\
apiVersion: kaito.sh/v1alpha1
kind: Workspace
metadata:
  name: falcon
resource:
  instanceType: Standard_NC12s_v3
inference:
  preset:
    name: falcon-7b
"""
OTHER = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: kaito.sh/v1alpha1}\n"


def load(folder: Path, **files: str | bytes) -> list[specs.Source]:
    """Write files, `__` in a name standing for a slash, and load the folder."""
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path = path if "." in path.name else path.with_suffix(".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return specs.load([str(folder)])


def names(sources: list[specs.Source]) -> list[str]:
    return [document.data["metadata"]["name"] for source in sources for document in source.documents]


def one(text: str | bytes) -> specs.Source:
    return specs.load_text(text.encode() if isinstance(text, str) else text, "a.yaml")


def only(source: specs.Source) -> tuple[str, int, int]:
    (found,) = source.problems
    return found.problem.reason, found.line, found.column


def named(name: str, text: str = GOOD) -> str:
    return text.replace("name: falcon\n", f"name: {name}\n")


class TestFolders:
    def test_files_come_in_the_order_of_their_names(self, tmp_path: Path) -> None:
        sources = load(tmp_path, b=named("two"), a__z=named("one"), c=named("three"))
        assert names(sources) == ["one", "two", "three"]

    def test_yaml_yml_and_json_are_read_and_nothing_else(self, tmp_path: Path) -> None:
        (tmp_path / "a.yml").write_text(named("a"))
        (tmp_path / "b.json").write_text(
            '{"apiVersion": "kaito.sh/v1beta1", "kind": "Workspace", "metadata": {"name": "b"}}'
        )
        (tmp_path / "c.txt").write_text(named("c"))
        assert names(specs.load([str(tmp_path)])) == ["a", "b"]

    @pytest.mark.parametrize(
        "folder", [".git", ".github", "node_modules", "chart/templates", "rendered"], ids=lambda name: name
    )
    def test_what_holds_no_specs_is_skipped(self, tmp_path: Path, folder: str) -> None:
        place = tmp_path / folder
        place.mkdir(parents=True)
        (place / "a.yaml").write_text(GOOD)
        if folder == "chart/templates":
            (tmp_path / "chart" / "Chart.yaml").write_text("name: x\n")
        if folder == "rendered":
            (place / folders.RENDERED_MARKERS[0]).write_text("{}")
        assert specs.load([str(tmp_path)]) == []

    def test_a_file_that_is_named_is_read_whatever_it_is_called(self, tmp_path: Path) -> None:
        (tmp_path / ".spec.txt").write_text(GOOD)
        assert names(specs.load([str(tmp_path / ".spec.txt")])) == ["falcon"]

    def test_a_file_that_is_named_twice_is_read_once(self, tmp_path: Path) -> None:
        (tmp_path / "a.yaml").write_text(GOOD)
        (source,) = specs.load([str(tmp_path), str(tmp_path / "a.yaml")])
        assert source.problems == ()

    def test_standard_input_is_a_dash(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(GOOD.encode())))
        (source,) = specs.load(["-"])
        assert (source.file, names([source])) == ("-", ["falcon"])

    def test_a_path_that_is_not_there_can_not_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(folders.UnreadablePathError, match="there is no such file or folder"):
            specs.load([str(tmp_path / "absent.yaml")])

    def test_a_link_out_of_the_tree_is_told_and_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "outside.yaml").write_text(GOOD)
        (tmp_path / "tree").mkdir()
        (tmp_path / "tree" / "link.yaml").symlink_to(tmp_path / "outside.yaml")
        (tmp_path / "tree" / "up").symlink_to(tmp_path)
        sources = specs.load([str(tmp_path / "tree")])
        assert names(sources) == []
        assert [only(source)[0] for source in sources] == [
            "the link leads out of the folder, and is not followed"
        ] * 2

    def test_a_link_within_the_tree_is_read_once(self, tmp_path: Path) -> None:
        (tmp_path / "..data").mkdir()
        (tmp_path / "..data" / "a.yaml").write_text(GOOD)
        (tmp_path / "a.yaml").symlink_to(tmp_path / "..data" / "a.yaml")
        (tmp_path / "b.yaml").symlink_to(tmp_path / "..data" / "a.yaml")
        (source,) = specs.load([str(tmp_path)])
        assert source.problems == ()

    def test_links_in_a_circle_end(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "again").symlink_to(tmp_path)
        (tmp_path / "x.yaml").symlink_to(tmp_path / "y.yaml")
        (tmp_path / "y.yaml").symlink_to(tmp_path / "x.yaml")
        sources = specs.load([str(tmp_path)])
        assert [only(source)[0] for source in sources] == ["the link leads nowhere"] * 2

    def test_the_patches_of_a_kustomization_are_no_workspaces(self, tmp_path: Path) -> None:
        patch = GOOD[: GOOD.index("inference:")]
        kustomization = "resources: [base.yaml]\npatches:\n- path: more.yaml\n- patch: '{a: b}'\n"
        old = "patchesStrategicMerge: [../more.yaml]\n"
        sources = load(tmp_path, base=GOOD, more=patch, kustomization=kustomization, over__kustomization=old)
        assert [Path(source.file).name for source in sources] == ["base.yaml"]

    def test_a_file_that_can_not_be_read_hides_no_other(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened = Path.open

        def guarded(path: Path, *rest: Any) -> Any:
            if path.name == "b.yaml":
                raise PermissionError(13, "Permission denied")
            return opened(path, *rest)

        load(tmp_path, a=GOOD, b=GOOD)
        monkeypatch.setattr(Path, "open", guarded)
        first, second = specs.load([str(tmp_path)])
        assert names([first]) == ["falcon"]
        assert only(second)[0] == "the file can't be read: Permission denied"
        with pytest.raises(folders.UnreadablePathError, match="Permission denied"):
            specs.load([str(tmp_path / "b.yaml")])

    def test_a_name_that_is_no_text_can_be_printed(self, tmp_path: Path) -> None:
        (tmp_path / os.fsdecode(b"\xff.yaml")).write_text(GOOD)
        (source,) = specs.load([str(tmp_path)])
        assert source.file == f"{tmp_path}/\ufffd.yaml"

    def test_a_pipe_in_a_folder_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "a.yaml")
        assert specs.load([str(tmp_path)]) == []


class TestOthersAreLeftAlone:
    @pytest.mark.parametrize(
        "text",
        [
            pytest.param(OTHER, id="another kind that mentions us"),
            pytest.param("a: [", id="broken YAML that has nothing of ours"),
            pytest.param("# kaito.sh/v1alpha1 Workspace\na: [", id="broken YAML that mentions us"),
            pytest.param("{{- if .Values.x }}\n" + GOOD + "{{- end }}\n", id="a Helm template"),
            pytest.param(
                GOOD.replace("falcon\n", "{{ .Values.name }}\n"), id="a template that YAML can't take"
            ),
            pytest.param(named('"{{ .Release.Name }}"'), id="a template in quotes"),
            pytest.param(GOOD.replace("Workspace", "InferenceSet"), id="another kind of KAITO"),
            pytest.param("kind: CustomResourceDefinition\nspec: {group: kaito.sh}\n", id="a CRD"),
            pytest.param(
                "apiVersion: kaito.sh/v1beta1\nkind: WorkspaceList\nitems: []\n", id="an empty list"
            ),
            pytest.param("", id="an empty file"),
            pytest.param("# kaito.sh\n", id="only a comment"),
            pytest.param(b"\xff\xfe\x00 not kaito", id="a binary file"),
            pytest.param(b"\xff kaito.sh", id="bytes that mention us"),
        ],
    )
    def test_nothing_is_said_of(self, text: str | bytes) -> None:
        assert one(text) == specs.Source("a.yaml")

    def test_a_broken_document_hides_no_other(self) -> None:
        source = one(f"a: [\n---\n{GOOD}---\n{{{{ template }}}}\n---\n{OTHER}")
        assert names([source]) == ["falcon"]
        assert source.problems == ()


class TestOursAreRead:
    @pytest.mark.parametrize(
        ("text", "place"),
        [
            pytest.param(GOOD, (9, 5), id="plain"),
            pytest.param("# first\n" + GOOD, (10, 5), id="after a comment"),
            pytest.param("---\n" + GOOD + "...\n", (10, 5), id="between markers"),
            pytest.param(OTHER + "--- # next\n" + GOOD, (14, 5), id="as the second document"),
            pytest.param("%YAML 1.1\n---\n" + GOOD, (11, 5), id="after a directive"),
            pytest.param(GOOD.replace("\n", "\r\n"), (9, 5), id="with CRLF"),
            pytest.param(GOOD.replace("\n", "\r"), (9, 5), id="with CR"),
            pytest.param("\ufeff" + GOOD, (9, 5), id="with a byte order mark"),
            pytest.param(
                "apiVersion: v1\nkind: List\nitems:\n- a\n- " + GOOD.replace("\n", "\n  "),
                (13, 7),
                id="in a List",
            ),
            pytest.param(
                "x: &p {name: falcon-7b}\n" + GOOD.replace("\n    name: falcon-7b", " *p"),
                (1, 8),
                id="by an alias",
            ),
            pytest.param(
                "x: &p {name: falcon-7b}\n" + GOOD.replace("    name: falcon-7b", "    <<: *p"),
                (1, 8),
                id="by a merge",
            ),
        ],
    )
    def test_with_the_place_of_every_field(self, text: str, place: tuple[int, int]) -> None:
        source = one(text)
        assert source.problems == ()
        (document,) = source.documents
        assert document.data["inference"]["preset"]["name"] == "falcon-7b"
        assert document.position(("inference", "preset", "name")) == place

    def test_json_with_tabs_and_surrogates(self) -> None:
        data = {
            "apiVersion": "kaito.sh/v1beta1",
            "kind": "Workspace",
            "metadata": {"name": "a", "annotations": {"x": "😀"}},
        }
        for text in (json.dumps(data), json.dumps(data, indent="\t")):
            (document,) = one(text).documents
            assert document.data == data

    def test_a_field_that_is_not_there_has_the_place_around_it(self) -> None:
        (document,) = one(GOOD).documents
        assert document.position(("resource", "count")) == (5, 1)
        assert document.position(("nothing", "at", "all")) == (1, 1)

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param(GOOD.replace("kind: Workspace\n", ""), id="without a kind"),
            pytest.param(GOOD.replace("Workspace", "workspace"), id="a kind in lower case"),
            pytest.param(GOOD.replace("Workspace", "Workspaces"), id="a kind in the plural"),
            pytest.param(GOOD.replace("v1alpha1", "v2"), id="an unknown version"),
            pytest.param(GOOD.replace("apiVersion", "apiversion"), id="a misspelt apiVersion"),
        ],
    )
    def test_what_claims_to_be_ours_is_read_and_refused(self, text: str) -> None:
        (document,) = one(text).documents
        assert not workspaces.read(document.data).valid

    @pytest.mark.parametrize(
        ("written", "value"),
        [
            ("010", 8), ("0o10", 8), ("0x1F", 31), ("0b11", 3), ("1_000", 1000), ("1e3", 1000), ("2.0", 2),
            ("1.5", 1.5), ("08", 8), ("-3", -3), ("+3", 3), ("yes", True), ("off", False), ("~", None),
            ("", None),
            ("2024-01-01", "2024-01-01"), ("1:30", "1:30"), ("0.1.0", "0.1.0"), ("1e", "1e"), ("'3'", "3"),
            ("!!str 3", "3"), ("!!int '3'", 3), ("9" * 500, "9" * 500), ("=", "="), ("1e400", "1e400"),
        ],
    )  # fmt: skip
    def test_scalars_are_what_kubectl_makes_of_them(self, written: str, value: Any) -> None:
        (document,) = one(f"{GOOD}x: {written}\n").documents
        found = document.data["x"]
        assert found == value
        assert type(found) is type(value)


class TestUnreadable:
    @pytest.mark.parametrize(
        ("text", "reason", "line"),
        [
            pytest.param(
                GOOD + "x: [\n", "this is no YAML: did not find expected node content", 11, id="broken YAML"
            ),
            pytest.param(
                OTHER + "---\n" + GOOD + "a: b: c\n",
                "this is no YAML: mapping values are not allowed in this context",
                15,
                id="a broken second document",
            ),
            pytest.param(
                GOOD + "\tx: 1\n",
                "a tab stands where YAML takes spaces alone",
                10,
                id="a tab",
            ),
            pytest.param(
                "# größer 😀\n" + GOOD.replace("  instanceType", "\tinstanceType"),
                "a tab stands where YAML takes spaces alone",
                7,
                id="a tab after letters of several bytes",
            ),
            pytest.param(
                GOOD + "x: *y\n", "this is no YAML: found undefined alias", 10, id="an unknown alias"
            ),
            pytest.param(
                GOOD + "x: \x01\n",
                "the character U+0001 is not allowed in YAML",
                10,
                id="a control character",
            ),
            pytest.param(
                GOOD + "x: !!python/object:os.system y\n",
                "the tag `!!python/object:os.system` is not allowed",
                10,
                id="a tag of Python's",
            ),
            pytest.param(GOOD + "? [a]\n: b\n", "a key is a mapping or a list", 10, id="a list as a key"),
            pytest.param(
                GOOD.encode() + b"x: \xff\n", "the file is not UTF-8: byte 0xff", 10, id="not UTF-8"
            ),
            pytest.param(GOOD.encode("utf-16"), "the file is UTF-16", 1, id="UTF-16"),
            pytest.param(GOOD.encode("utf-16-be"), "the file is UTF-16", 1, id="UTF-16 without a mark"),
            pytest.param(
                GOOD + "x: " + "[" * 200 + "]" * 200 + "\n",
                "the document is nested more than 100 levels deep",
                10,
                id="deep",
            ),
            pytest.param(
                GOOD + "x: " + "[" * 100_000,
                "this is no YAML: exceeded maximum nesting depth",
                10,
                id="very deep",
            ),
            pytest.param(
                GOOD + "x: &x [*x]\n",
                "the document is nested more than 100 levels deep",
                10,
                id="an alias to itself",
            ),
        ],
    )
    def test_is_told_at_its_place(self, text: str | bytes, reason: str, line: int) -> None:
        source = one(text)
        assert source.documents == ()
        assert only(source)[:2] == (reason, line)

    def test_a_repeated_key_names_both_places(self) -> None:
        source = one("# comment\n" + GOOD.replace("resource:\n", "resource:\n  instanceType: x\n"))
        assert only(source) == ("the key `instanceType` stands twice; the first is in line 7", 8, 3)
        assert len(source.documents) == 1

    def test_a_workspace_in_two_files_names_the_other(self, tmp_path: Path) -> None:
        sources = load(
            tmp_path,
            a=GOOD,
            b=GOOD.replace("7b", "40b"),
            c=GOOD.replace("name: falcon\n", "name: falcon\n  namespace: x\n"),
        )
        assert [len(source.problems) for source in sources] == [0, 1, 0]
        (found,) = sources[1].problems
        assert found.problem.reason == f"the Workspace `falcon` already stands in {tmp_path}/a.yaml:4"
        assert (found.line, found.column, found.problem.severity) == (4, 3, "warning")
