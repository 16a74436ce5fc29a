"""The documentation says what the code says: schemas, keys, options, roles, links, rows."""

from __future__ import annotations

import importlib.util
import inspect
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pyswiftops import errors
from pyswiftops.cli.main import commands
from pyswiftops.paths import NodePaths, RunFolder
from pyswiftops.specs import export, notify, run
from pyswiftops.specs.container import Bridge, Build, Container, Engine, Host, Image, Mount
from pyswiftops.specs.fleet import Fleet, HubAccess, Node, Ssh
from pyswiftops.specs.preflight import Preflight
from pyswiftops.stages.node import REQUIRED

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
COMMANDS = commands()
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(path for path in ROOT.glob("docs/**/*.md") if "generated" not in path.parts),
        *ROOT.glob("roles/*/README.md"),
    ]
)

# Heading of the page -> the model whose keys its table lists.
FLEET_TABLES = {
    "Fleet": Fleet,
    "Node": Node,
    "Ssh": Ssh,
    "Host": Host,
    "Container": Container,
    "Image": Image,
    "Build": Build,
    "Bridge": Bridge,
    "Mount": Mount,
    "Engine": Engine,
    "Hub": HubAccess,
    "Preflight": Preflight,
}
RUN_TABLES = {
    "run": run.RunSpec,
    "run.model": run.ModelSource,
    "run.data": run.Data,
    "run.data.train": run.DataSource,
    "run.method": run.Method,
    "run.method.lora": run.Lora,
    "run.method.rlhf": run.Rlhf,
    "run.training": run.Training,
    "run.training.alerts": run.Alerts,
    "run.parallel": run.Parallel,
    "run.output": run.Output,
    "run.resume": run.Resume,
    "run.retry": run.Retry,
    "run.tracking": run.Tracking,
    "run.gather": run.Gather,
    "run.export": export.Export,
    "run.export.quantize": export.Quantize,
    "run.export.push": export.Push,
    "run.eval": run.Eval,
    "run.sample": run.Sample,
    "run.rollout": run.Rollout,
    "run.deploy": run.Deploy,
    "run.smoke": run.Smoke,
    "run.smoke.questions": run.Question,
    "run.notify": notify.Channel,
    "run.notify.url_from": notify.Source,
}
TABLES = [
    *(("fleet.md", heading, model) for heading, model in FLEET_TABLES.items()),
    *(("run.md", heading, model) for heading, model in RUN_TABLES.items()),
]


# Reading Markdown.


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def section(path: Path, heading: str) -> str:
    """The text below a heading, up to the next one of its level or above."""
    text = without_code(path.read_text(encoding="utf-8"))
    match = re.search(rf"^(#+) {re.escape(heading)}$", text, flags=re.MULTILINE)
    assert match, f"{path.relative_to(ROOT)} has no heading {heading!r}"
    level = len(match.group(1))
    rest = text[match.end() :]
    end = re.search(rf"^#{{1,{level}}} ", rest, flags=re.MULTILINE)
    return rest[: end.start()] if end else rest


def table(text: str) -> list[list[str]]:
    """Cells of all table rows but for header and rule; an escaped border is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("|")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    rules = [number for number, cells in enumerate(rows) if set("".join(cells)) <= set("-: ")]
    heads = {number - 1 for number in rules}
    return [cells for number, cells in enumerate(rows) if number not in heads | set(rules)]


def keys(text: str) -> dict[str, list[str]]:
    """First cell, without backquotes -> the other cells."""
    return {cells[0].strip("`"): cells[1:] for cells in table(text)}


def slug(heading: str) -> str:
    """A heading's anchor, as the usual hosts make it."""
    plain = re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


