"""Strategies from folders: every Python file of a folder in use is imported, and what it defines becomes known.

A file defines a strategy by a name in it that stands for a ``Strategy``, or by a class in the shape that Freqtrade's
users write (``frames``). Files whose names begin with ``_`` are for the others to import and are not looked into, nor
are tests. The folder comes last on the import path, so that its files can import each other and hide nothing.

The code runs with the rights of the process: put no file there that you have not read.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from tapeline_common import strategy_folders
from tapeline_common.settings import ConfigurationInvalid
from tapeline_strategy import catalogue
from tapeline_strategy.sdk import Strategy


class StrategyFileInvalid(ConfigurationInvalid):
    """A file of strategies that cannot be used. The message names the file, the line and what is wrong there."""


def use(folders: Iterable[str | Path]) -> None:
    """Make the strategies of these folders known, here and in processes started from here.

    Raises:
        ConfigurationInvalid: one is no folder.
    """
    before = strategy_folders.folders_in_use()
    strategy_folders.use(folders)
    if strategy_folders.folders_in_use() != before:
        catalogue.forget()


def strategies_of_folders() -> Iterator[tuple[str, Strategy]]:
    """(file, strategy) of every folder in use. Raises ``StrategyFileInvalid``."""
    for folder in strategy_folders.folders_in_use():
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
        for file in sorted(folder.glob("*.py")):
            if not file.name.startswith(("_", "test_")):
                yield from ((str(file), strategy) for strategy in strategies_of_file(file))


def strategies_of_file(file: Path) -> list[Strategy]:
    """What one file defines, in its order. Raises ``StrategyFileInvalid``."""
    module = _imported(file)
    found: list[Strategy] = []
    for name, value in vars(module).items():
        if isinstance(value, Strategy) and value not in found and not _is_imported(value):
            found.append(value)
        elif isinstance(value, type) and value.__module__ == module.__name__:
            strategy = _of_class(file, name, value)
            if strategy is not None:
                found.append(strategy)
    if not found:
        raise StrategyFileInvalid(
            f"{file}: defines no strategy: give a name in it to one, such as STRATEGY = from_class(...), "
            f"or begin the file's name with _ if others import it"
        )
    return found


def _of_class(file: Path, name: str, value: type) -> Strategy | None:
    """The strategy of a class in Freqtrade's shape; ``None`` for any other class."""
    if not hasattr(value, "populate_indicators"):
        return None
    from tapeline_strategy.frames import FramesRefused, from_frames

    try:
        return from_frames(value)
    except FramesRefused as trouble:
        raise StrategyFileInvalid(f"{file}: class {name}: {trouble}") from trouble


def _is_imported(strategy: Strategy) -> bool:
    """Whether a package defines it and the file only mentions it."""
    return any(strategy is known for _, known in catalogue.of_packages())


def _imported(file: Path) -> ModuleType:
    """The file as a module under its own name, so that what it defines can be sent to other processes."""
    name = file.stem
    known = sys.modules.get(name)
    if known is not None:
        if getattr(known, "__file__", None) == str(file):
            return known
        raise StrategyFileInvalid(f"{file}: a module named {name!r} exists already: give the file another name")
    if not name.isidentifier():
        raise StrategyFileInvalid(f"{file}: its name is no Python name: use letters, digits and _")
    if _is_found_elsewhere(name, file):
        raise StrategyFileInvalid(f"{file}: a module named {name!r} is installed: give the file another name")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None, "a .py file has a loader"
    assert spec.loader is not None, "a .py file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as trouble:
        del sys.modules[name]
        raise StrategyFileInvalid(_where(file, trouble)) from trouble
    return module


def _is_found_elsewhere(name: str, file: Path) -> bool:
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin != str(file)


def _where(file: Path, trouble: Exception) -> str:
    """File, line, kind of error and message: of the last line that is the user's own."""
    what = f"{type(trouble).__name__}: {trouble.msg if isinstance(trouble, SyntaxError) else trouble}"
    if isinstance(trouble, SyntaxError) and trouble.filename:
        return f"{trouble.filename}, line {trouble.lineno}: {what}"
    lines = [
        frame for frame in traceback.extract_tb(trouble.__traceback__) if Path(frame.filename).parent == file.parent
    ]
    if isinstance(trouble, ModuleNotFoundError) and trouble.name == "freqtrade":
        what += " (leave its base class away, and take IntParameter and the like from tapeline_strategy.frames)"
    return f"{lines[-1].filename}, line {lines[-1].lineno}: {what}" if lines else f"{file}: {what}"


catalogue.also_from(strategies_of_folders)
