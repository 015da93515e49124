"""The demo's first half: a git repository with two Workspaces, from specs to reviewed manifests."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from tools.demo_steps import ROOT, environment

if TYPE_CHECKING:
    from pathlib import Path

    from tools.demo_steps import Steps

SMALL = """\
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata:
  name: small
resource:                      # no instance type: the cheapest that fits is taken
  labelSelector:
    matchLabels: {apps: small}
inference:
  preset: {name: smollm2-135m-instruct}
  llamacpp: {quantization: Q4_1}
"""
TOO_SMALL = """\
apiVersion: kaito.sh/v1beta1
kind: Workspace
metadata:
  name: assistant
resource:
  instanceType: Standard_NC6s_v3
  labelSelector:
    matchLabels: {apps: assistant}
inference:
  preset: {name: falcon-40b}
"""
MISSPELT = TOO_SMALL.replace("instanceType", "instancetype").replace("falcon-40b", "falcon-40bb")
FITS = "Standard_NC24ads_A100_v4"


def run(steps: Steps) -> None:
    """Make the repository; check, plan, render and commit what is in it."""
    _prepare(steps.folder)
    steps.title("A git repository with two short specs: KAITO's quick start and a small real model")
    steps.command("cat workspaces/small.yaml")
    steps.say(SMALL.rstrip())
    steps.title("Every problem is found in one run, each with its fix")
    (steps.folder / "broken.yaml").write_text(f"{MISSPELT}---\n{TOO_SMALL.replace('assistant', 'second')}")
    steps.run(["berth", "check", "broken.yaml"], expected=1)
    (steps.folder / "broken.yaml").unlink()
    steps.run(["berth", "check", "workspaces"])
    steps.title("What each of them needs, and what it costs")
    steps.run(["berth", "plan", "workspaces"])
    steps.title("The memory of a model at your own settings, itemised for each GPU")
    settings = ["--context", "32768", "--parallel", "4", "--gpus", "2", "--gpu", "A10"]
    steps.run(["berth", "size", "llama-3.1-8b-instruct", *settings])
    steps.title("Manifests to review, and a commit: this is what Argo CD or Flux would sync")
    steps.run(["berth", "render", "workspaces", "--out", "rendered"])
    steps.run(["git", "add", "workspaces", "rendered"])
    steps.run(["git", "commit", "--quiet", "-m", "Two models"])
    steps.run(["git", "show", "--stat=90", "--format=%h %s"])
    steps.title("A change is a commit as well, and a pull request says what it takes")
    change = 's/name: "falcon-7b"/name: "llama-2-13b"/'
    steps.run(["sed", "-i", change, "workspaces/quick-start.yaml"])
    steps.run(["berth", "plan", "workspaces", "--since", "HEAD"])
    steps.run(["berth", "render", "workspaces", "--out", "rendered"])
    steps.run(["berth", "verify", "rendered"])
    steps.run(["git", "commit", "--quiet", "--all", "-m", "A larger model"])


def _prepare(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "workspaces").mkdir(parents=True)
    quick = (ROOT / "examples" / "fleet" / "workspaces" / "workspace-falcon-7b.yaml").read_text()
    (folder / "workspaces" / "quick-start.yaml").write_text(quick)
    (folder / "workspaces" / "small.yaml").write_text(SMALL)
    subprocess.run(["git", "init", "--quiet", "-b", "main"], cwd=folder, env=environment(), check=True)
