"""The tables of docs/devices.md, made from the rules themselves.

``python tests/docs/device_tables.py`` writes them into the page; a test compares the two.
"""

import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgepick_host.core.operator_tables import EDGE_TPU_OPERATORS, TFLM_WITHOUT_INT8, EdgeTpuOperator
from edgepick_host.core.tensorrt_rules import TENSORRT_RULES
from edgepick_profiles.load import load_all
from edgepick_profiles.schema import Profile

PAGE = Path(__file__).parents[2] / "docs/devices.md"
WIDTH = 118
UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "bytes"))


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def size_text(count: int | None) -> str:
    if count is None:
        return ""
    unit, name = next((unit, name) for unit, name in UNITS if count >= unit)
    return f"{count / unit:g} {name}"


def profile_row(profile: Profile) -> list[str]:
    rules, budgets = profile.rules, profile.budgets
    return [
        f"`{profile.name}`",
        ", ".join(f"`.{each.value}`" for each in rules.formats),
        ", ".join(each.value for each in rules.number_types) + (" only" if rules.integer_only else ""),
        rules.operators.value if not rules.symmetric_qdq else "TensorRT's pairs",
        size_text(budgets.model_bytes),
        size_text(budgets.arena_bytes),
    ]


def edge_tpu_row(name: str, line: EdgeTpuOperator) -> list[str]:
    checked = [] if line.fused_activation else ["no fused activation"]
    checked += ["constant weights"] if line.constant_weights else []
    return [
        f"`{name}`",
        f"{line.confidence.value}: {line.source}",
        str(line.max_version),
        f"{line.version_confidence.value}: {line.version_source}",
        "; ".join(checked),
        line.note,
    ]


def tables() -> dict[str, str]:
    """Return each table by the name in the page's markers."""
    columns = (
        "operator",
        "the Edge TPU has it",
        "highest version",
        "and who says so",
        "checked",
        "the compiler checks",
    )
    return {
        "profiles": markdown(
            ("profile", "formats", "number types", "operators", "model", "arena"),
            [profile_row(profile) for _, profile in sorted(load_all().items())],
        ),
        "edge-tpu": markdown(columns, [edge_tpu_row(name, line) for name, line in EDGE_TPU_OPERATORS.items()]),
        "tensorrt": markdown(
            ("rule", "confidence", "source"),
            [(rule.title, rule.confidence.value, rule.source) for rule in TENSORRT_RULES],
        ),
        "tflm-without-int8": textwrap.fill(", ".join(f"`{name}`" for name in sorted(TFLM_WITHOUT_INT8)), WIDTH),
    }


def updated(page: str) -> str:
    """Return the page with every table as it should be."""
    for name, table in tables().items():
        begin, end = f"<!-- table: {name} -->", "<!-- end -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        page, count = pattern.subn(lambda _, text=f"{begin}\n{table}\n{end}": text, page)
        if count != 1:
            raise ValueError(f"{PAGE.name}: {count} places for the table {name}")
    return page


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text()))
