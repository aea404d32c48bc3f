"""What a firmware engineer gets: it compiles, it is the variant, and tflite-micro answers its golden vectors."""

import ctypes
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepick_host import app
from edgepick_host.cli.main import run
from edgepick_host.compress.arena import measure_arena
from edgepick_host.compress.dataset import Dataset
from edgepick_host.compress.export_c_files import float_literal
from edgepick_host.compress.request import CompressRequest
from edgepick_host.compress.source import describe
from edgepick_host.compress.tflm_child import open_interpreter
from edgepick_host.core.operator_tables import TFLM_OPERATORS, resolver_method
from edgepick_host.core.verify import tflm_tolerance
from edgepick_host.errors import CompressionError, HostError, InputFileError
from edgepick_profiles.load import load_profile
from edgepick_wire.manifest import ModelFormat

C11 = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
INT8, INT16 = "static_wi8_ai8-tflite", "static_wi8_ai16_int_io-tflite"
STAND_INS = Path(__file__).parent / "tflm_stand_in"
"""Headers with the signatures of tflite-micro's that the sources use, and nothing behind them."""

METHODS = """
AddAbs AddAdd AddAddN AddArgMax AddArgMin AddAssignVariable AddAveragePool2D AddBatchMatMul AddBatchToSpaceNd
AddBroadcastArgs AddBroadcastTo AddCallOnce AddCast AddCeil AddConcatenation AddConv2D AddCos AddCumSum
AddDepthToSpace AddDepthwiseConv2D AddDequantize AddElu AddEqual AddExp AddExpandDims AddFill AddFloor AddFloorDiv
AddFloorMod AddFullyConnected AddGather AddGatherNd AddGreater AddGreaterEqual AddHardSwish AddIf AddL2Normalization
AddL2Pool2D AddLeakyRelu AddLess AddLessEqual AddLog AddLogicalAnd AddLogicalNot AddLogicalOr AddLogistic AddMaxPool2D
AddMaximum AddMean AddMinimum AddMul AddNeg AddNotEqual AddPack AddPad AddPadV2 AddPrelu AddQuantize AddReduceMax
AddRelu AddRelu6 AddReshape AddResizeBilinear AddResizeNearestNeighbor AddRound AddRsqrt AddShape AddSin AddSlice
AddSoftmax AddSpaceToBatchNd AddSpaceToDepth AddSplit AddSplitV AddSqrt AddSquare AddSqueeze AddStridedSlice AddSub
AddSvdf AddTanh AddTranspose AddTransposeConv AddUnidirectionalSequenceLSTM AddUnpack AddVarHandle AddWhile
AddZerosLike
""".split()  # noqa: SIM905 - a block of names reads better than as many quotes
"""Read in ``micro_mutable_op_resolver.h`` of tflite-micro; newer operators are not in that revision."""


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory) -> Path:
    """Provide what compressing for a microcontroller leaves: int8, and int16 as it was asked for."""
    out = tmp_path_factory.mktemp("made") / "out"
    request = CompressRequest(
        models=(tiny.tflite,),
        profiles=(load_profile("mcu-cortex-m4"), load_profile("generic-linux")),
        calibration=tiny.calibration,
        evaluation=tiny.evaluation,
        out=out,
        max_accuracy_drop=0.5,
        recipes=("static_wi8_ai8", "static_wi8_ai16_int_io", "float32"),
    )
    app.compress_model(request, say=lambda _: None)
    return out


@pytest.fixture(scope="module", params=[INT8, INT16])
def sources(made, request, tmp_path_factory) -> Path:
    return exported(made, request.param, tmp_path_factory.mktemp("c") / "sources")


def exported(made: Path, variant: str, out: Path, **options) -> Path:
    settings = {"prefix": "", "samples": 3, "force": False} | options
    app.export_c(made, variant, out, say=lambda _: None, **settings)
    return out


def command(*words: str) -> str:
    """Return the path of a compiler, or skip."""
    found = shutil.which(words[0])
    if found is None:
        pytest.skip(f"{words[0]} is not installed here")
    return found


