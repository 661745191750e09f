"""Help pages and translations, which cover every node, input and output, and nothing else."""

import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import ROOT
from tools.english import FILE, LOCALES, definitions

PAGES = ROOT / "web" / "docs"
LANGUAGES = ("en", "zh", "ja", "de")
LISTS = {"zh": ("输入", "输出"), "ja": ("入力", "出力"), "de": ("Eingänge", "Ausgänge")}  # what the pages call them


@pytest.fixture
def expected(pack: ModuleType) -> dict[str, Any]:
    """What the nodes say of themselves, in the form of the translations."""
    return definitions(pack)


def translations(language: str) -> dict[str, Any]:
    return dict(json.loads((LOCALES / language / FILE).read_text(encoding="utf-8")))


def shape(texts: Any) -> Any:
    """Return the keys of nested translations, without the texts."""
    return {key: shape(value) for key, value in texts.items()} if isinstance(texts, dict) else None


def all_texts(texts: Any) -> list[str]:
    return [text for value in texts.values() for text in all_texts(value)] if isinstance(texts, dict) else [texts]


def explained(page: str, heading: str) -> list[str]:
    """Return the names that the list under a heading explains."""
    _, _, after = page.partition(f"\n## {heading}\n")
    return re.findall(r"^- \*\*([^*]+)\*\*(?:: |：)\S", after.partition("\n## ")[0], re.MULTILINE)


def test_comfyui_is_told_where_the_pages_are(pack: ModuleType) -> None:
    assert ROOT / pack.WEB_DIRECTORY / "docs" == PAGES


def test_every_node_has_a_page_and_nothing_else_has(expected: dict[str, Any]) -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == set(expected)


def test_a_page_explains_each_input_and_output_and_no_other(expected: dict[str, Any]) -> None:
    for name, node in expected.items():
        page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {node['display_name']}\n")
        assert explained(page, "Inputs") == list(node["inputs"]), name
        assert explained(page, "Outputs") == [output["name"] for output in node["outputs"].values()], name
        assert "\n## Common mistakes\n" in page or "\n## What helps\n" in page, name


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_a_translated_page_explains_what_the_english_one_does_by_the_names_of_its_language(
        expected: dict[str, Any], language: str) -> None:
    inputs, outputs = LISTS[language]
    for name, node in translations(language).items():
        english = (PAGES / f"{name}.md").read_text(encoding="utf-8")
        page = (PAGES / name / f"{language}.md").read_text(encoding="utf-8")
        assert page.startswith(f"# {node['display_name']}\n")
        assert explained(page, inputs) == [given["name"] for given in node["inputs"].values()], name
        assert explained(page, outputs) == [output["name"] for output in node["outputs"].values()], name
        for same in (r"images/[\w.]+", r"^    \S.*", r"^(?=## )", r"^(?=- )"):  # pictures, commands, headings, items
            assert re.findall(same, page, re.MULTILINE) == re.findall(same, english, re.MULTILINE), (name, same)
    folders = {path.name: {page.name for page in path.iterdir()} for path in PAGES.iterdir() if path.is_dir()}
    assert folders.pop("images") and folders == {name: {f"{code}.md" for code in LISTS} for name in expected}


def test_the_pictures_of_the_pages_are_there_and_all_are_shown() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES.glob("*.md"))
    shown = set(re.findall(r"(?:\]\(|src=\")(images/[\w.]+)", text))
    files = {f"images/{path.name}" for path in (PAGES / "images").iterdir() if path.suffix != ".md"}
    assert shown == files and len(files) > 2
    licence = (PAGES / "images" / "LICENSE.md").read_text(encoding="utf-8")
    assert all(Path(name).name in licence for name in files)


def test_there_are_these_languages() -> None:
    assert {path.name for path in LOCALES.iterdir()} == set(LANGUAGES)


def test_the_english_file_says_what_the_nodes_say(expected: dict[str, Any]) -> None:
    assert translations("en") == expected, "python -m tools.english writes it"


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_a_language_has_every_name_and_tooltip_and_no_other(expected: dict[str, Any], language: str) -> None:
    found = translations(language)
    assert shape(found) == shape(expected)
    long = {text for text in all_texts(expected) if len(text) > 20}
    assert long.isdisjoint(all_texts(found)), "a text was left in English"


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_holds_what_the_page_takes_for_its_own_syntax(language: str) -> None:
    for text in all_texts(translations(language)):
        assert text.strip() and not re.search(r"[{}|@]", text), text


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_value_for_a_file_name_is_asked_for_by_the_id_of_its_node_which_is_the_same_in_every_language(
        expected: dict[str, Any], language: str) -> None:
    file = "FilmOpenVINOSaveWebM.md" if language == "en" else f"FilmOpenVINOSaveWebM/{language}.md"
    tooltip = translations(language)["FilmOpenVINOSaveWebM"]["inputs"]["filename_prefix"]["tooltip"]
    for text in (tooltip, (PAGES / file).read_text(encoding="utf-8")):
        (node, widget), = re.findall(r"%([^%:]+)[.]([^%]+)%", text)
        assert widget in expected[node]["inputs"]
