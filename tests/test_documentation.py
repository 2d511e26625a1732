"""What the documents promise is there: commands, settings, targets, links."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from endpoints.cli import main
from endpoints.settings import variables

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]


def commands(
    group: click.Group, words: tuple[str, ...] = ("endpoints",)
) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


@pytest.mark.parametrize(("name", "command"), list(commands(main)))
def test_every_command_and_option_is_documented(name: str, command: click.Command) -> None:
    lines = (ROOT / "docs" / "commands.md").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(f"| `{name}"))
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[-1] in line, parameter.opts


def test_settings_that_documents_and_examples_name_exist() -> None:
    for path in [*DOCUMENTS, ROOT / ".env.example"]:
        named = set(re.findall(r"\bENDPOINTS_[A-Z_]+\b", path.read_text())) - {"ENDPOINTS_"}
        assert named <= set(variables()), path


def test_every_make_target_that_a_document_names_exists() -> None:
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text()))
    assert {"setup", "demo", "test", "check", "services", "bench", "clean"} <= targets
    for path in DOCUMENTS:
        named = set(re.findall(r"(?:`|\$ )make ([a-z]+)", path.read_text()))
        assert named <= targets, path


def test_commands_that_documents_show_exist() -> None:
    known = {name for name, _ in commands(main)} | {"endpoints keys", "endpoints alerts"}
    for path in DOCUMENTS:
        for shown in re.findall(r"(?:`|\$ )(endpoints (?:keys |alerts )?[a-z]+)", path.read_text()):
            assert shown in known, path


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("name", NAMES)
def test_no_document_knows_this_machine(name: str) -> None:
    text = (ROOT / name).read_text()
    assert str(ROOT) not in text
    assert str(Path.home()) not in text


def test_pictures_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in (ROOT / "docs" / "images").iterdir()}
    assert max(sizes.values()) < 300_000, sizes


def test_the_lock_holds_exact_versions_of_all_we_ask_for_and_no_addresses() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = {re.fullmatch(r"([A-Za-z0-9._-]+)==[^\s@/]+", line)[1].lower() for line in lines}  # type: ignore[index]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.match(r"[A-Za-z0-9._-]+", text)[0].lower() for text in asked}  # type: ignore[index]
    assert {name.replace("_", "-") for name in names} <= {name.replace("_", "-") for name in pinned}
