"""The shell lines of the GitHub workflows: run here where that takes seconds, else they name what there is."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from benchopt.results import save_results
from helpers import ROOT, commit_all, copied_benchmark, git
from test_plots import image_rows

from benchmark_utils.__main__ import parse

WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github" / "workflows").glob("*.yml")}
STEPS = [
    (name, step)
    for name, workflow in WORKFLOWS.items()
    for job in workflow["jobs"].values()
    for step in job.get("steps", [])
]
PYTHON = """#!/bin/bash
echo "$@" >> calls.txt
case "$4" in solvers/wrong.py) exit 1;; esac
case "$3" in run) mkdir -p outputs; touch outputs/submission.parquet;; esac
case "$3" in table) echo "a table";; report) touch outputs/submission_report.html;; esac
"""
GH = """#!/bin/bash
echo "$@" >> calls.txt
case "$1" in api) echo "$NUMBER";; pr) cp comment.md commented.md;; esac
"""


def run_step(workflow, name, folder, **environment):
    """Run the shell lines of a step as GitHub does; returns (exit code, output)."""
    (step,) = [step for known, step in STEPS if known == workflow and name in (step.get("name"), step.get("run"))]
    known = {"PATH": f"{folder}:{os.environ['PATH']}", "GITHUB_OUTPUT": str(folder / "github_output")}
    done = subprocess.run(
        ["bash", "-e", "-c", step["run"]],
        cwd=folder,
        env=os.environ | known | environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def write_script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.parametrize("name, step", STEPS, ids=lambda value: value if isinstance(value, str) else None)
def test_steps_name_commands_targets_and_files_that_exist(name, step):
    text = step.get("run", "")
    for line in re.findall(r"python -m benchmark_utils ([^|<>\n]+)", text):
        options, rest, _ = parse([word for word in shlex.split(line) if "$" not in word or "solver" in word])
        assert options.command in line and (not rest or options.command == "run")
    for target in re.findall(r"^make (\S+)$", text, re.MULTILINE):
        assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for path in re.findall(r"(?:configs|results|scripts)/[\w./]*", text):
        assert (ROOT / path).exists(), path


def test_untrusted_code_has_no_rights_and_untrusted_text_runs_no_code():
    run, comment = WORKFLOWS["submission"], WORKFLOWS["submission-comment"]
    assert set(run[True]) == {"pull_request"} and run["permissions"] == {"contents": "read"}  # YAML reads "on" as true
    assert set(comment[True]) == {"workflow_run"} and comment[True]["workflow_run"]["workflows"] == [run["name"]]
    assert comment["permissions"] == {"actions": "read", "pull-requests": "write"}
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        assert "secrets." not in path.read_text()
    for name, step in STEPS:
        if name != "main":  # where it is the matrix of that file
            assert "${{" not in step.get("run", ""), "an expression in shell lines can be another command"
        assert not (name == "submission-comment" and "checkout" in step.get("uses", ""))
        if "checkout" in step.get("uses", "") and name != "main":
            assert step["with"]["persist-credentials"] is False


def test_submission_runs_the_solvers_that_a_pull_request_adds_or_changes(tmp_path):
    (tmp_path / "solvers").mkdir()
    for name in ("old", "gone", "wrong"):
        (tmp_path / "solvers" / f"{name}.py").write_text(name)
    commit_all(tmp_path)
    base = git(tmp_path, "branch", "--show-current")
    git(tmp_path, "checkout", "-b", "contribution")
    (tmp_path / "solvers" / "gone.py").unlink()
    (tmp_path / "solvers" / "neuer Löser.py").write_text("new")
    (tmp_path / "solvers" / "wrong.py").write_text("changed")
    (tmp_path / "other.py").write_text("other")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--message", "contribution")
    assert run_step("submission", "Which solvers are new or changed", tmp_path, BASE=base)[0] == 0
    assert (tmp_path / "submission" / "solvers.txt").read_text() == "solvers/neuer Löser.py\nsolvers/wrong.py\n"
    assert (tmp_path / "github_output").read_text() == "n=2\n"
    write_script(tmp_path / ".venv" / "bin" / "python", PYTHON)
    names = ("Check them", "Run them on the closed forms and on two faces", "Show them beside the reference rows")
    for name in names:
        code, output = run_step("submission", name, tmp_path)
        assert code == 0, output
    assert (tmp_path / "calls.txt").read_text().splitlines() == [
        "-m benchmark_utils check solvers/neuer Löser.py",
        "-m benchmark_utils check solvers/wrong.py",
        "-m benchmark_utils run --config configs/submission.yml --allow-failures -s solvers/neuer Löser.py "
        "-s solvers/wrong.py",
        "-m benchmark_utils table outputs/submission.parquet --beside results/",
        "-m benchmark_utils report outputs/submission.parquet --beside results/",
    ]
    assert (tmp_path / "submission" / "table.txt").read_text() == "a table\n"
    assert (tmp_path / "submission" / "submission_report.html").exists()
    assert run_step("submission", "Fail if a check failed", tmp_path)[0] == 1  # that of wrong.py
    (tmp_path / "submission" / "failed.txt").unlink()
    assert run_step("submission", "Fail if a check failed", tmp_path)[0] == 0


HOSTILE = "1 mgdm 0.1 ± 0.2 ↓\n```\n<img src=x onerror=alert(1)> @everybody `code` \x1b[31m\u202e$(touch hacked)\n"


def test_comment_shows_hostile_text_as_text(tmp_path):
    folder = tmp_path / "submission"
    folder.mkdir()
    (folder / "table.txt").write_text(HOSTILE + "x" * 100_000, encoding="utf-8")
    (folder / "checks.txt").symlink_to("/etc/passwd")
    code, output = run_step("submission-comment", "Make text of it", tmp_path)
    assert code == 0, output
    text = (tmp_path / "comment.md").read_text(encoding="utf-8")
    _, block, after = re.split(r"^```(?:text)?$", text, flags=re.MULTILINE)
    assert "1 mgdm 0.1 ± 0.2 ↓\n'''\n<img" in block and not after.strip()
    assert "\x1b" not in text and "\u202e" not in text and "root:" not in text and len(text) < 21_000
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("number", ["7", ""])
def test_comment_goes_to_the_pull_request_of_that_commit(number, tmp_path):
    write_script(tmp_path / "gh", GH)
    (tmp_path / "comment.md").write_text("text")
    facts = {"REPOSITORY": "org/bench", "OWNER": "somebody", "BRANCH": "a$(touch hacked)", "COMMIT": "0" * 40}
    code, output = run_step(
        "submission-comment", "Find the pull request and comment", tmp_path, NUMBER=number, GH_TOKEN="t", **facts
    )
    assert code == 0, output
    calls = (tmp_path / "calls.txt").read_text()
    assert "head=somebody:a$(touch hacked)" in calls and not (tmp_path / "hacked").exists()
    assert (tmp_path / "commented.md").exists() == bool(number)
    assert ("pr comment 7 --repo org/bench" in calls) == bool(number)
    assert ("--edit-last --create-if-none" in calls) == bool(number)  # one comment, however many pushes


def test_a_missing_artifact_or_missing_rows_end_early():
    download, *others = WORKFLOWS["submission-comment"]["jobs"]["comment"]["steps"]
    assert download["continue-on-error"] and len(others) == 2
    assert {step["if"] for step in others} == {f"steps.{download['id']}.outcome == 'success'"}
    build, deploy = (WORKFLOWS["site"]["jobs"][name] for name in ("build", "deploy"))
    *_, site, upload = build["steps"]
    assert site["if"] == "hashFiles('results/*.parquet') != ''" and upload["if"] == "steps.site.outcome == 'success'"
    assert build["outputs"]["site"] == "${{ steps.site.outcome }}"
    assert deploy["if"] == "needs.build.outputs.site == 'success'"


def test_site_step_builds_the_site(tmp_path):
    folder = copied_benchmark(tmp_path / "bench")
    (folder / ".venv").symlink_to(Path(sys.prefix))
    for path in (folder / "results").glob("*.parquet"):
        path.unlink()
    save_results(pd.DataFrame(image_rows()).assign(run_date="2026-01-01"), folder / "results" / "rows.parquet")
    (command,) = [step["run"] for name, step in STEPS if name == "site" and "benchmark_utils" in step.get("run", "")]
    code, output = run_step("site", command, folder)
    assert code == 0, output
    assert (folder / "site" / "index.html").exists() and output.strip().endswith("index.html")