# Schemas and keys.


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, REFERENCE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["fleet.schema.json", "run.schema.json"])
def test_committed_schemas_are_what_the_models_say(name: str) -> None:
    committed = json.loads((REFERENCE / name).read_text(encoding="utf-8"))
    expected = json.loads(load_script("make_schemas").text(name))
    assert committed == expected, "run: python docs/reference/make_schemas.py"


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """All spec models that an annotation holds, however deep."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models_in(field.annotation)
    for argument in getattr(annotation, "__args__", ()):
        yield from models_in(argument)


def test_every_model_of_the_specs_has_a_table() -> None:
    assert set(models_in(Fleet)) == set(FLEET_TABLES.values())
    assert set(models_in(run.RunSpec)) == set(RUN_TABLES.values())


@pytest.mark.parametrize(("page", "heading", "model"), TABLES)
def test_a_table_lists_each_key_once_and_no_other(
    page: str, heading: str, model: type[BaseModel]
) -> None:
    # A section ends at the next heading, so that `run` does not hold `run.model`.
    text = re.split(r"^#", section(REFERENCE / page, heading), flags=re.MULTILINE)[0]
    listed = [cells[0].strip("`") for cells in table(text)]
    assert sorted(listed) == sorted(shown_name(*item) for item in model.model_fields.items())


def shown_name(name: str, field: FieldInfo) -> str:
    """A key as users write it: ``from`` is no name that Python takes."""
    return field.alias or name


def shown(field: FieldInfo) -> str | None:
    """How a table shows a default; None where prose stands for it."""
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if default is None:
        return "none"
    if isinstance(default, BaseModel):
        return None
    if isinstance(default, list) and any(isinstance(item, BaseModel) for item in default):
        return None
    if isinstance(default, str):
        return f"`{default}`"
    return f"`{json.dumps(list(default) if isinstance(default, tuple) else default)}`"


@pytest.mark.parametrize(("page", "heading", "model"), TABLES)
def test_a_table_shows_the_defaults_of_the_code(
    page: str, heading: str, model: type[BaseModel]
) -> None:
    text = re.split(r"^#", section(REFERENCE / page, heading), flags=re.MULTILINE)[0]
    cells = keys(text)
    for name, field in model.model_fields.items():
        expected = shown(field)
        assert expected is None or cells[shown_name(name, field)][1] == expected, name


def test_variables_of_a_hand_written_inventory_are_those_of_the_plugin() -> None:
    listed = keys(section(REFERENCE / "fleet.md", "Variables of a hand-written inventory"))
    fleet = Fleet.load(ROOT / "inventory" / "local" / "fleet.yml")
    variables = next(iter(fleet.host_vars().values()))
    assert set(listed) == {name for name in variables if name.startswith("swiftops_")}
    required = {name for name, cells in listed.items() if cells[0] == "required"}
    assert required == set(REQUIRED)


# The command line, errors, files.


def test_the_command_line_page_names_every_command() -> None:
    text = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^## swiftops (.+)$", text, flags=re.MULTILINE))
    assert described == set(COMMANDS)


def test_the_command_line_page_has_the_tables_that_the_commands_make() -> None:
    page = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    assert page == load_script("make_cli").text(page), "run python docs/reference/make_cli.py"


def test_the_page_of_release_lines_is_what_the_flag_tables_say() -> None:
    page = (REFERENCE / "lines.md").read_text(encoding="utf-8")
    assert page == load_script("make_lines").text(), "run python docs/reference/make_lines.py"


def test_every_error_is_listed_with_its_exit_code() -> None:
    listed = keys(section(REFERENCE / "errors.md", "Classes"))
    classes = {
        name: item
        for name, item in vars(errors).items()
        if inspect.isclass(item) and issubclass(item, errors.SwiftOpsError)
    }
    assert {name: cells[0] for name, cells in listed.items()} == {
        name: str(item.exit_code) for name, item in classes.items()
    }


def test_every_exit_code_is_explained() -> None:
    text = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    codes = set(keys(without_code(text).split("\n## ")[0]))
    known = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    assert {"0", *map(str, known)} <= codes


def test_every_file_of_a_run_is_listed() -> None:
    page = REFERENCE / "files-of-a-run.md"
    node = NodePaths("<root>", "<run>")
    known = {
        getattr(node, name) for name, item in vars(NodePaths).items() if isinstance(item, property)
    }
    known |= {node.job("<job>"), node.leases("<job>"), node.work("<stage>")}
    known |= {node.questions("<job>"), node.answers("<job>")}
    assert set(keys(section(page, "On a node"))) == known
    folder = RunFolder(Path("<runs>"), "<run>")
    names = {
        path.name
        for path in (folder.state, folder.plan, folder.fleet, folder.lock, folder.state_lock)
    }
    assert names <= set(keys(section(page, "On the controller")))


# The collection.


@pytest.mark.parametrize(
    ("heading", "found"),
    [
        ("Roles", {path.name for path in ROLES}),
        ("Modules", {path.stem for path in (ROOT / "plugins" / "modules").glob("*.py")}),
        (
            "Playbooks",
            {
                ".".join(
                    ["pyswiftops.fleet", *path.relative_to(ROOT / "playbooks").parts]
                ).removesuffix(".yml")
                for path in (ROOT / "playbooks").rglob("*.yml")
            },
        ),
    ],
)
def test_the_collection_page_lists_what_there_is(heading: str, found: set[str]) -> None:
    listed = set()
    for cells in table(section(REFERENCE / "modules.md", heading)):
        listed |= set(re.findall(r"`([\w.]+)`", cells[0]))
    assert listed == found


def role_options(role: Path) -> dict[str, dict[str, Any]]:
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    options: dict[str, dict[str, Any]] = specs["argument_specs"]["main"].get("options", {})
    return options


def role_defaults(role: Path) -> dict[str, Any]:
    path = role / "defaults" / "main.yml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {} if path.exists() else {}


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_a_roles_defaults_are_those_of_its_argument_specs(role: Path) -> None:
    options, defaults = role_options(role), role_defaults(role)
    assert set(defaults) <= set(options)
    own = {name for name in options if name.startswith(f"{role.name}_")}
    assert own == set(defaults), "each variable of the role itself has a default"
    for name, option in options.items():
        if "default" in option:
            assert option["default"] == defaults[name], name
        else:
            assert name not in defaults or option.get("required"), name


@pytest.mark.parametrize("role", ROLES, ids=lambda path: path.name)
def test_a_roles_readme_lists_its_variables(role: Path) -> None:
    readme = role / "README.md"
    listed = keys(section(readme, "Variables"))
    options = role_options(role)
    assert set(listed) == set(options)
    for name, option in options.items():
        if option.get("required"):
            assert listed[name][0] == "required", name
        elif "default" in option:
            assert listed[name][0] == f"`{json.dumps(option['default']).strip(chr(34))}`", name


# Links, rows, decisions.


def links(path: Path) -> list[str]:
    text = re.sub(r"`[^`\n]*`", "", without_code(path.read_text(encoding="utf-8")))
    found = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(path: Path) -> set[str]:
    text = without_code(path.read_text(encoding="utf-8"))
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_resolve(path: Path) -> None:
    for target in links(path):
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.is_relative_to(ROOT), target
        assert there.exists(), target
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), target


def test_every_page_is_reached_from_the_readme() -> None:
    seen, ahead = set(), [ROOT / "README.md"]
    while ahead:
        path = ahead.pop()
        if path in seen or path.suffix != ".md":
            continue
        seen.add(path)
        ahead += [(path.parent / target.partition("#")[0]).resolve() for target in links(path)]
    assert {path for path in PAGES if path.is_relative_to(ROOT / "docs")} <= seen


def test_both_readmes_have_the_same_parts() -> None:
    def shape(name: str) -> list[int]:
        text = without_code((ROOT / name).read_text(encoding="utf-8"))
        return [len(marks) for marks in re.findall(r"^(#+) ", text, flags=re.MULTILINE)]

    assert shape("README.md") == shape("README.zh-CN.md")


ROW_COUNTS = {"N": 20, "D": 5, "T": 9, "A": 9}


def test_each_row_of_the_mission_stands_in_the_table_once() -> None:
    rows = table((ROOT / "docs" / "rows.md").read_text(encoding="utf-8"))
    found = Counter(cells[0] for cells in rows)
    expected = [f"{kind}{n}" for kind, count in ROW_COUNTS.items() for n in range(1, count + 1)]
    assert found == Counter(expected)
    for cells in rows:
        identity, status, where = cells[0], cells[-2], cells[-1]
        assert status in {"works", "partly", "not yet"}, identity
        assert status == "not yet" or "](" in where, f"{identity}: no link to page or test"


def test_each_decision_is_in_the_index_under_its_title() -> None:
    folder = ROOT / "docs" / "adr"
    files = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [name[:4] for name in files] == [f"{n:04d}" for n in range(1, len(files) + 1)]
    index = (folder / "README.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^- \[(\d{4} .+)\]\((\S+)\)$", index, flags=re.MULTILINE))
    assert sorted(listed.values()) == files
    for title, name in listed.items():
        text = (folder / name).read_text(encoding="utf-8")
        assert text.startswith(f"# {title}\n"), name
        headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences"], name


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_names_a_place_of_one_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.<>-])/(work|root|home)/", text)
