"""Profiles from files: those that are shipped, then a user's own directories.

- A profile is named by its file: ``boards/raspberry-pi-4.toml`` holds "raspberry-pi-4".
- A user's profile may inherit from a shipped one, but not take its name: two devices of one
  kind would then mean different things on different machines.
- Every mistake of a file is reported at once, as :class:`~edgepick_profiles.errors.ProfileError`.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edgepick_profiles import checks, tables
from edgepick_profiles.errors import Problem, ProfileError
from edgepick_profiles.schema import Profile
from edgepick_profiles.tables import Problems, Table

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - exercised on 3.10 only
    import tomli as tomllib

SHIPPED = Path(__file__).parent / "boards"
SUFFIX = ".toml"


def profile_files(directories: Iterable[Path] = ()) -> dict[str, Path]:
    """Return the file of every profile by name, sorted; the files are not read.

    Raises:
        ProfileError: A directory is not one, or two of them hold a profile of the same name.
    """
    found: dict[str, Path] = {}
    problems: list[Problem] = []
    for folder in _folders(directories):
        if not folder.is_dir():
            problems.append(_problem(folder, "(directory)", "no such directory", "an existing directory"))
            continue
        inside = {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}
        problems += [_shadow(path, found[name]) for name, path in inside.items() if name in found]
        found = inside | found
    if problems:
        raise ProfileError.of(problems)
    return dict(sorted(found.items()))


def load_profile(name: str, *, directories: Iterable[Path] = ()) -> Profile:
    """Return the profile ``name``.

    Raises:
        ProfileError: There is none of that name, or it is wrong; every problem is listed.
    """
    files = profile_files(directories)
    if name not in files:
        guess = tables.closest(name, files)
        meant = f' (did you mean "{guess}"?)' if guess else ""
        raise ProfileError(
            f'unknown profile "{name}"{meant}; known are: {", ".join(files)}',
            hint="List them with `edgepick profiles list`; add a directory of your own with --profiles DIR.",
        )
    return _load(files[name], files)


def load_all(directories: Iterable[Path] = ()) -> dict[str, Profile]:
    """Return every profile by name, sorted.

    Raises:
        ProfileError: At least one is wrong; the problems of all of them are listed.
    """
    files = profile_files(directories)
    results = {name: _try(path, files) for name, path in files.items()}
    problems = [p for result in results.values() if isinstance(result, ProfileError) for p in result.problems]
    if problems:
        raise ProfileError.of(problems)
    return {name: result for name, result in results.items() if isinstance(result, Profile)}


def check_file(path: Path, directories: Iterable[Path] = ()) -> Profile:
    """Return the profile in ``path``, whose parents may lie beside it, in ``directories`` or be shipped.

    Raises:
        ProfileError: The file or a parent is wrong; every problem is listed.
    """
    if not path.is_file():
        raise ProfileError.of([_problem(path, "(file)", "no such file", "an existing .toml file")])
    return _load(path, profile_files((*directories, path.parent)))


def _folders(directories: Iterable[Path]) -> list[Path]:
    """Return the shipped and the given folders, each once."""
    return list({folder.resolve(): folder for folder in (SHIPPED, *directories)}.values())


def _shadow(path: Path, first: Path) -> Problem:
    allowed = "a name of its own; to change some values, inherit from it under another name"
    return _problem(path, "(file)", f'a second profile named "{path.stem}", after {first}', allowed)


def _problem(path: Path, key: str, found: str, allowed: str) -> Problem:
    return Problem(file=str(path), key=key, found=found, allowed=allowed)


def _try(path: Path, files: Mapping[str, Path]) -> Profile | ProfileError:
    try:
        return _load(path, files)
    except ProfileError as error:
        return error


def _load(path: Path, files: Mapping[str, Path]) -> Profile:
    problems = Problems(str(path))
    inherited: list[Problem] = []
    table = _complete(path, files, problems, inherited)
    if not problems.names("(file)"):
        tables.require(Profile, table, problems)
        checks.check(table, path.stem, problems)
    if problems.found or inherited:
        raise ProfileError.of([*problems.found, *inherited])
    return tables.build(Profile, table)


def _complete(
    path: Path, files: Mapping[str, Path], problems: Problems, inherited: list[Problem], seen: tuple[str, ...] = ()
) -> Table:
    """Return what the file and its ancestors say; problems of ancestors go to ``inherited``."""
    table = tables.read(Profile, _toml(path, problems), problems)
    parent, line = table.get("inherits"), (*seen, path.stem)
    if parent is None:
        return table
    if parent in line:
        problems.add("inherits", " -> ".join((*line, parent)), "a profile that does not lead back here")
    elif parent not in files:
        problems.unknown("inherits", parent, files)
    else:
        of_parent = Problems(str(files[parent]))
        base = _complete(files[parent], files, of_parent, inherited, line)
        inherited.extend(of_parent.found)
        return tables.inherit(base, table)
    return table


def _toml(path: Path, problems: Problems) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        problems.add("(file)", error.strerror or str(error), "a readable file")
    except UnicodeDecodeError:
        problems.add("(file)", "bytes that are not UTF-8", "TOML in UTF-8")
    except tomllib.TOMLDecodeError as error:
        problems.add("(file)", str(error), "TOML")
    return {}
