"""The house rules, checked by machine."""

import ast
from pathlib import Path

import jax.numpy as jnp
import jaxtyping
import pytest

from jaxnn import linalg

ROOT = Path(__file__).parent.parent
CORE = ROOT / "jaxnn"
FILES = sorted(CORE.rglob("*.py"))

# What each module or package may import from jaxnn besides itself.
BASE = {"types", "checks", "shapes", "memory"}
MAY_IMPORT = {
    "__init__": set(),
    "types": set(),
    "backend": set(),
    "checks": {"types"},
    "memory": {"checks"},
    "shapes": set(),
    "signals": set(),
    "draws": {"types"},
    "linalg": BASE,
    "metrics": BASE,
    "inspection": BASE,  # takes functions, as train and sweep do
    "gmm": BASE | {"linalg"},
    "kde": BASE | {"linalg", "gmm"},  # gmm only for `as_mixture`; see below
    "mlp": BASE | {"draws", "linalg"},
    "neuron": BASE,
    "perceptron": BASE,
    "rbm": BASE | {"linalg"},
    "dbn": BASE | {"mlp", "rbm"},
    "train": BASE | {"draws"},
    "hopfield": BASE,
    "sweep": BASE | {"signals"},
    "plot": set(),
    "bars": set(),
    # Around the core: what it is joined to, kept in, and spread over.
    "mdn": BASE | {"gmm", "mlp"},
    "bridge": BASE | {"mlp", "train"},
    "files": BASE | {"gmm", "kde", "mdn", "mlp", "neuron", "perceptron", "rbm", "train"},
    "scale": BASE | {"files", "gmm", "kde", "linalg", "mlp", "signals", "sweep",
                     "train"},
}  # fmt: skip
BANNED = {"print", "jax.config.update", "jax.random.key", "jax.random.PRNGKey"}
# Declarations only: nothing to run, so nothing to test.
NO_MIRROR = {"types.py", "gmm/family.py", "train/state.py"}
OUTSIDE = {"jax", "jaxtyping", "optax"}
STANDARD = {"collections", "concurrent", "dataclasses", "difflib", "enum", "functools", "importlib",
            "itertools", "math", "os", "types", "typing", "warnings", "weakref"}  # fmt: skip
MORE = {  # what a part may import from outside besides
    "signals": {"signal", "threading"},
    "plot": {"matplotlib", "cycler", "numpy", "contextlib"},
    "bridge": {"flax", "hashlib", "numpy", "pathlib", "safetensors"},
    "files": {"hashlib", "json", "numpy", "pathlib", "safetensors"},
    "sweep": {"contextlib", "json", "numpy", "optuna", "pandas", "pathlib", "signal", "threading",
              "time"},
    "scale": {"contextlib", "errno", "fcntl", "hashlib", "json", "numpy", "orbax", "pathlib",
              "pyarrow", "queue", "shutil", "signal", "socket", "subprocess", "sys", "threading",
              "time"},
}  # fmt: skip


def part(path: Path) -> str:
    """The module or package of jaxnn that a file belongs to."""
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def calls(text: str) -> set[str]:
    """Names of all functions called in a text, as they are written."""
    return {ast.unparse(n.func) for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)}


def imports(path: Path) -> list[str]:
    """Full names of all modules that a file imports, wherever in the file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            base = node.module or ""
            found += [f"{base}.{alias.name}" for alias in node.names]
    return found


def broken_imports(path: Path, names: list[str]) -> list[str]:
    """Those imports that the rules do not allow."""
    here, broken = part(path), []
    for name in names:
        top, *rest = name.split(".")
        if top == "jaxnn":
            allowed = MAY_IMPORT[here] | {here}
            good = here == "__init__" or rest[0] in allowed
            if here == "kde" and rest[0] == "gmm":
                good = path.name == "model.py"
        else:
            good = top in OUTSIDE | STANDARD | MORE.get(here, set())
        if not good:
            broken.append(name)
    return broken


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(CORE)))
def test_file_keeps_the_rules(path):
    text = path.read_text()
    assert part(path) in MAY_IMPORT, "say in MAY_IMPORT what this part may import"
    assert broken_imports(path, imports(path)) == []
    assert len(text.splitlines()) <= 300
    assert ast.get_docstring(ast.parse(text)), "a module says what it is"
    assert BANNED.isdisjoint(calls(text))
    if path.name != "__init__.py" and str(path.relative_to(CORE)) not in NO_MIRROR:
        mirror = ROOT / "tests" / path.relative_to(CORE).parent / f"test_{path.name}"
        assert mirror.exists(), f"{mirror} is missing"


def test_a_planted_import_is_found():
    """The rule itself can fail."""
    trainer = CORE / "train" / "trainer.py"
    assert broken_imports(trainer, ["jaxnn.gmm.model.GMM", "numpy", "flax.linen"]) == [
        "jaxnn.gmm.model.GMM",
        "numpy",
        "flax.linen",
    ]
    assert broken_imports(CORE / "kde" / "kernels.py", ["jaxnn.gmm"]) == ["jaxnn.gmm"]


def test_a_planted_call_is_found():
    """The rule itself can fail, and does not read strings."""
    assert calls("x = 'print(1)'; f(jax.random.key(0))") & BANNED == {"jax.random.key"}


def test_public_modules_import_without_side_effects():
    """Every public name of every package exists and has a docstring."""
    import jaxnn

    for name in jaxnn.__all__:
        module = getattr(jaxnn, name)
        for public in getattr(module, "__all__", []):
            value = getattr(module, public)
            assert value.__doc__, f"{name}.{public}"


def test_annotated_shapes_are_checked_while_the_tests_run():
    with pytest.raises(jaxtyping.TypeCheckError):
        linalg.square_distances(jnp.ones((3, 2)), jnp.ones((3, 4)))
