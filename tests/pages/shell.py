"""Runs the commands of a page: what can run here runs, what needs a cluster or a cloud is read closely."""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.pages.blocks import ROOT, Command
from tests.pages.judging import problems

BIN = Path(sys.executable).parent
RUN = {
    "berth", "git", "cd", "mkdir", "cp", "mv", "cat", "sed", "echo", "printf", "grep", "export", "ls", "rm",
    "sort",
}  # fmt: skip
"""Run as written; `git push`, `clone` and `pull` need another machine."""
ELSEWHERE = {
    "argocd": "an Argo CD", "flux": "a Flux", "helm": "a cluster", "curl": "a server", 
    "less": "a terminal", "az": "an Azure account", "aws": "an AWS account", "eksctl": "an AWS account",
    "gcloud": "a Google account",
    "skopeo": "a registry", "oras": "a registry", "crane": "a registry", "cosign": "a published image",
    "docker": "a daemon", "buildah": "root and a base image", "podman": "root and a base image",
    "debootstrap": "root", "tar": "what debootstrap made", "hf": "the hub", "jq": "a program of others",
}  # fmt: skip
"""Programs that are only read, and what they would need."""
KUBECTL = {
    "annotate", "apply", "auth", "create", "delete", "describe", "diff", "edit", "events", "exec", "explain",
    "get", "kustomize", "label", "logs", "port-forward", "rollout", "scale", "top", "wait",
}  # fmt: skip


@dataclass
class Shell:
    """One page's folder, where its commands run one after another."""

    folder: Path
    wrong: list[str] = field(default_factory=list)

    def run(self, command: Command) -> None:
        """Run or read one command line; what is wrong with it goes to `wrong`."""
        try:
            parts = split(command.text)
        except ValueError as unreadable:
            self._say(command, str(unreadable))
            return
        real = next((place for place, part in enumerate(parts) if not _runs(part.words)), len(parts))
        if real == len(parts):
            self._compare(command, self.bash(command.text, command.code))
            return
        kept = "".join(f"{part.text} {part.joint} " for part in parts[:real]).rstrip(" |&;")
        output = self.bash(kept, 0).stdout if kept else ""
        for part in parts[real:]:
            for problem in self._read(part.words, output):
                self._say(command, problem)

    def bash(self, text: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run it here with real programs; the folder that it ends in is the next command's."""
        place = self.folder / ".place"
        done = subprocess.run(
            ["bash", "-c", f"set -eo pipefail\ntrap 'pwd > {shlex.quote(str(place))}' EXIT\n{text}"],
            cwd=self.folder, env=environment(), capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if place.exists():
            ended = Path(place.read_text().strip())
            place.unlink()
            self.folder = ended
        if done.returncode != code:
            self.wrong.append(
                f"`{text}` ended with {done.returncode}, not {code}:\n{done.stdout}{done.stderr}"
            )
        return done

    def _compare(self, command: Command, done: subprocess.CompletedProcess[str]) -> None:
        if command.output is None or done.returncode != command.code:
            return
        shown = ".*".join(re.escape(" ".join(part.split())) for part in command.output.split("…"))
        said = [" ".join(text.split()) for text in (done.stdout, done.stdout + done.stderr, done.stderr)]
        if not any(re.fullmatch(shown, text) for text in said):
            self._say(command, f"prints something else:\n{done.stdout}{done.stderr}")

    def _say(self, command: Command, problem: str) -> None:
        self.wrong.append(f"line {command.line}: `{command.text}`: {problem}")

    def _read(self, words: list[str], piped: str) -> list[str]:
        program, *arguments = words
        if program in ("make", "kubectl") or program.endswith("python"):
            reader = {"make": _make, "kubectl": self._kubectl}.get(program, _python)
            return reader(arguments, piped)
        if program == "berth":
            return _flags(("berth", *arguments[:1]), arguments)
        if Path(program).name in ELSEWHERE or program in ("git", "cd"):
            return []
        if Path(program).name == "pytest":
            return [
                f"no file {name}"
                for name in arguments
                if name.startswith("tests/") and not (ROOT / name).exists()
            ]
        return [f"`{program}` is neither run nor listed as one that runs elsewhere"]

    def _kubectl(self, arguments: list[str], piped: str) -> list[str]:
        words = _without_values(arguments, ("-n", "--namespace", "--context"))
        if not words or words[0] not in KUBECTL:
            return [f"kubectl knows no `{' '.join(words[:1])}`"]
        found = _unknown_flags(tuple(words))
        for flag, value in zip(words, [*words[1:], ""], strict=True):
            if flag in ("-f", "--filename") and value == "-":
                found += problems(piped, self.folder) if piped else ["nothing is piped into it"]
            elif flag in ("-f", "--filename") and words[0] != "logs" and not value.startswith("https://"):
                found += self._there(self.folder / value)
            elif flag in ("-k", "--kustomize"):
                found += self._there(self.folder / value / "kustomization.yaml")
        return found

    def _there(self, path: Path) -> list[str]:
        if not path.exists():
            return [f"there is no {path.name} at this point of the page"]
        files = sorted(path.rglob("*.yaml")) if path.is_dir() else [path]
        return [] if files else [f"{path.name} holds no YAML"]


@dataclass(frozen=True)
class Part:
    """One simple command of a line, and what joins it to the next."""

    words: list[str]
    text: str
    joint: str


def split(text: str) -> list[Part]:
    """Split a line into simple commands; words hold no assignments before a command and no redirections."""
    found: list[Part] = []
    text = re.sub(r"""\s#\s(?=(?:[^'"]|'[^']*'|"[^"]*")*$).*""", "", text)
    for piece in re.split(r"(?<!\\)(\|\||&&|;|\|)(?=(?:[^'\"]|'[^']*'|\"[^\"]*\")*$)", text):
        if piece.strip() in ("||", "&&", ";", "|"):
            found[-1] = Part(found[-1].words, found[-1].text, piece.strip())
            continue
        words = shlex.split(piece, comments=True)
        while words and re.fullmatch(r"[A-Za-z_]\w*=.*", words[0]):
            words = words[1:]
        words = [word for word in words if word != "&"]
        for place, word in enumerate(words):
            if re.fullmatch(r"\d?>>?|<", word):
                words = words[:place]
                break
        if words:
            found.append(Part(words, piece.strip(), ""))
    return found


def environment() -> dict[str, str]:
    """Return ours without colours and widths, with berth on the path and an author for commits."""
    plain = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "FORCE_COLOR")}
    author = {
        f"GIT_{role}_{what}": value
        for role in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "test"), ("EMAIL", "test@example.com"))
    }
    return {
        **plain, **author, "PATH": f"{BIN}:{plain['PATH']}", "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }  # fmt: skip


def _runs(words: list[str]) -> bool:
    if words[0] == "berth" and any(
        re.match("docker://|--cluster|--kubeconfig|--context|--remove", word) for word in words[1:]
    ):
        return False
    if words[:2] == ["berth", "doctor"] and "--no-cluster" not in words:
        return False
    return words[0] in RUN and words[:2] not in (["git", "push"], ["git", "clone"], ["git", "pull"])


def _make(arguments: list[str], piped: str) -> list[str]:
    makefile = (ROOT / "Makefile").read_text()
    targets = [word for word in arguments if not word.startswith("-") and "=" not in word]
    return [f"no target {name}" for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)]


