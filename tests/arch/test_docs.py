"""What the documentation says of the code is so: generated pages, paths and names, commands, variables, refusals."""

import ast
import importlib
import importlib.util
import re
from dataclasses import fields
from pathlib import Path

import pytest

from sky.agent.server import Agent
from sky.cli import plans
from sky.cli import table_of_commands as commands
from sky.core.catalog import overrides
from sky.core.errors import NotSupportedError, ProviderFailure
from sky.core.lifecycle import clusters
from sky.core.model.catalog import Quality, RefreshState
from sky.core.model.offers import Reason, Standing
from sky.core.model.tasks import TaskSpec
from sky.engine.refusals import refuse_unsupported
from sky.store.catalog.override_files import OverrideFiles
from sky.store.schema import METADATA
from sky.wire.config import CONFIG

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "sky"
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
ROOMS = {path.name for path in SOURCE.iterdir() if path.is_dir() and path.name != "__pycache__"}

_FILE = re.compile(r"[\w./-]+/[\w.-]+\.(?:py|md|yaml|toml|sh)|[\w-]+\.(?:py|toml)")
_NAME = re.compile(r"sky(?:\.\w+)+(?:\(\))?")
#: What a page names although it is not of this repository, or does not exist.
_NOT_OURS = {"train.py", "sky.yaml", "sky.example.org"}
_VARIABLE = re.compile(r"_?SKY[A-Z]*(?:_[A-Z]+)+")


def text(page):
    return page.read_text(encoding="utf-8")


def ticked(page):
    """What stands in backticks, outside of blocks of code."""
    prose = re.sub(r"```.*?```", "", text(page), flags=re.DOTALL)
    return [span.strip() for span in re.findall(r"`([^`\n]+)`", prose)]


def generator():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def file_of(name):
    return next((base / name for base in (SOURCE, ROOT, DOCS) if (base / name).exists()), None)


def defines(path, qualified):
    """Whether a module has a class, function or assignment of this dotted name."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for part in qualified.split("."):
        found = [node for node in body if part in names_of(node)]
        if not found:
            return False
        body = getattr(found[-1], "body", [])
    return True


def names_of(node):
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {target.id for target in targets if isinstance(target, ast.Name)}


def test_generated_pages_are_up_to_date():
    assert sorted(generator().outdated()) == [], "run: python docs/generate.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_functions_named_exist(page):
    missing = []
    for span in ticked(page):
        name, _, inside = span.partition(":")
        if not _FILE.fullmatch(name) or name.startswith("./") or name in _NOT_OURS:
            continue
        path = file_of(name)
        if path is None or (inside and not defines(path, inside)):
            missing.append(span)
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_folders_named_exist(page):
    tops = ROOMS | {"src", "docs", "tests", "examples", "benchmarks"}
    folders = [span for span in ticked(page) if re.fullmatch(r"[\w/]+/", span) and span.split("/")[0] in tops]
    assert [folder for folder in folders if file_of(folder) is None] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_names_resolve(page):
    names = {span.removesuffix("()") for span in ticked(page) if _NAME.fullmatch(span)} - _NOT_OURS
    assert [name for name in sorted(names) if not resolves(name)] == []


def resolves(name):
    *outer, last = name.split(".")
    try:
        return hasattr(importlib.import_module(".".join(outer)), last) or importable(name)
    except ImportError:
        return importable(name)


def importable(name):
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


def anchors(page):
    heads = re.findall(r"^#+ (.+)$", text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_page_is_in_the_index():
    linked = set(re.findall(r"\]\((\w[\w-]*\.md)\)", text(DOCS / "index.md")))
    assert {page.name for page in PAGES} - {"index.md"} == linked


def test_every_command_is_documented():
    page = text(DOCS / "cli.md")
    rows = [row for _, rows in commands.SECTIONS for row in rows] + list(commands.HIDDEN_COMMANDS)
    words = [f"sky {name}" for name, _, _ in rows if name not in ("api", "gpus", "catalog", "ssh")]
    words += [f"sky api {name}" for name, _, _ in commands.API_ROWS]
    words += [f"sky gpus {name}" for name, _, _ in commands.GPUS_ROWS]
    words += [f"sky catalog {name}" for name, _, _ in commands.CATALOG_ROWS]
    words += [f"sky ssh {name}" for name, _, _ in commands.SSH_ROWS]
    assert [word for word in words if f"`{word}`" not in page] == []


def test_shapes_are_those_of_the_room():
    """The room's README is held to the command by tests; the page repeats it."""

    def shapes(path):
        _, _, table = text(path).partition("| Command | Shape |\n")
        return table.partition("\n\n")[0].splitlines()

    assert len(shapes(DOCS / "cli.md")) > 10
    assert shapes(DOCS / "cli.md") == shapes(SOURCE / "cli" / "README.md")


