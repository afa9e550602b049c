"""requirements.lock: what pyproject.toml asks for, one version each, by its hash."""

import re
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML by itself")
ROOT = Path(__file__).parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def locked():
    """(requirement, number of hashes) of every entry."""
    text = (ROOT / "requirements.lock").read_text().replace("\\\n", " ")
    return [
        (Requirement(line.split("--hash")[0]), len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", line)))
        for line in text.splitlines()
    ]


def asked():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [Requirement(r) for r in [*project["dependencies"], *extras["dev"], *extras["bench"], *extras["triton"]]]
    return [r for r in wanted if r.name != project["name"]]


def applies(requirement, python):
    environment = default_environment() | {"python_version": python, "python_full_version": f"{python}.0"}
    return requirement.marker is None or requirement.marker.evaluate(environment | {"extra": ""})


def test_every_entry_is_one_version_with_a_hash():
    for requirement, hashes in locked():
        assert [s.operator for s in requirement.specifier] == ["=="] and hashes, requirement


def test_the_lock_holds_exactly_one_version_of_all_that_is_asked_for_on_every_python():
    entries = [requirement for requirement, _ in locked()]
    for python in PYTHONS:
        for wanted in (r for r in asked() if applies(r, python)):
            found = [e for e in entries if e.name.lower() == wanted.name.lower() and applies(e, python)]
            assert len(found) == 1, (python, str(wanted), found)
            version = next(iter(found[0].specifier)).version
            assert wanted.specifier.contains(version, prereleases=True), (python, str(wanted), version)
