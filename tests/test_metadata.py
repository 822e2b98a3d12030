"""The files around the package: the citation, the version, the pinned set."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from mirrorgen._version import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# Citation File Format 1.2.0: what a file must have, and the top-level keys that it may have.
CFF_REQUIRED = {"cff-version", "message", "title", "authors"}
CFF_KEYS = CFF_REQUIRED | {
    *("abstract", "commit", "contact", "date-released", "doi", "identifiers", "keywords", "license"),
    *("license-url", "preferred-citation", "references", "repository", "repository-artifact"),
    *("repository-code", "type", "url", "version"),
}
CFF_PERSON = {
    *("address", "affiliation", "alias", "city", "country", "email", "family-names", "fax", "given-names"),
    *("name-particle", "name-suffix", "orcid", "post-code", "region", "tel", "website"),
}
CFF_ENTITY = {
    *("address", "alias", "city", "country", "date-end", "date-start", "email", "fax", "location", "name"),
    *("orcid", "post-code", "region", "tel", "website"),
}


def cff_problems(citation: dict) -> list[str]:
    """What keeps `citation` from being a Citation File Format 1.2.0 file; empty when it is one."""
    problems = [f"missing: {key}" for key in CFF_REQUIRED - citation.keys()]
    problems += [f"unknown: {key}" for key in citation.keys() - CFF_KEYS]
    if citation.get("cff-version") != "1.2.0":
        problems.append("cff-version is not 1.2.0")
    if citation.get("type", "software") not in {"software", "dataset"}:
        problems.append("type is neither software nor dataset")
    problems += [
        f"{key} is not a non-empty string"
        for key in ("message", "title", "abstract", "license", "version")
        if key in citation and not (isinstance(citation[key], str) and citation[key])
    ]
    for key in ("authors", "keywords"):
        items = citation.get(key, ["unique"])
        if not isinstance(items, list) or not items or any(items.count(item) > 1 for item in items):
            problems.append(f"{key} is not a non-empty list of unique items")
    for author in citation.get("authors", []):
        allowed = CFF_ENTITY if "name" in author else CFF_PERSON
        if not author.keys() or author.keys() - allowed:
            problems.append(f"author {author} is neither a person nor an entity")
    return problems


def read_citation() -> dict:
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_citation_is_valid() -> None:
    assert cff_problems(read_citation()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"cff-version": "1.1.0"},
        {"authors": []},
        {"authors": [{"name": "a", "affiliation": "b"}]},
        {"titel": "a misspelling"},
        {"type": "article"},
        {"version": 0.1},
        {"keywords": ["a", "a"]},
    ],
)
def test_citation_check_can_fail(change: dict) -> None:
    assert len(cff_problems(read_citation() | change)) == 1


def test_citation_check_misses_no_required_key() -> None:
    for key in CFF_REQUIRED:
        citation = read_citation()
        del citation[key]
        assert cff_problems(citation)


def test_version_is_stated_once() -> None:
    assert "version" in PROJECT["dynamic"]
    assert str(read_citation()["version"]) == __version__
    assert re.search(rf"^## .*{re.escape(__version__)}", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)


def test_constraints_pin_exact_public_versions() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", pin) for pin in pins)
    assert "torch==2.13.0" in pins
    names = {re.sub(r"[-_.]+", "-", pin.split("==")[0]).lower() for pin in pins}
    direct = {re.match(r"[A-Za-z0-9-]+", entry)[0].lower() for entry in PROJECT["dependencies"]}
    assert direct <= names
