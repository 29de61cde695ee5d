"""Reports as JUnit XML: a suite a bundle, a test case a gate.

    met           passes
    not met       fails, with what was found and demanded
    not decided   fails, or is skipped where --allow-undecided was given
    no gates      one test case, that the pictures were drawn
Values of all rows are the suite's properties. Source of the form: the schema that Jenkins' JUnit plugin and GitLab read.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from sprint_export.nouns.bundle import Bundle
from sprint_export.nouns.report import Measurement, Report
from sprint_export.streams import clean_text
from sprint_export.validate.report import format_number, format_range


def format_junit(results: Sequence[Report | Bundle], allow_undecided: bool = False) -> str:
    """The text of a JUnit file.

    Args:
        results: reports, and bundles that were not validated, which are skipped.
        allow_undecided: gates that are not decided are skipped, not failed.
    """
    root = ET.Element("testsuites", name="sprint-export")
    for each in results:
        root.append(_make_skipped(each) if isinstance(each, Bundle) else _make_suite(each, allow_undecided))
    for name in ("tests", "failures", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _make_suite(report: Report, allow_undecided: bool) -> ET.Element:
    suite = ET.Element("testsuite", name=_clean(report.target), time=f"{report.seconds:g}")
    properties = ET.SubElement(suite, "properties")
    for name, value in [("bundle", report.bundle), ("runtime", report.runtime), ("machine", report.machine)]:
        ET.SubElement(properties, "property", name=name, value=_clean(value))
    for row in report.rows:
        ET.SubElement(properties, "property", name=_clean(name_row(row)), value=_clean(f"{row.value:.6g} {row.unit}".rstrip()))
    gated = [row for row in report.rows if row.verdict is not None]
    for row in gated:
        _add_case(suite, report, row, allow_undecided)
    if not gated:
        ET.SubElement(suite, "testcase", classname=_clean(report.target), name=f"{report.prompts} drawn, no gates")
    return _count(suite)


def _add_case(suite: ET.Element, report: Report, row: Measurement, allow_undecided: bool) -> None:
    owner = ".".join(filter(None, (report.target, row.component)))
    case = ET.SubElement(suite, "testcase", classname=_clean(owner), name=_clean(row.limit or row.metric))
    said = describe_gate(row)
    if row.verdict == "not met" or (row.verdict == "not decided" and not allow_undecided):
        ET.SubElement(case, "failure", type=str(row.verdict), message=_clean(said)).text = _clean(row.note)
    elif row.verdict == "not decided":
        ET.SubElement(case, "skipped", message=_clean(said))


def _make_skipped(bundle: Bundle) -> ET.Element:
    name = _clean(f"{bundle.target}-{bundle.precision}")
    suite = ET.Element("testsuite", name=name)
    case = ET.SubElement(suite, "testcase", classname=name, name="validation")
    ET.SubElement(case, "skipped", message=_clean(f"{bundle.folder} was not validated"))
    return _count(suite)


def _count(suite: ET.Element) -> ET.Element:
    for name, path in (("tests", "testcase"), ("failures", "testcase/failure"), ("skipped", "testcase/skipped")):
        suite.set(name, str(len(suite.findall(path))))
    return suite


def name_row(row: Measurement) -> str:
    """The metric, and the network it is of."""
    return f"{row.metric} of {row.component}" if row.component else row.metric


def describe_gate(row: Measurement) -> str:
    """What was found and what was demanded."""
    sure = f" ({format_range(row)} at 95 %)" if row.interval else ""
    return f"{row.verdict}: {name_row(row)} is {format_number(row.value)} {row.unit}".rstrip() + f"{sure}, demanded {row.limit}"


def _clean(text: str) -> str:
    """Without what XML 1.0 cannot hold: control characters as escapes, what is no character at all as a question mark."""
    kept = "".join(letter if letter in "\n\t" or ord(letter) >= 0x20 else clean_text(letter) for letter in text)
    return "".join("?" if 0xD800 <= ord(letter) <= 0xDFFF or letter in "\ufffe\uffff" else letter for letter in kept)
