"""What the parts of one profile must be to each other. Pure.

Each check takes a table (see :mod:`edgepick_profiles.tables`) whose wrong values were left out,
and stays silent about what is missing, so that one mistake never hides or repeats another.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from edgepick_profiles import schema
from edgepick_profiles.schema import NumberType, OperatorSet
from edgepick_profiles.tables import Problems, Table, closest
from edgepick_wire.errors import BadNameError
from edgepick_wire.ids import check_name
from edgepick_wire.manifest import ModelFormat, RuntimeChoice, RuntimeName

Finding = tuple[str, str, str, str]
"""Key, what was found, what is allowed, what was probably meant."""

FLOATS = frozenset({NumberType.FLOAT32, NumberType.FLOAT16})


def check(table: Table, stem: str, problems: Problems) -> None:
    """Note every contradiction in a profile that is read from the file ``stem``.toml."""
    _name(table.get("name", stem), stem, problems)
    for find in _CHECKS:
        for key, found, allowed, guess in find(table):
            problems.add(key, found, allowed, guess)


def _name(name: str, stem: str, problems: Problems) -> None:
    if name != stem:
        problems.add("name", f'"{name}"', f'"{stem}", the name of its file')
        return
    try:
        check_name("profile", name)
    except BadNameError:
        problems.add("name", f'"{name}"', "1 to 64 of a-z 0-9 . _ - after a letter or digit, as its file's name")


def _not_empty(table: Table) -> Iterator[Finding]:
    rules = _part(table, "rules")
    lists = {
        "recipes": table.get("recipes"),
        "runtimes": table.get("runtimes"),
        "rules.formats": rules.get("formats"),
        "rules.number_types": rules.get("number_types"),
    }
    for key, value in lists.items():
        if value == ():
            yield key, "an empty list", "at least one entry", ""
    for i, choice in enumerate(_runtimes(table)):
        if not choice.accelerators:
            yield f"runtimes[{i}].accelerators", "an empty list", "at least one entry", ""


def _integer_only(table: Table) -> Iterator[Finding]:
    rules = _part(table, "rules")
    if not rules.get("integer_only"):
        return
    types = rules.get("number_types")
    if types and (NumberType.INT8 not in types or FLOATS & set(types)):
        yield "rules.number_types", _words(types), "int8, perhaps int16, no floats, as rules.integer_only is set", ""
    if rules.get("hybrid", True):
        yield "rules.hybrid", "true", "false, as rules.integer_only is set", ""
    for i, recipe in enumerate(table.get("recipes", ())):
        if not schema.KNOWN_RECIPES[recipe].integer_only:
            allowed = ", ".join(name for name, traits in schema.KNOWN_RECIPES.items() if traits.integer_only)
            yield f"recipes[{i}]", f'"{recipe}"', f"{allowed}, as rules.integer_only is set", ""


def _recipes(table: Table) -> Iterator[Finding]:
    rules = _part(table, "rules")
    if rules.get("integer_only"):
        return
    types = rules.get("number_types")
    for i, recipe in enumerate(table.get("recipes", ())):
        traits = schema.KNOWN_RECIPES[recipe]
        missing = traits.number_types - set(types or traits.number_types)
        if missing:
            allowed = f"recipes without {_words(sorted(missing))}, which rules.number_types does not name"
            yield f"recipes[{i}]", f'"{recipe}"', allowed, ""
        if traits.hybrid and not rules.get("hybrid", True):
            yield f"recipes[{i}]", f'"{recipe}"', "recipes that are not hybrid, as rules.hybrid is false", ""


def _formats(table: Table) -> Iterator[Finding]:
    rules = _part(table, "rules")
    formats = rules.get("formats") or ()
    if formats and rules.get("symmetric_qdq") and ModelFormat.ONNX not in formats:
        yield "rules.symmetric_qdq", "true", "false, as it is about onnx, which rules.formats does not name", ""
    operators = rules.get("operators", OperatorSet.ANY)
    if formats and operators is not OperatorSet.ANY and set(formats) != {ModelFormat.TFLITE}:
        yield "rules.formats", _words(formats), f"tflite alone, as rules.operators is {operators.value}", ""


def _runtime_choices(table: Table) -> Iterator[Finding]:
    choices = _runtimes(table)
    for i, choice in enumerate(choices):
        words = schema.RUNTIME_ACCELERATORS[choice.name]
        for j, name in enumerate(choice.accelerators):
            if name not in words:
                yield f"runtimes[{i}].accelerators[{j}]", f'"{name}"', ", ".join(words), closest(name, words)
    cores = _part(table, "hardware").get("cores")
    for i, choice in enumerate(choices):
        if cores is not None and choice.threads > cores:
            yield f"runtimes[{i}].threads", str(choice.threads), f"at most hardware.cores, {cores}", ""


def _readers(table: Table) -> Iterator[Finding]:
    formats, choices = _part(table, "rules").get("formats") or (), _runtimes(table)
    if not formats or not choices:
        return
    read = {schema.RUNTIME_FORMATS[choice.name] for choice in choices}
    for model_format in formats:
        if model_format not in read:
            able = [name.value for name, f in schema.RUNTIME_FORMATS.items() if f is model_format]
            yield "rules.formats", model_format.value, f"formats that a runtime reads; {_or(able)} would", ""
    for i, choice in enumerate(choices):
        needed = schema.RUNTIME_FORMATS[choice.name]
        if needed not in formats:
            found = f"{choice.name.value}, which reads {needed.value}"
            yield f"runtimes[{i}].name", found, f"runtimes for rules.formats: {_words(formats)}", ""


def _gateway(table: Table) -> Iterator[Finding]:
    names = {choice.name for choice in _runtimes(table)}
    if not names:
        return
    if table.get("gateway") and names != {RuntimeName.TFLM}:
        yield "runtimes", _words(sorted(names)), "tflm alone, as gateway is set", ""
    if RuntimeName.TFLM in names and not table.get("gateway"):
        yield "gateway", "false", "true, as the runtime tflm stands for a microcontroller", ""
    operators = _part(table, "rules").get("operators", OperatorSet.ANY)
    if RuntimeName.TFLM in names and operators is not OperatorSet.TFLM:
        yield "rules.operators", operators.value, "tflm, as the runtime is tflm", ""


def _memory(table: Table) -> Iterator[Finding]:
    hardware, budgets = _part(table, "hardware"), _part(table, "budgets")
    ram, flash = hardware.get("ram_bytes"), hardware.get("flash_bytes")
    arena, peak, model = (budgets.get(k) for k in ("arena_bytes", "peak_rss_bytes", "model_bytes"))
    if ram and arena and arena * (1 + schema.ARENA_MARGIN) >= ram:
        share = f"{schema.ARENA_MARGIN:.0%}"
        yield "budgets.arena_bytes", str(arena), f"less than hardware.ram_bytes ({ram}) with a margin of {share}", ""
    if ram and peak and peak > ram:
        yield "budgets.peak_rss_bytes", str(peak), f"at most hardware.ram_bytes, {ram}", ""
    if flash and model and model >= flash:
        yield "budgets.model_bytes", str(model), f"less than hardware.flash_bytes, {flash}", ""
    if arena and table.get("runtimes") and not table.get("gateway"):
        yield "budgets.arena_bytes", str(arena), "nothing, as only microcontrollers (gateway = true) have an arena", ""


def _energy(table: Table) -> Iterator[Finding]:
    energy = _part(table, "budgets").get("energy_mj")
    if energy and not table.get("sensors"):
        yield "budgets.energy_mj", str(energy), "nothing, as no power sensor is named in sensors", ""


_CHECKS: tuple[Callable[[Table], Iterator[Finding]], ...] = (
    _not_empty,
    _integer_only,
    _recipes,
    _formats,
    _runtime_choices,
    _readers,
    _gateway,
    _memory,
    _energy,
)


def _part(table: Table, name: str) -> Mapping[str, Any]:
    part = table.get(name)
    return part if isinstance(part, dict) else {}


def _runtimes(table: Table) -> tuple[RuntimeChoice, ...]:
    runtimes: tuple[RuntimeChoice, ...] = table.get("runtimes", ())
    return runtimes


def _words(values: Any) -> str:
    return ", ".join(v.value for v in values)


def _or(words: list[str]) -> str:
    return " or ".join(words)
