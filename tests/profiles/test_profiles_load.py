"""Profiles from files: inheritance, own directories, and every mistake at once."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepick_profiles import checks, tables
from edgepick_profiles.errors import ProfileError
from edgepick_profiles.load import SHIPPED, check_file, load_all, load_profile, profile_files
from edgepick_profiles.schema import Profile

GOOD = """
name = "{name}"
title = "A board"
recipes = ["float32"]

[hardware]
isa = "armv8-a"
cores = 4
clock_mhz = 1000
ram_bytes = "1 GiB"

[rules]
formats = ["tflite"]
number_types = ["float32", "int8"]

[[runtimes]]
name = "litert"
"""

MCU = """
name = "tiny"
title = "A microcontroller"
recipes = ["static_wi8_ai8"]
gateway = true

[hardware]
isa = "armv7e-m"
cores = 1
clock_mhz = 64
ram_bytes = "64 KiB"
flash_bytes = "512 KiB"

[rules]
formats = ["tflite"]
number_types = ["int8"]
integer_only = true
hybrid = false
operators = "tflm"

[[runtimes]]
name = "tflm"

[budgets]
arena_bytes = "32 KiB"
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text.replace("{name}", name))
    return path


def problems_of(path: Path, *directories: Path) -> dict[str, str]:
    """Return the problems of a wrong file: key -> its lines."""
    with pytest.raises(ProfileError) as caught:
        check_file(path, directories)
    assert str(caught.value).splitlines() == [str(p) for p in caught.value.problems]
    assert caught.value.hint
    found: dict[str, str] = {}
    for problem in caught.value.problems:
        found[problem.key] = f"{found.get(problem.key, '')}\n{problem}".strip()
    return found


def test_shipped_profile_by_name():
    """A shipped profile is found by its name alone."""
    assert load_profile("jetson-nano").title == "NVIDIA Jetson Nano (4 GB)"


def test_unknown_name_lists_what_is_known():
    """An unknown name is answered with the closest one and with all that are known."""
    with pytest.raises(ProfileError, match='did you mean "raspberry-pi-4"') as caught:
        load_profile("rasberry-pi-4")

    assert "esp32-s3" in str(caught.value)
    assert caught.value.exit_code == 2
    assert "profiles list" in caught.value.hint


def test_own_directory_adds_profiles(tmp_path: Path):
    """A user's directory comes after the shipped profiles, which stay."""
    write(tmp_path, "mine", GOOD)

    assert load_profile("mine", directories=[tmp_path]).hardware.ram_bytes == 1024**3
    assert {"mine", "raspberry-pi-4"} <= set(load_all([tmp_path]))


def test_own_directory_named_twice_is_read_once(tmp_path: Path):
    """The same folder under two spellings holds no duplicates."""
    write(tmp_path, "mine", GOOD)

    assert "mine" in profile_files([tmp_path, tmp_path / ".." / tmp_path.name])


def test_missing_directory_is_reported(tmp_path: Path):
    """A directory that is not there is an error, not an empty one."""
    with pytest.raises(ProfileError, match="no such directory"):
        load_all([tmp_path / "nowhere"])


def test_shipped_name_cannot_be_taken(tmp_path: Path):
    """A user's file named as a shipped profile is refused, saying what to do instead."""
    path = write(tmp_path, "raspberry-pi-4", GOOD)

    with pytest.raises(ProfileError, match="inherit from it under another name") as caught:
        load_profile("esp32-s3", directories=[tmp_path])

    assert str(path) in str(caught.value)
    assert str(SHIPPED / "raspberry-pi-4.toml") in str(caught.value)


