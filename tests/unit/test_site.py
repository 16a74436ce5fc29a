"""The documentation site: generated reference, Chinese pages, links that lead out."""

from __future__ import annotations

import importlib.util
import itertools
import re
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import pytest

import pyswiftops
from pyswiftops.specs.fleet import Fleet
from pyswiftops.specs.run import RunSpec

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
CHINESE = DOCS / "zh"
TRANSLATED = sorted(
    path.relative_to(DOCS) for kind in ("tutorial", "how-to") for path in (DOCS / kind).glob("*.md")
)
PAGES = sorted(
    path for path in [*ROOT.glob("*.md"), *DOCS.rglob("*.md")] if "generated" not in path.parts
)
FENCE = re.compile(r"^```([\w-]*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# English and Chinese.


def test_each_tutorial_and_how_to_has_its_chinese_page() -> None:
    found = [
        path.relative_to(CHINESE)
        for kind in ("tutorial", "how-to")
        for path in (CHINESE / kind).glob("*.md")
    ]
    assert sorted(found) == TRANSLATED


@pytest.mark.parametrize("page", TRANSLATED, ids=str)
def test_a_chinese_page_has_the_headings_and_the_code_of_the_english_one(page: Path) -> None:
    english, chinese = read(DOCS / page), read(CHINESE / page)
    assert FENCE.findall(chinese) == FENCE.findall(english)

    def depths(text: str) -> list[int]:
        heads = re.findall(r"^(#+) ", FENCE.sub("", text), flags=re.MULTILINE)
        return [len(marks) for marks in heads]

    assert depths(chinese) == depths(english)


@pytest.mark.parametrize("page", TRANSLATED, ids=str)
def test_a_chinese_page_is_chinese_and_its_tables_are_as_long(page: Path) -> None:
    english, chinese = (FENCE.sub("", read(folder / page)) for folder in (DOCS, CHINESE))
    assert len(re.findall(r"[\u4e00-\u9fff]", chinese)) > len(chinese) / 10
    assert chinese.count("\n|") == english.count("\n|")


# Links that leave the repository. CI has no way out, so their form is all that is looked at.


def outer_links(text: str) -> list[str]:
    return re.findall(r"\]\(([a-z]+:[^)\s]+)\)", re.sub(r"`[^`\n]*`", "", FENCE.sub("", text)))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_outer_links_are_whole_https_addresses(path: Path) -> None:
    for target in outer_links(read(path)):
        parts = urlsplit(target)
        assert parts.scheme == "https", target
        assert re.fullmatch(r"([a-z0-9-]+\.)+[a-z]{2,}", parts.netloc), target


# The reference that is made as the site is built.


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "make_reference", DOCS / "reference" / "make_reference.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_name_every_key_role_module_and_public_name(maker: ModuleType) -> None:
    text = {name: page() for name, page in maker.PAGES.items()}
    for name, model in (("fleet-schema.md", Fleet), ("run-schema.md", RunSpec)):
        for key, field in model.model_fields.items():
            assert f"\n| `{field.alias or key}` |" in text[name], key
    for path in ROOT.glob("roles/*/meta/argument_specs.yml"):
        assert f"\n## {path.parents[1].name}\n" in text["role-variables.md"]
    for path in ROOT.glob("plugins/modules/*.py"):
        assert f"\n## {path.stem}\n" in text["module-options.md"]
    assert set(re.findall(r"^## (\w+)$", text["sdk.md"], flags=re.MULTILINE)) == set(
        pyswiftops.__all__
    )


def test_generated_tables_hold_together(maker: ModuleType) -> None:
    for name, page in maker.PAGES.items():
        lines = FENCE.sub("", page()).splitlines()
        for before, line in itertools.pairwise(lines):
            if before.startswith("| ") and line.startswith("| "):
                borders = [len(re.findall(r"(?<!\\)\|", row)) for row in (before, line)]
                assert borders[0] == borders[1], f"{name}: {line}"


def test_writing_the_reference_removes_what_it_no_longer_makes(
    maker: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "old.md").write_text("# old\n", encoding="utf-8")
    maker.write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(maker.PAGES)
