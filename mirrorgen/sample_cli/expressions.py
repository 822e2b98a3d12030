"""Objects written on the command line: ``Box(-1, 1, dim=10)``, JSON, or a file with a specification. Nothing is run."""

import ast
import difflib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from mirrorgen.errors import DomainError

__all__ = ["classes", "parse_spec"]


def classes(module: ModuleType, base: type) -> dict[str, type]:
    """The public concrete subclasses of ``base`` in ``module``, by name."""
    found = {name: getattr(module, name) for name in module.__all__}
    return {
        name: value
        for name, value in sorted(found.items())
        if isinstance(value, type) and issubclass(value, base) and not inspect.isabstract(value)
    }


def parse_spec(text: str, known: Mapping[str, type]) -> dict[str, Any]:
    """The specification that ``text`` stands for, see ``spec.from_spec``.

    Args:
        text: A call of a known class with numbers, strings, lists and further such calls for arguments, where
            ``[4] * 21`` repeats a list; or a JSON object; or the name of a ``.yaml``, ``.yml`` or ``.json`` file. A
            ``class_path`` may be the plain name of a known class.
        known: Classes by name.

    Raises:
        DomainError: If the text is neither, or a class is unknown.
    """
    text = text.strip()
    if text.startswith("{"):
        return _resolve(_json(text, "the text"), known)
    if text.endswith((".yaml", ".yml", ".json")):
        return _resolve(_file(Path(text)), known)
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise DomainError(f"{text!r} is not readable: {error}; write for example Box(-1, 1, dim=10)") from error
    found = _value(ast.Call(tree, [], []) if isinstance(tree, ast.Name) else tree, known)
    if not isinstance(found, dict):
        raise DomainError(f"{text!r} names no class; write for example Box(-1, 1, dim=10)")
    return found


def _value(node: ast.AST, known: Mapping[str, type]) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str | None):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item, known) for item in node.elts]
    if isinstance(node, ast.Name) and node.id == "inf":
        return float("inf")
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        number = _value(node.operand, known)
        if isinstance(number, int | float):
            return -number if isinstance(node.op, ast.USub) else number
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return _repeat(_value(node.left, known), _value(node.right, known))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        named = {word.arg: _value(word.value, known) for word in node.keywords if word.arg is not None}
        if len(named) == len(node.keywords):
            return {
                "class_path": _path(node.func.id, known),
                "init_args": {"*": [_value(item, known) for item in node.args], **named},
            }
    raise DomainError(
        f"{ast.unparse(node)!r} is neither a number, a string, a list nor one of {', '.join(known)} with arguments"
    )


def _repeat(items: Any, times: Any) -> list[Any]:
    if not isinstance(items, list) or not isinstance(times, int) or not 0 <= len(items) * times <= 10**6:
        raise DomainError("only lists are repeated, as in [4] * 21, up to a million entries")
    return items * times


def _path(name: str, known: Mapping[str, type]) -> str:
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        guess = f"did you mean {near[0]}? " if near else ""
        raise DomainError(f"{name!r} is unknown; {guess}Known: {', '.join(known)}")
    return f"{known[name].__module__}.{known[name].__qualname__}"


def _resolve(value: Any, known: Mapping[str, type]) -> Any:
    """``value`` with plain names of classes replaced by their paths, at every depth."""
    if isinstance(value, list):
        return [_resolve(item, known) for item in value]
    if not isinstance(value, dict):
        return value
    found = {k: _resolve(v, known) for k, v in value.items()}
    path = found.get("class_path")
    if isinstance(path, str) and "." not in path:
        found["class_path"] = _path(path, known)
    return found


def _file(path: Path) -> Any:
    if not path.is_file():
        raise DomainError(f"there is no file {path}")
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return _json(text, str(path))
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DomainError(f"{path} is not valid YAML: {str(error).splitlines()[0]}") from error


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise DomainError(f"{where} is not valid JSON: {error}") from error
