"""The Edge TPU compiler's log is read as users paste it, and nothing in it can end a search."""

import string

from hypothesis import example, given
from hypothesis import strategies as st

from edgepick_host.core.edge_tpu import MAPPED, EdgeTpuFacts, OperatorStatus, failure_in, read_log

WHOLE = """\
Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 557 ms.

Input model: mobilenet.tflite
Input size: 4.08MiB
Output model: mobilenet_edgetpu.tflite
Output size: 4.46MiB
On-chip memory used for caching model parameters: 4.25MiB
On-chip memory remaining for caching model parameters: 3.39MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 31
Operation log: mobilenet_edgetpu.log

Operator                       Count      Status

DEPTHWISE_CONV_2D              13         Mapped to Edge TPU
RESHAPE                        1          Mapped to Edge TPU
SOFTMAX                        1          Mapped to Edge TPU
CONV_2D                        15         Mapped to Edge TPU
AVERAGE_POOL_2D                1          Mapped to Edge TPU
Compilation child process completed within timeout period.
Compilation succeeded!
"""

PARTIAL = """\
Edge TPU Compiler version 15.0.340273435

Model compiled successfully in 1379 ms.

Input model: model.tflite
Input size: 4.41MiB
Output model: model_edgetpu.tflite
Output size: 5.49MiB
On-chip memory used for caching model parameters: 1.92MiB
On-chip memory remaining for caching model parameters: 1.75KiB
Off-chip memory used for streaming uncached model parameters: 3.23MiB
Number of Edge TPU subgraphs: 1
Total number of operations: 26
Operation log: model_edgetpu.log

Model successfully compiled but not all operations are supported by the Edge TPU. A percentage of the model will \
instead run on the CPU, which is slower. If possible, consider updating your model to use only operations supported \
by the Edge TPU. For details, visit g.co/coral/model-reqs.
Number of operations that will run on Edge TPU: 20
Number of operations that will run on CPU: 6

Operator                       Count      Status

LOGISTIC                       1          More than one subgraph is not supported
ADD                            10         Mapped to Edge TPU
CONCATENATION                  1          More than one subgraph is not supported
CONCATENATION                  10         Mapped to Edge TPU
CUSTOM                         1          Operation is working on an unsupported data type
TRANSPOSE_CONV                 2          Operation version not supported
HARD_SWISH                     1          Operation is otherwise supported, but not mapped due to some unspecified limitation
"""  # noqa: E501 - a line of the compiler's own

FAILED = """\
Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.
ERROR: Restored original execution plan after delegate application failure.
Compilation failed: Compilation failed due to large activation tensors in model.
Compilation child process completed within timeout period.
Compilation failed!
"""


def test_a_model_that_is_mapped_whole():
    """Version, operators, memory on and off the chip, and subgraphs are what the log says."""
    facts = read_log(WHOLE)

    assert facts.compiler == "16.0.384591198"
    assert (facts.mapped, facts.total, facts.subgraphs) == (31, 31, 1)
    assert facts.operators[0] == OperatorStatus(name="DEPTHWISE_CONV_2D", count=13, status=MAPPED)
    assert [line.name for line in facts.operators][-1] == "AVERAGE_POOL_2D"
    assert (facts.on_chip_bytes, facts.on_chip_left_bytes, facts.off_chip_bytes) == (4_456_448, 3_554_673, 0)
    assert facts.short == "31 of 31 operators"


def test_a_model_that_is_mapped_in_part():
    """Every operator that stays on the CPU is named with the compiler's own reason, and streaming is told."""
    facts = read_log(PARTIAL)

    assert (facts.mapped, facts.total, facts.off_chip_bytes) == (20, 26, 3_386_900)
    assert "TRANSPOSE_CONV (2) on the CPU: Operation version not supported" in facts.text
    assert "HARD_SWISH (1) on the CPU: Operation is otherwise supported" in facts.text
    assert "3,386,900 bytes of parameters streamed at every inference" in facts.text
    assert facts.short == "20 of 26 operators, 3,386,900 B streamed"


def test_the_reason_of_a_failure_is_found():
    """Of a log that ends in a failure, the line that tells most is chosen, whichever version wrote it."""
    assert failure_in(FAILED) == "Compilation failed due to large activation tensors in model."
    assert failure_in("Edge TPU Compiler version 14.1\n\nInternal compiler error. Aborting! \n").startswith("Internal")
    assert failure_in("Invalid model: model.tflite\nModel not quantized\n") == "Invalid model: model.tflite"
    assert failure_in("ERROR: Op builtin_code out of range: 150.\n") == "Op builtin_code out of range: 150."
    assert failure_in("Compilation failed! \n") == ""


def test_what_a_log_does_not_say_stays_unknown():
    """A log without memory and table gives no figures instead of zeros."""
    facts = read_log("Edge TPU Compiler version 16.0.384591198\n")

    assert facts == EdgeTpuFacts(compiler="16.0.384591198")
    assert facts.on_chip_bytes is None


def test_a_log_without_end_is_told_in_short():
    """However long and wide a table is, what is said of it fits where it is kept: a manifest, a note."""
    rows = "".join(f"{'O' * 9000}{i}  1  {'why' * 9000}\n" for i in range(2000))

    facts = read_log(f"Operator  Count  Status\n{rows}")

    assert len(facts.text) < 8192
    assert facts.total == 500
    assert "490 more on the CPU" in facts.text


@given(st.text() | st.text(alphabet=string.printable))
@example("9" * 400 + ".0MiB")
@example("9" * 5000)
def test_no_text_is_too_odd_for_the_reader(text):
    """Whatever a program of that name prints is read without an error, and can be said."""
    memory, table = "On-chip memory used for caching model parameters", "Operator  Count  Status"
    facts = read_log(f"Number of Edge TPU subgraphs: {text}\n{memory}: {text}\n{table}\n{text}")

    assert 0 <= facts.mapped <= facts.total
    assert isinstance(facts.text + facts.short + failure_in(text), str)


STATUSES = st.sampled_from([MAPPED, "Operation not supported", "Operation version not supported"])
ROWS = st.lists(
    st.builds(
        OperatorStatus,
        name=st.text(alphabet=string.ascii_uppercase + string.digits + "_", min_size=1, max_size=30),
        count=st.integers(0, 9999),
        status=STATUSES,
    ),
    max_size=20,
)


@given(ROWS, st.integers(0, 1023), st.sampled_from(["B", "KiB", "MiB"]))
def test_a_table_that_is_written_is_read_back(rows, size, unit):
    """Any table and any size in the compiler's form come back as they were."""
    table = "".join(f"{row.name:<30} {row.count:<10} {row.status}\n" for row in rows)
    log = f"Off-chip memory used for streaming uncached model parameters: {size:.2f}{unit}\n"

    facts = read_log(f"{log}\nOperator                       Count      Status\n\n{table}Compilation succeeded! \n")

    assert facts.operators == tuple(rows)
    assert facts.off_chip_bytes == size * {"B": 1, "KiB": 1024, "MiB": 1024**2}[unit]