def test_two_own_directories_cannot_share_a_name(tmp_path: Path):
    """One name in two directories of the user's is refused too."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, "mine", GOOD)

    with pytest.raises(ProfileError, match='a second profile named "mine"'):
        load_all([tmp_path / "a", tmp_path / "b"])


def test_inheriting_merges_tables_and_replaces_lists(tmp_path: Path):
    """A child keeps the parent's table entries it does not name; a list it names is wholly its own."""
    path = write(
        tmp_path,
        "pi-8gb",
        """
        name = "pi-8gb"
        title = "Raspberry Pi 4 with 8 GB"
        inherits = "raspberry-pi-4"
        recipes = ["float32"]
        hardware.ram_bytes = "8 GiB"
        """,
    )
    parent = load_profile("raspberry-pi-4")

    child = check_file(path)

    assert child.hardware.ram_bytes == 8 * 1024**3
    assert child.hardware.cores == parent.hardware.cores
    assert child.recipes == ("float32",)
    assert (child.rules, child.runtimes, child.budgets) == (parent.rules, parent.runtimes, parent.budgets)
    assert child.description == ""


def test_none_empties_an_inherited_budget(tmp_path: Path):
    """The word "none" takes back an optional value that the parent sets."""
    path = write(
        tmp_path,
        "orin-unmetered",
        'name = "orin-unmetered"\ntitle = "T"\ninherits = "jetson-orin-nano"\nbudgets.energy_mj = "none"',
    )

    child = check_file(path)

    assert child.budgets.energy_mj is None
    assert child.budgets.latency_p95_ms == load_profile("jetson-orin-nano").budgets.latency_p95_ms


def test_parents_may_lie_beside_the_file(tmp_path: Path):
    """A chain of own profiles is followed through its folder."""
    write(tmp_path, "base", GOOD)
    write(tmp_path, "middle", 'name = "{name}"\ntitle = "M"\ninherits = "base"\nhardware.cores = 2')
    leaf = write(tmp_path, "leaf", 'name = "{name}"\ntitle = "L"\ninherits = "middle"\nhardware.clock_mhz = 7')

    profile = check_file(leaf)

    assert (profile.hardware.cores, profile.hardware.clock_mhz) == (2, 7)


def test_unknown_parent_is_reported(tmp_path: Path):
    """A parent that does not exist is named, with the closest one."""
    path = write(tmp_path, "mine", GOOD + "\n").read_text()
    child = write(tmp_path, "mine", 'inherits = "jetson-nanno"\n' + path)

    assert 'did you mean "jetson-nano"?' in problems_of(child)["inherits"]


def test_circles_are_reported(tmp_path: Path):
    """Profiles that inherit from each other are refused, showing the circle."""
    a = write(tmp_path, "a", 'inherits = "b"\n' + GOOD)
    write(tmp_path, "b", 'inherits = "a"\n' + GOOD)

    assert "a -> b -> a" in problems_of(a)["inherits"]


def test_problems_of_a_parent_name_the_parents_file(tmp_path: Path):
    """A mistake that comes from a parent is reported in the parent's file."""
    parent = write(tmp_path, "base", GOOD + "threads = 0\n")
    child = write(tmp_path, "leaf", 'name = "leaf"\ntitle = "L"\ninherits = "base"')

    assert problems_of(child)["runtimes[0].threads"].startswith(str(parent))


def test_every_mistake_is_named_at_once(tmp_path: Path):
    """A file with many mistakes is answered with all of them, each with key, finding and what is allowed."""
    path = write(
        tmp_path,
        "bad",
        """
        name = "bod"
        inherit = "raspberry-pi-4"
        recipes = ["static_w8_ai8"]
        sensors = ["hwmon-ina3212"]
        gateway = "yes"
        [hardware]
        isa = ""
        cores = 0
        clock_mhz = "fast"
        ram_bytes = "1 GB"
        [rules]
        formats = ["tflit"]
        number_types = ["float32", "float32"]
        symmetric_qdq = 1
        [budgets]
        latency_p95_ms = -1
        peak_rss_bytes = "0 B"
        [[runtimes]]
        name = "onnxruntim"
        [[runtimes]]
        accelerators = ["cudda"]
        [[sources]]
        fact = "said somebody"
        """,
    )

    found = problems_of(path)

    assert set(found) == {
        "inherit",
        "recipes[0]",
        "sensors[0]",
        "gateway",
        "hardware.isa",
        "hardware.cores",
        "hardware.clock_mhz",
        "hardware.ram_bytes",
        "rules.formats[0]",
        "rules.number_types[1]",
        "rules.symmetric_qdq",
        "budgets.latency_p95_ms",
        "budgets.peak_rss_bytes",
        "runtimes[0].name",
        "runtimes[1].name",
        "sources[0].reference",
        "title",
        "name",
    }
    assert all(line.startswith(f"{path}: {key}: found ") and "; allowed: " in line for key, line in found.items())
    assert 'did you mean "inherits"?' in found["inherit"]
    assert 'did you mean "static_wi8_ai8"?' in found["recipes[0]"]
    assert 'did you mean "hwmon-ina3221"?' in found["sensors[0]"]
    assert 'did you mean "tflite"?' in found["rules.formats[0]"]
    assert 'did you mean "onnxruntime"?' in found["runtimes[0].name"]


