"""The house: which room may know which. Imports run downwards, there are no circles, and `eval` stands alone."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Rooms from the ground up. A module imports from its own room and from lower floors; rooms on one floor do not know
# each other. A module belongs to the room with the longest name that its own begins with.
FLOORS = (
    ("eval",),  # pure functions over saved arrays, and what every program needs: errors, command lines
    ("lrsclip_jax.errors",),
    ("lrsclip_jax.chips", "lrsclip_jax.models.adapt_rules", "lrsclip_jax.models.zoo_table"),
    ("lrsclip_jax.config",),
    # Data: pixels and tokens, sets on disk, captioned images of users, and the two jobs done with them.
    ("lrsclip_jax.data.draws", "lrsclip_jax.parameter_rules"),
    ("lrsclip_jax.data", "lrsclip_jax.data.scenes"),
    ("lrsclip_jax.data.prepared",),
    ("lrsclip_jax.sources",),
    ("lrsclip_jax.data.batches", "lrsclip_jax.data.mosaic", "lrsclip_jax.data.prepare"),
    # Corpora: made of sources, without a model.
    ("lrsclip_jax.corpus.records",),
    ("lrsclip_jax.corpus.generators", "lrsclip_jax.corpus.hygiene", "lrsclip_jax.corpus.rules"),
    ("lrsclip_jax.corpus.reading", "lrsclip_jax.corpus.statistics"),
    ("lrsclip_jax.corpus.recipe_config", "lrsclip_jax.corpus.stages"),
    ("lrsclip_jax.corpus",),
    # The model, its loss, its update and its scores.
    ("lrsclip_jax.hosts", "lrsclip_jax.sharding"),
    ("lrsclip_jax.averaging", "lrsclip_jax.host_memory", "lrsclip_jax.muon"),
    ("lrsclip_jax.losses", "lrsclip_jax.models", "lrsclip_jax.optimizer"),
    ("lrsclip_jax.encoders", "lrsclip_jax.flops", "lrsclip_jax.forward", "lrsclip_jax.pytorch"),
    ("lrsclip_jax.adapters", "lrsclip_jax.fitting", "lrsclip_jax.heldout", "lrsclip_jax.step"),
    # Runs, and weights out of runs and other people's files.
    ("lrsclip_jax.run",),
    ("lrsclip_jax.weights",),
    ("lrsclip_jax.pretrained", "lrsclip_jax.setup"),
    # Programs: lrsclip_jax.load, which the first room holds, and the commands.
    ("lrsclip_jax",),
    (
        "lrsclip_jax.convert",
        "lrsclip_jax.embed",
        "lrsclip_jax.localise",
        "lrsclip_jax.plan",
        "lrsclip_jax.train",
    ),
    ("lrsclip_jax.interpolate", "lrsclip_jax.leaks", "lrsclip_jax.search"),
    ("lrsclip_jax.completion", "lrsclip_jax.main"),
    ("lrsclip_jax.studies",),  # its trainings are calls of the commands
    ("lrsclip_jax.cli",),
    ("lrsclip_jax.__main__",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def modules(root: Path) -> dict[str, Path]:
    """Returns the file of every module of both packages."""
    return {
        ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file
        for package in ("eval", "lrsclip_jax")
        for file in sorted((root / package).rglob("*.py"))
    }


def imports(code: str, known: set[str], *, at_once: bool = False) -> set[str]:
    """Returns the modules that some code imports: a known module where one is named, others as they are written.

    Args:
      code: of a module.
      known: names of modules; of `from a import b`, a.b counts where it is one of them, else a.
      at_once: whether to leave out imports in functions and under TYPE_CHECKING, which do not happen at import.
    """
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(code)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import: {ast.unparse(node)}"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & known or {str(node.module)}
        deferred = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        )
        if not (at_once and deferred):
            waiting += ast.iter_child_nodes(node)
    return found


def room_of(module: str) -> str:
    """Returns the room that a module belongs to."""
    rooms = [room for room in FLOOR if f"{module}.".startswith(f"{room}.")]
    return max(rooms, key=len)


def upward(edges: dict[str, set[str]]) -> list[str]:
    """Returns "a -> b" for every import from another room that is not on a lower floor."""
    return [
        f"{module} -> {target}"
        for module, targets in edges.items()
        for target in sorted(targets)
        if room_of(module) != room_of(target) and FLOOR[room_of(target)] >= FLOOR[room_of(module)]
    ]


def edges_of(files: dict[str, Path], *, at_once: bool = False) -> dict[str, set[str]]:
    """Returns the modules among `files` that each of them imports."""
    known = set(files)
    return {name: imports(file.read_text(), known, at_once=at_once) & known for name, file in files.items()}


def test_imports_run_downwards():
    assert upward(edges_of(modules(ROOT))) == []


def test_every_file_and_folder_of_the_package_stands_on_a_floor():
    files = [name for name in modules(ROOT) if name.count(".") == 1 and name.startswith("lrsclip_jax.")]
    assert len(files) > 20
    assert [name for name in files if room_of(name) == "lrsclip_jax"] == []  # else: add it to FLOORS


def test_no_modules_import_each_other_in_a_circle():
    edges = edges_of(modules(ROOT), at_once=True)
    assert sum(map(len, edges.values())) > 500
    list(graphlib.TopologicalSorter(edges).static_order())  # raises CycleError, which names the circle


def test_eval_knows_nothing_of_the_package_nor_of_jax_at_import():
    for name, file in modules(ROOT).items():
        if name.split(".")[0] == "eval":
            assert not {module for module in imports(file.read_text(), set()) if module.startswith("lrsclip_jax")}, name
            assert "jax" not in imports(file.read_text(), set(), at_once=True), name


@pytest.mark.parametrize("folder", ["lrsclip_jax", "eval", "configs", "benchmarks", "tests"])
def test_nothing_imports_a_recipe(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for file in files:
        named = imports(file.read_text(), {"lrsclip_jax.recipes"})
        assert not [
            module for module in named if module.split(".")[0] == "configs" or module == "lrsclip_jax.recipes"
        ], file


def test_recipes_are_no_modules_of_the_package():
    for recipe in sorted((ROOT / "configs").glob("*.py")):
        named = {module for module in imports(recipe.read_text(), set()) if module != "__future__"}
        assert named <= {"lrsclip_jax.config", "lrsclip_jax.errors"}, recipe


def test_the_checks_find_what_they_are_for():
    code = "import jax\nfrom lrsclip_jax import train, load\ndef f():\n    from eval.scores import unit\n"
    known = {"lrsclip_jax", "lrsclip_jax.train", "eval.scores"}
    assert imports(code, known) == {"jax", "lrsclip_jax.train", "eval.scores"}
    assert imports(code, known, at_once=True) == {"jax", "lrsclip_jax.train"}
    deferred = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import jax\n"
    assert imports(deferred, known, at_once=True) == {"typing"}
    assert room_of("lrsclip_jax.data.prepared.records") == "lrsclip_jax.data.prepared"
    assert room_of("lrsclip_jax.data.images") == "lrsclip_jax.data" and room_of("lrsclip_jax.setup") != "lrsclip_jax"
    assert upward(
        {"lrsclip_jax.models.clip": {"lrsclip_jax.train", "lrsclip_jax.sharding", "lrsclip_jax.models.vit"}}
    ) == ["lrsclip_jax.models.clip -> lrsclip_jax.train"]
    assert upward({"lrsclip_jax.step": {"lrsclip_jax.heldout"}}) == ["lrsclip_jax.step -> lrsclip_jax.heldout"]
    with pytest.raises(graphlib.CycleError):
        list(graphlib.TopologicalSorter({"a": {"b"}, "b": {"a"}}).static_order())
