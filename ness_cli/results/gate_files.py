"""Verdicts of gates in the forms that CI services read: JUnit XML and annotations of GitHub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from ness_cli.files import write_bytes
from ness_cli.results.gates import Verdict
from ness_cli.words import printable

_TITLE = "ness report"


def write_junit(verdicts: Sequence[Verdict], path: Path) -> None:
    """Write verdicts as JUnit XML, a test case each.

    Services follow a case by its name, which therefore has nothing measured in it.

    Raises:
        OSError: If the system refuses.
    """
    counts = {"tests": str(len(verdicts)), "failures": str(_num_failed(verdicts)), "errors": "0"}
    root = ElementTree.Element("testsuites", {"name": _TITLE, **counts})
    suite = ElementTree.SubElement(root, "testsuite", {"name": _TITLE, **counts})
    for each in verdicts:
        names = {"classname": printable(each.subject), "name": printable(each.name)}
        case = ElementTree.SubElement(suite, "testcase", names)
        if each.passed:
            ElementTree.SubElement(case, "system-out").text = printable(each.message)
        else:
            ElementTree.SubElement(case, "failure", {"message": printable(each.message)})
    ElementTree.indent(root)
    write_bytes(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")


def github_annotations(verdicts: Sequence[Verdict]) -> list[str]:
    """Return the lines that GitHub shows beside a workflow: an error for every failed gate."""
    failed = [each for each in verdicts if not each.passed]
    if not failed:
        return [f"::notice title={_TITLE}::{len(verdicts)} of {len(verdicts)} gates passed"]
    return [f"::error title={_property(each.subject)}::{_data(str(each))}" for each in failed]


def _num_failed(verdicts: Sequence[Verdict]) -> int:
    return sum(not each.passed for each in verdicts)


def _data(text: str) -> str:
    """Escape a message as GitHub unescapes it."""
    return printable(text).replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