def compiled(compiler: str, *arguments: object) -> None:
    done = subprocess.run([compiler, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_sources_compile_without_a_warning_and_are_whole(sources, tmp_path):
    """As strict C11, everything compiles, links, and finds its own data unharmed."""
    compiled(command("gcc"), *C11, *sorted(sources.glob("*.c")), "-o", tmp_path / "self_check")

    assert subprocess.run([tmp_path / "self_check"], check=False).returncode == 0


def test_a_damaged_model_does_not_pass_the_self_check(sources, tmp_path):
    """One wrong byte in the array, and the program says so."""
    copy = Path(shutil.copytree(sources, tmp_path / "copy"))
    model = next(copy.glob("*_model.c"))
    text = model.read_text()
    spot = text.rindex("0x00")
    model.write_text(f"{text[:spot]}0x01{text[spot + 4 :]}")
    compiled(command("gcc"), *C11, *sorted(copy.glob("*.c")), "-o", tmp_path / "self_check")

    assert subprocess.run([tmp_path / "self_check"], check=False).returncode != 0


@pytest.mark.parametrize("cpu", ["cortex-m4", "cortex-m7", "cortex-m0plus"])
def test_the_sources_compile_for_a_microcontroller(sources, tmp_path, cpu):
    """So they do for Cortex-M, and the model takes exactly its bytes of read-only memory, nothing of RAM."""
    gcc = command("arm-none-eabi-gcc")
    target = [f"-mcpu={cpu}", "-mthumb", "-Os"]
    for source in sources.glob("*.c"):
        compiled(gcc, *target, *C11, "-c", source, "-o", tmp_path / f"{source.stem}.o")

    (model,) = tmp_path.glob("*_model.o")
    sizes = subprocess.run(["arm-none-eabi-size", model], capture_output=True, text=True, check=True).stdout
    text, data, bss = (int(number) for number in sizes.splitlines()[1].split()[:3])
    assert (text, data, bss) == (json.loads((sources / "export.json").read_text())["model_bytes"], 0, 0)


@pytest.mark.parametrize("compiler", ["g++", "arm-none-eabi-g++"])
def test_the_registration_and_the_main_compile(sources, tmp_path, compiler):
    """The C++ sources compile against headers with tflite-micro's signatures (a stand-in for its sources)."""
    found = command(compiler)
    for source in sources.glob("*.cc"):
        flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{STAND_INS}"]
        compiled(found, *flags, "-c", source, "-o", tmp_path / f"{source.stem}.o")


def test_tflite_micro_runs_what_was_compiled(sources, tmp_path):
    """The model's bytes out of the compiled array, in the header's arena, answer the golden inputs as they must."""
    library = tmp_path / "sources.so"
    files = [path for path in sources.glob("*.c") if not path.name.endswith("_self_check.c")]
    compiled(command("gcc"), *C11, "-shared", "-fPIC", *files, "-o", library)
    code = ctypes.CDLL(str(library))
    record = json.loads((sources / "export.json").read_text())
    model = bytes((ctypes.c_ubyte * record["model_bytes"]).in_dll(code, f"{record['prefix']}_model"))
    given = inputs_of(code, record, model)

    interpreter = open_interpreter(model, record["arena_with_margin_bytes"])
    differences = []
    for sample, values in enumerate(given):
        interpreter.set_input(values, 0)
        interpreter.invoke()
        answer = np.ascontiguousarray(interpreter.get_output(0))
        difference = code[f"{record['prefix']}_difference_0"]
        differences.append(difference(answer.ctypes.data_as(ctypes.c_void_p), ctypes.c_size_t(sample)))

    assert model == (sources / f"{record['prefix']}.tflite").read_bytes()
    assert len(differences) == record["golden_vectors"] == 3
    assert max(differences) <= record["allowed_steps"] == (16 if "int16" in given.dtype.name else 1)


def inputs_of(code: ctypes.CDLL, record: dict, model: bytes) -> np.ndarray:
    (tensor,) = describe(model, ModelFormat.TFLITE, Path("m")).inputs
    element = {"int8": ctypes.c_int8, "int16": ctypes.c_int16}[tensor.dtype]
    count = int(np.prod(tensor.shape)) * record["golden_vectors"]
    raw = (element * count).in_dll(code, f"{record['prefix']}_golden_input_0")
    return np.frombuffer(bytes(raw), dtype=tensor.dtype).reshape(record["golden_vectors"], *tensor.shape)


def test_the_helpers_round_and_saturate(sources, tmp_path):
    """Real values become the integers that the host computes, and come back; too large ones end at the type's ends."""
    library = tmp_path / "quantize.so"
    compiled(command("gcc"), *C11, "-shared", "-fPIC", *sources.glob("*_quantize.c"), "-o", library)
    code, prefix = ctypes.CDLL(str(library)), json.loads((sources / "export.json").read_text())["prefix"]
    header = (sources / f"{prefix}_model.h").read_text()
    kind = np.int8 if "INPUT_0_TYPE int8_t" in header else np.int16
    scale, zero = (
        float(text.rstrip("f").strip("()")) for text in macros(header, "INPUT_0_SCALE", "INPUT_0_ZERO_POINT")
    )
    quantize = code[f"{prefix}_quantize_input_0"]
    quantize.argtypes, quantize.restype = [ctypes.c_float], ctypes.c_int16

    for value in (0.0, scale, -scale, 3.3 * scale, -3.3 * scale):
        assert kind(quantize(value)) == round(value / scale + zero)
    assert kind(quantize(1e30)) == np.iinfo(kind).max
    assert kind(quantize(-1e30)) == np.iinfo(kind).min
    assert kind(quantize(float("nan"))) == np.iinfo(kind).min


def macros(header: str, *names: str) -> list[str]:
    lines = [line.split() for line in header.splitlines() if line.startswith("#define")]
    return [next(line[2] for line in lines if line[1].endswith(name)) for name in names]


def test_exactly_the_models_operators_are_registered(sources):
    """Each kind of operator in the file is registered once, and the resolver has room for just these."""
    record = json.loads((sources / "export.json").read_text())
    prefix = record["prefix"]
    registered = [line.split(".")[1].split("(")[0] for line in lines_with(sources / f"{prefix}_ops.cc", "resolver.Add")]

    names = describe((sources / f"{prefix}.tflite").read_bytes(), ModelFormat.TFLITE, Path("m")).operator_names
    assert sorted(registered) == sorted(resolver_method(name) for name in names)
    assert f"MicroMutableOpResolver<{len(names)}>" in (sources / f"{prefix}_ops.h").read_text()


def lines_with(path: Path, part: str) -> list[str]:
    return [line for line in path.read_text().splitlines() if part in line]


def test_every_registration_is_a_method_of_the_resolver():
    """No operator of the table leads to a name that tflite-micro does not have, as far as its header was read."""
    ours = {resolver_method(name) for name in TFLM_OPERATORS}

    assert set(METHODS) <= ours


def test_the_same_variant_gives_the_same_bytes(made, tmp_path):
    """Exporting twice writes the same files, and over an earlier export without asking."""
    one = exported(made, INT8, tmp_path / "one")
    before = contents(one)

    exported(made, INT8, one)

    assert contents(exported(made, INT8, tmp_path / "two")) == before == contents(one)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_arena_of_the_header_is_the_measured_one_with_its_margin(made, tmp_path):
    """The header holds what variants.json says, and 15 % more in multiples of 16."""
    out = exported(made, INT8, tmp_path / "out")
    variants = json.loads((made / "variants.json").read_text())["variants"]
    arena = next(v["arena_bytes"] for v in variants if v["name"] == INT8)

    measured, reserved = macros((out / "tiny_model.h").read_text(), "ARENA_MEASURED_BYTES", "ARENA_BYTES")

    assert int(measured) == arena
    assert 1.15 * arena <= int(reserved) <= 1.15 * arena + 16
    assert int(reserved) % 16 == 0


@pytest.mark.parametrize(
    ("variant", "options", "said"),
    [
        ("none", {}, INT8),
        ("float32-tflite", {}, "is float32"),
        (INT8, {"prefix": "9 lives"}, "C name"),
        (INT8, {"prefix": "Digits"}, "lower case"),
    ],
)
def test_what_cannot_be_exported_is_said(made, tmp_path, variant, options, said):
    """An unknown variant, one with floats, and a prefix that is no C name are refused; nothing is written."""
    with pytest.raises(HostError) as caught:
        exported(made, variant, tmp_path / "out", **options)

    assert said in f"{caught.value} {caught.value.hint}"
    assert list(tmp_path.iterdir()) == []


def test_a_changed_model_is_not_exported(made, tmp_path):
    """A file that is not the one that variants.json names is refused."""
    copy = Path(shutil.copytree(made, tmp_path / "made"))
    path = copy / INT8 / "model.tflite"
    path.write_bytes(path.read_bytes() + b"\0")

    with pytest.raises(InputFileError, match="is not the file"):
        exported(copy, INT8, tmp_path / "out")


def test_a_foreign_folder_is_left_alone(made, tmp_path):
    """Sources of somebody's are not overwritten; with --force they are moved aside."""
    out = tmp_path / "firmware"
    out.mkdir()
    (out / "main.c").write_text("int main(void) { return 0; }")

    with pytest.raises(InputFileError, match="something else"):
        exported(made, INT8, out)
    exported(made, INT8, out, force=True)

    assert (tmp_path / "firmware.before-1" / "main.c").exists()
    assert (out / "export.json").exists()


def test_an_interrupted_export_leaves_nothing(made, tmp_path, monkeypatch):
    """When the disk is full in the middle, no folder with a part of the sources is left."""
    whole = Path.write_bytes

    def fails_late(path: Path, data: bytes) -> int:
        if path.name.endswith("_main.cc"):
            raise OSError(28, "No space left on device")
        return whole(path, data)

    monkeypatch.setattr(Path, "write_bytes", fails_late)
    with pytest.raises(CompressionError, match="cannot be written: No space"):
        exported(made, INT8, tmp_path / "out")

    assert list(tmp_path.iterdir()) == []


def test_the_command_says_what_it_wrote(made, tmp_path, capsys):
    """`edgepick export` prints flash, arena with its margin, operators and golden vectors; --json the record."""
    assert run(["export", str(made), INT8, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert run(["export", str(made), INT8, "--out", str(tmp_path / "out"), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)

    assert f"{record['arena_with_margin_bytes']:,} bytes of RAM" in said
    assert "CONV_2D" in said
    assert record["golden_vectors"] == 4
    assert run(["export", str(made), "none", "--out", str(tmp_path / "none")]) == 2


@pytest.mark.parametrize("name", ["ad01", "kws", "resnet8"])
def test_published_models_answer_within_the_tolerance(published, name, rng):
    """tflite-micro is within 1 step of the reference kernels on MLPerf Tiny, 3 on its ten dense layers."""
    path = published / f"{name}_int8_reference.tflite"
    facts = describe(path.read_bytes(), ModelFormat.TFLITE, path)
    x = rng.normal(0, 20, (16, *facts.inputs[0].shape[1:])).astype(np.float32)

    arena = measure_arena(path.read_bytes(), Dataset(source=path, arrays={"x": x}, labels=None), facts.inputs)

    assert arena.failure == ""
    assert arena.max_lsb <= tflm_tolerance(facts) == (3 if name == "ad01" else 1)


@given(st.floats(width=32, min_value=2.0**-120, max_value=2.0**120))
def test_scales_come_back_as_they_were(value: float):
    """The literal of a float32 reads back as exactly that, and is one in C."""
    text = float_literal(value)

    assert text.endswith("f")
    assert "e" in text
    assert np.float32(text[:-1]) == np.float32(value)