def test_mistakes_of_several_files_come_together(tmp_path: Path):
    """Reading a whole directory reports the mistakes of all its files."""
    write(tmp_path, "one", GOOD + "threads = 0\n")
    write(tmp_path, "two", GOOD + "threads = 9\n")

    with pytest.raises(ProfileError) as caught:
        load_all([tmp_path])

    assert [p.key for p in caught.value.problems] == ["runtimes[0].threads"] * 2


def test_a_broken_file_does_not_hinder_others(tmp_path: Path):
    """Asking for one profile does not fail for a mistake in another."""
    write(tmp_path, "bad", "name = 3")

    assert load_profile("esp32-s3", directories=[tmp_path]).name == "esp32-s3"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name = ", "Invalid value"),
        (b"name = '\xff'", "not UTF-8"),
    ],
)
def test_files_that_are_no_toml(tmp_path: Path, content: bytes, message: str):
    """A file that cannot be read as TOML is one clear problem, without a list of missing keys."""
    path = tmp_path / "x.toml"
    path.write_bytes(content)

    found = problems_of(path)

    assert list(found) == ["(file)"]
    assert message in found["(file)"]


def test_missing_file(tmp_path: Path):
    """A path that leads nowhere is reported as such."""
    assert "no such file" in problems_of(tmp_path / "none.toml")["(file)"]


def test_empty_file_names_what_is_required(tmp_path: Path):
    """An empty file is answered with the keys that a profile needs."""
    assert set(problems_of(write(tmp_path, "x", ""))) == {
        "name",
        "title",
        "hardware.isa",
        "hardware.cores",
        "hardware.clock_mhz",
        "hardware.ram_bytes",
        "rules.formats",
        "rules.number_types",
        "runtimes",
        "recipes",
    }


@pytest.mark.parametrize(
    ("text", "size"),
    [("131072", 131072), ('"256 KiB"', 262144), ('"1MiB"', 1048576), ('"7.5 MiB"', 7864320), ('"512 B"', 512)],
)
def test_sizes_are_bytes_or_text(tmp_path: Path, text: str, size: int):
    """A size is whole bytes or a number with a binary unit."""
    path = write(tmp_path, "x", GOOD + f"[budgets]\nmodel_bytes = {text}\n")

    assert check_file(path).budgets.model_bytes == size


@pytest.mark.parametrize("text", ['"1 MB"', '"1.0000001 KiB"', '"-1 KiB"', '"KiB"', "1.5", "true", '"0 MiB"'])
def test_sizes_that_are_none(tmp_path: Path, text: str):
    """A size in other units, of part of a byte, or not positive is refused."""
    path = write(tmp_path, "x", GOOD + f"[budgets]\nmodel_bytes = {text}\n")

    assert list(problems_of(path)) == ["budgets.model_bytes"]


