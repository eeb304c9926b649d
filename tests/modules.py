"""The modules of the package by their names below it, and what each of them imports."""

import ast
from pathlib import Path

import quart_session

PACKAGE = Path(quart_session.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    .removesuffix("__init__")
    .removesuffix("."): path
    for path in PACKAGE.rglob("*.py")
}


def imports(path):
    """The modules of the package that are imported at run time."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and ast.unparse(test.test) == "TYPE_CHECKING"
        for statement in test.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("quart_session") for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports of the package name it in full"
            if node.module.split(".")[0] == "quart_session":
                module = node.module.removeprefix("quart_session").removeprefix(".")
                for alias in node.names:
                    inner = f"{module}.{alias.name}".removeprefix(".")
                    yield inner if inner in MODULES or inner == "_speedups" else module
