"""Each fault is found and told with its remedy, and no other is; the docs list them all."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from pyswiftops.preflight.finding import Severity
from pyswiftops.preflight.report import judge

from .faults import FAULTS
from .healthy import asked, facts, fleet, run

ROOT = Path(__file__).resolve().parents[3]
PAGES = (ROOT / "docs/how-to/preflight.md", ROOT / "docs/zh/how-to/preflight.md")
FLEET = [ROOT / "tests" / "fleet" / name for name in ("test_preflight.py", "test_hosts.py")]


@pytest.mark.parametrize("name", FAULTS)
def test_fault(name: str) -> None:
    fault = FAULTS[name]
    wanted = asked(fault.fleet, fault.spec)
    told = facts(wanted)
    before = {(item.check, item.node) for item in judge(wanted, told).findings}
    fault.put(told)
    report = judge(wanted, told)
    found = [item for item in report.findings if item.check is fault.check]
    assert found, report.findings
    about = [item for item in found if item.node == fault.node and item.severity is fault.severity]
    text = "\n".join(f"{item.expected}\n{item.found}\n{item.remedy}" for item in about)
    assert all(words in text for words in fault.says), found
    assert all(item.remedy for item in found)
    new = {item.check for item in report.findings if (item.check, item.node) not in before}
    assert new <= {fault.check}, report.findings
    assert report.blocked == (fault.severity is Severity.BLOCK)


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("runtime", ["host", "container"])
def test_a_fleet_in_order_has_no_findings(nodes: int, runtime: str) -> None:
    wanted = asked(fleet(nodes, runtime=runtime, shared_paths=["/shared"]), run())
    assert judge(wanted, facts(wanted)).findings == ()


def test_at_least_forty_faults_are_told_of() -> None:
    assert len(FAULTS) >= 40


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.parts[-3])
def test_the_pages_table_names_every_fault_and_every_test_on_containers(page: Path) -> None:
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    named = {name for line in rows for name in re.findall(r"`test_fault\[([^\]]+)\]`", line)}
    assert named == set(FAULTS)
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in FLEET]
    functions = [node for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)]
    on_containers = {name for line in rows for name in re.findall(r"`(test_\w+)`", line)}
    assert on_containers == {node.name for node in functions if node.name.startswith("test_real_")}