@pytest.mark.parametrize(
    ("old", "new", "key", "words"),
    [
        ('"static_wi8_ai8"', '"float32"', "recipes[0]", "integer_only is set"),
        ('["int8"]', '["int8", "float32"]', "rules.number_types", "no floats"),
        ('["int8"]', '["int16"]', "rules.number_types", "int8"),
        ("hybrid = false", "hybrid = true", "rules.hybrid", "integer_only is set"),
        ("gateway = true", "gateway = false", "gateway", "microcontroller"),
        ('operators = "tflm"', 'operators = "any"', "rules.operators", "the runtime is tflm"),
        ('name = "tflm"', 'name = "litert"', "runtimes", "tflm alone"),
        ('"32 KiB"', '"60 KiB"', "budgets.arena_bytes", "margin of 15%"),
        ('arena_bytes = "32 KiB"', 'model_bytes = "512 KiB"', "budgets.model_bytes", "hardware.flash_bytes"),
        ('arena_bytes = "32 KiB"', "energy_mj = 3.0", "budgets.energy_mj", "no power sensor"),
        ('arena_bytes = "32 KiB"', 'peak_rss_bytes = "1 MiB"', "budgets.peak_rss_bytes", "hardware.ram_bytes"),
        ('recipes = ["static_wi8_ai8"]', "recipes = []", "recipes", "at least one"),
        ('name = "tflm"', 'name = "tflm"\nthreads = 2', "runtimes[0].threads", "hardware.cores"),
        ('name = "tflm"', 'name = "tflm"\naccelerators = ["gpu"]', "runtimes[0].accelerators[0]", "cpu"),
        ('name = "tflm"', 'name = "tflm"\naccelerators = []', "runtimes[0].accelerators", "at least one"),
    ],
)
def test_contradictions_of_a_microcontroller(tmp_path: Path, old: str, new: str, key: str, words: str):
    """Parts of a profile that contradict each other are refused, naming both."""
    assert check_file(write(tmp_path, "tiny", MCU)).gateway
    assert old in MCU

    found = problems_of(write(tmp_path, "tiny", MCU.replace(old, new)))

    assert words in found[key]


@pytest.mark.parametrize(
    ("old", "new", "key", "words"),
    [
        ('["float32", "int8"]', '["int8"]', "recipes[0]", "rules.number_types"),
        ('["float32"]', '["float16"]', "recipes[0]", "float16"),
        ('["float32"]\n', '["dynamic_wi8_afp32"]\n', "recipes[0]", "rules.hybrid is false"),
        ('["tflite"]', '["tflite", "onnx"]', "rules.formats", "onnxruntime would"),
        ('["tflite"]', '["onnx"]', "runtimes[0].name", "rules.formats: onnx"),
        ('["tflite"]', '["tflite"]\nsymmetric_qdq = true', "rules.symmetric_qdq", "onnx"),
        ('["tflite"]', '["tflite", "onnx"]\noperators = "edgetpu"', "rules.formats", "tflite alone"),
        ("[[runtimes]]", '[budgets]\narena_bytes = "1 KiB"\n[[runtimes]]', "budgets.arena_bytes", "gateway"),
        ("[[runtimes]]", '[budgets]\npeak_rss_bytes = "2 GiB"\n[[runtimes]]', "budgets.peak_rss_bytes", "at most"),
    ],
)
def test_contradictions_of_a_board(tmp_path: Path, old: str, new: str, key: str, words: str):
    """Recipes, formats, runtimes and memory must fit each other."""
    text = GOOD.replace('number_types = ["float32", "int8"]', 'number_types = ["float32", "int8"]\nhybrid = false')
    assert check_file(write(tmp_path, "mine", text)).name == "mine"
    assert old in text

    found = problems_of(write(tmp_path, "mine", text.replace(old, new, 1)))

    assert words in found[key]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
keys = ["name", "title", "inherits", "hardware", "rules", "runtimes", "budgets", "recipes", "sensors", "sources", "x"]


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(keys), values, max_size=6))
def test_any_table_is_answered_with_problems(table: dict):
    """Whatever a table holds, reading and checking it ends in named problems, never in another error."""
    problems = tables.Problems("x.toml")

    read = tables.read(Profile, table, problems)
    tables.require(Profile, read, problems)
    checks.check(read, "x", problems)

    assert problems.found