def _python(arguments: list[str], piped: str) -> list[str]:
    if arguments[:1] != ["-m"]:
        return [] if (ROOT / arguments[0]).is_file() else [f"there is no {arguments[0]}"]
    if arguments[1] in ("venv", "pip"):
        return []
    module, *rest = arguments[1:]
    command = [word for word in rest[:1] if re.fullmatch("[a-z]+", word)]
    return _flags((sys.executable, "-m", module, *command), rest)


def _flags(command: tuple[str, ...], words: list[str]) -> list[str]:
    """Flags that the program's own help does not know."""
    text = _help((*command, "--help"))
    own = words[: words.index("--")] if "--" in words else words
    flags = [word.partition("=")[0] for word in own if word.startswith("--")]
    return [f"`{' '.join(command)}` knows no {flag}" for flag in flags if not re.search(rf"{flag}\b", text)]


@functools.cache
def _help(command: tuple[str, ...]) -> str:
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def _without_values(words: list[str], flags: tuple[str, ...]) -> list[str]:
    kept, skip = [], False
    for word in words:
        if not skip and word not in flags:
            kept.append(word)
        skip = word in flags
    return kept


def _unknown_flags(words: tuple[str, ...]) -> list[str]:
    """Flags that the real kubectl does not know; nothing where there is none."""
    kubectl = shutil.which("kubectl", path=f"{os.environ['PATH']}:/usr/local/kubebuilder/bin")
    if kubectl is None:
        return []
    verbs = words[:2] if words[0] in ("create", "rollout", "auth") and len(words) > 1 else words[:1]
    verbs = words[:3] if words[:2] == ("create", "secret") else verbs
    text = _help((kubectl, *verbs, "--help")) + _help((kubectl, "options"))
    own = words[: words.index("--")] if "--" in words else words
    flags = {word.partition("=")[0] for word in own if word.startswith("-") and word != "-"}
    return [
        f"kubectl {' '.join(verbs)} knows no {flag}"
        for flag in sorted(flags)
        if not re.search(rf"(^|\s){re.escape(flag)}[,=:\s]", text)
    ]