def test_the_shape_of_plans_names_every_key():
    _, _, rest = text(DOCS / "cli.md").partition("| `launch --dryrun`, `optimize` |")
    row, _, _ = rest.partition("\n")
    told = {*plans.shape({}), *plans._KEYS, *plans._REASON_KEYS, *(field.name for field in fields(Standing))}
    assert sorted(told - set(re.findall(r"\w+", row))) == []


def test_every_variable_is_documented():
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and _VARIABLE.fullmatch(node.value):
                found.add(node.value)
    assert len(found) > 10
    written = "\n".join(text(page) for page in PAGES)
    assert [name for name in sorted(found) if f"`{name}`" not in written] == []


def test_every_table_is_documented():
    page = text(DOCS / "architecture.md")
    assert [name for name in METADATA.tables if f"| `{name}` |" not in page] == []


def test_every_verb_of_the_agent_is_documented():
    tree = ast.parse((SOURCE / "agent" / "server.py").read_text(encoding="utf-8"))
    inside = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == Agent.__name__)
    verbs = {
        key.value
        for node in ast.walk(inside)
        if isinstance(node, ast.Dict) and all(isinstance(value, ast.Attribute) for value in node.values)
        for key in node.keys
    }
    assert {"hello", "submit", "sync_begin"} <= verbs
    page = text(DOCS / "architecture.md")
    assert [verb for verb in sorted(verbs) if f"`{verb}`" not in page] == []


def codes_after(page, head):
    """The codes in the first column of the table with this head."""
    _, found, table = text(page).partition(head)
    assert found, f"{page.name} has no table '{head}'"
    return re.findall(r"^\| `([\w ]+)` \|", table.partition("\n\n")[0], re.MULTILINE)


@pytest.mark.parametrize(
    ("page", "head", "words"),
    [
        ("optimizer.md", "| Code | An offer was not taken because |", Reason),
        ("catalog.md", "| Quality | Means |", Quality),
        ("catalog.md", "| Outcome | Means | Exit code |", RefreshState),
    ],
)
def test_codes_are_those_of_the_code(page, head, words):
    assert sorted(codes_after(DOCS / page, head)) == sorted(word.value for word in words)


def test_settings_of_the_catalog_are_documented():
    page = text(DOCS / "catalog.md")
    section = CONFIG.fields["catalog"].section
    assert [key for key in section.fields if not re.search(rf"^  {key}:", page, re.MULTILINE)] == []


@pytest.mark.parametrize("place", ["aws", "gcp", "slurm"])
def test_settings_of_places_are_documented(place):
    section = importlib.import_module(f"sky.providers.{place}.config").SECTION
    page = text(DOCS / f"{place}.md")
    assert [key for key in section.fields if f"`{key}`" not in page and f"`{key}." not in page] == []


def test_scopes_of_refusals_are_those_of_the_code():
    told = set(codes_after(DOCS / "provisioning.md", "| Scope | Crossed off |"))
    assert told == {*ProviderFailure.SCOPES, clusters.BOOTSTRAP, clusters.HOPELESS}


def test_examples_of_overrides_are_read(tmp_path):
    """Every form is shown, and every form shown is one."""
    page = text(DOCS / "catalog.md")
    for name in ("toml", "csv"):
        (block,) = re.findall(rf"```{name}\n(.*?)```", page, re.DOTALL)
        (tmp_path / f"shown.{name}").write_text(block, encoding="utf-8")
    found = OverrideFiles(tmp_path).read()
    shown = (found.prices, found.denials, found.reservations, found.quotas, found.extra)
    assert [len(each) for each in shown] == [3, 1, 1, 1, 2]
    assert [kind for kind in overrides._TABLES if f"[[{kind}]]" not in page] == []


def test_glossary_is_alphabetical():
    words = re.findall(r"^\| ([a-z][\w ]*) \|", text(DOCS / "glossary.md"), re.MULTILINE)
    assert len(words) > 40
    assert words == sorted(words)
    assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"volumes": {"/data": "mine"}}, "volumes"),
        ({"service": {"readiness_probe": "/", "replicas": 1}}, "service"),
        ({"file_mounts": {"/data": "s3://bucket"}}, "file_mounts"),
        ({"file_mounts": {"/data": {"name": "bucket", "mode": "MOUNT"}}}, "file_mounts"),
        ({"resources": {"volumes": [{"name": "disk", "path": "/data"}]}}, "resources.volumes"),
    ],
)
def test_what_is_refused_is_documented(config, words):
    with pytest.raises(NotSupportedError, match="not supported yet"):
        refuse_unsupported(TaskSpec.from_config({"run": "true", **config}))
    _, _, table = text(DOCS / "task-yaml.md").partition("## What this version refuses")
    refused, _, _ = table.partition("## What a task sees")
    assert f"`{words}`" in refused
