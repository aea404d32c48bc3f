"""Task files: what is accepted, and the one clear message for each thing that is wrong."""

import sys

import pytest
import torch

from edgepick_host.compress.training.task import load_task
from edgepick_host.errors import InputFileError


def test_data_in_the_files_layout_reach_the_module_in_its_own(task):
    """With channels_last, NHWC data become NCHW tensors of float32."""
    assert task.samples.x.shape == (96, 1, 8, 8)
    assert task.samples.x.dtype is torch.float32
    assert task.classes == 4
    assert not task.probabilities


def test_the_digest_follows_file_weights_and_data(write_task, task):
    """Other training data make another task, though model() is the same."""
    other = load_task(write_task("default_rng(0)", "default_rng(1)"))

    assert other.sha256 != task.sha256
    assert other.sha256 == load_task(other.path).sha256


READS = """
import json, pathlib
read = lambda name: json.loads((pathlib.Path(__file__).parent / name).read_text())
of_the_file = train_data

def train_data():
    x, y = of_the_file()
    return x * read("scale.json"), y

def student():
    return Net(read("width.json"))

def teachers():
    torch.manual_seed(read("teacher.json"))
    return [Net(8)]

def unlabelled_data():
    return np.full((3, 8, 8, 1), read("unlabelled.json"), np.float32)

def evaluate(module):
    return read("measure.json")
"""


@pytest.mark.parametrize("name", ["scale", "width", "teacher", "unlabelled", "measure"])
def test_the_digest_follows_what_the_functions_return(write_task, tmp_path, name):
    """A file that a function reads makes another task when it changes, and the same task when it changes back."""
    for each in ("scale", "width", "teacher", "unlabelled", "measure"):
        (tmp_path / f"{each}.json").write_text("4")
    path = write_task(new=READS)
    first = load_task(path).sha256

    (tmp_path / f"{name}.json").write_text("5")
    second = load_task(path).sha256
    (tmp_path / f"{name}.json").write_text("4")

    assert first != second
    assert load_task(path).sha256 == first


@pytest.mark.parametrize("name", ["net.py", "nets/net.py", "nets/small/net.py"])
def test_the_digest_follows_the_neighbours_code(write_task, tmp_path, name):
    """A module that the file may import makes another task when it changes, in packages too; other files do not."""
    (tmp_path / "nets/small").mkdir(parents=True)
    (tmp_path / "nets/__init__.py").touch()
    neighbour = tmp_path / name
    neighbour.write_text("RATE = 1\n")
    path = write_task()
    first = load_task(path).sha256

    (tmp_path / "notes.txt").write_text("changed")
    with_notes = load_task(path).sha256
    neighbour.write_text("RATE = 2\n")

    assert with_notes == first
    assert load_task(path).sha256 != first


def test_a_folder_that_holds_itself_ends_the_search_for_neighbours(write_task, tmp_path):
    """Links to a folder above are not followed, of which two lead to more paths than anyone can read."""
    path = write_task()
    alone = load_task(path).sha256
    for name in ("again", "and_again"):
        (tmp_path / name).symlink_to(tmp_path)

    assert load_task(path).sha256 == alone


def test_the_folder_is_on_the_path_only_while_the_file_runs(write_task, tmp_path):
    """A task file may import its neighbour, and leaves neither path nor neighbour behind."""
    (tmp_path / "neighbour_of_task.py").write_text("WIDTH = 8\n")
    path = write_task(new="\nimport neighbour_of_task\n")

    load_task(path)

    assert str(tmp_path) not in sys.path
    assert "neighbour_of_task" not in sys.modules


def test_what_the_file_prints_stays_off_standard_output(write_task, capsys):
    """A chatty task file does not spoil --json."""
    load_task(write_task("    torch.manual_seed(3)", "    print('hello')"))

    captured = capsys.readouterr()
    assert captured.out == ""
    assert "hello" in captured.err


def test_a_student_follows_the_seed_alone(task):
    """The same seed gives the same first weights whatever the program drew before."""
    torch.rand(5)
    first = task.student(seed=4).stem.weight
    again = task.student(seed=4).stem.weight

    assert torch.equal(first, again)
    assert not torch.equal(first, task.student(seed=5).stem.weight)


BAD = {
    "syntax": ("def model():", "def model(:", ["line", "syntax"]),
    "raises on import": ("channels_last = True", "raise RuntimeError('no GPU here')",
                         ["the file raised", "no GPU here", "line 6"]),
    "exits": ("channels_last = True", "import sys; sys.exit('bye')", ["SystemExit", "bye"]),
    "no model": ("def model", "def network", ["defines no model()", "network"]),
    "no data": ("def train_data", "def data", ["defines no train_data()"]),
    "model raises": ("    return Net(8)", "    return Net(8, 9)", ["model() raised TypeError", "line 35", "Net(8, 9)"]),
    "no module": ("return Net(8)", "return 7", ["model() returned int", "torch.nn.Module"]),
    "weights are NaN": (
        "    return Net(8)",
        "    net = Net(8)\n    net.stem.bias.data[0] = float('nan')\n    return net",
        ["model() has NaN", "stem.bias"],
    ),
    "not a pair": ("return x, y", "return x", ["train_data() returned ndarray", "pair (x, y)"]),
    "lists": ("return x, y", "return x.tolist(), y", ["returned list for x", "numpy array"]),
    "empty": ("return x, y", "return x[:0], y[:0]", ["holds no samples"]),
    "NaN": ("return x, y", "x[3, 0, 0, 0] = np.nan; return x, y", ["x[3, 0, 0, 0] is nan"]),
    "lengths": ("return x, y", "return x, y[:-1]", ["y has the shape [95]", "[96] is expected"]),
    "float labels": ("return x, y", "return x, y * 1.0", ["y has the type float64", "integers"]),
    "label outside": ("return x, y", "y[5] = 4; return x, y", ["y[5] is 4", "4 classes, 0 to 3"]),
    "one class": ("return x, y", "return x, y * 0", ["class 0 only"]),
    "channels": ("channels_last = True", "channels_last = False", ["model() does not take x of shape [4, 8, 8, 1]"]),
    "switch": ("channels_last = True", "channels_last = 1", ["channels_last is 1", "True or False"]),
    "rank": ("return x, y", "return x[..., 0], y", ["x has the shape [96, 8, 8]", "[N, H, W, C]"]),
    "answers": ("torch.flatten(self.pool(y), 1))", "self.pool(y))", ["model() does not take x of shape [4, 1, 8, 8]"]),
    "maps": ("        return self.head(", "        return y\n        return (", ["one tensor [4, classes]"]),
    "student's answers": (
        "return Net(4)",
        "net = Net(4); net.head = nn.Linear(16, 3); return net",
        ["student() answers with 3 values, model() with 4"],
    ),
    "student raises": ("return Net(4)", "return 1 / 0", ["student() raised ZeroDivisionError", "1 / 0"]),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_whatever_is_wrong_is_named(what, write_task):
    """Each mistake gives one message with the file, the function, what was found and what is allowed."""
    old, new, words = BAD[what]
    path = write_task(old, new)

    with pytest.raises(InputFileError) as caught:
        load_task(path)

    message = str(caught.value)
    assert str(path) in message
    assert "Traceback" not in message
    for word in words:
        assert word in message


EXTRA = {
    "evaluate raises": ("def evaluate(module):\n    return module.nothing\n", "evaluate() raised"),
    "evaluate gives text": ("def evaluate(module):\n    return 'good'\n", "returned 'good'; a number"),
    "evaluate gives NaN": ("def evaluate(module):\n    return float('nan')\n", "returned nan"),
    "teachers is no list": ("def teachers():\n    return Net(8)\n", "teachers() returned Net"),
    "teacher with other answers": ("def teachers():\n    return [nn.Flatten()]\n", "teachers()[0] answers with 64"),
    "unlabelled of another shape": ("def unlabelled_data():\n    return np.zeros((3, 8, 4, 1))\n", "unlabelled_data()"),
    "augment drops samples": (
        "def augment(x, dice):\n    return x[:2]\n",
        "augment() answers with Tensor of shape [2, 1, 8, 8] to x of shape [4, 1, 8, 8]",
    ),
    "augment gives arrays": ("def augment(x, dice):\n    return x.numpy()\n", "augment() answers with ndarray"),
    "a value for a function": ("evaluate = 3\n", "evaluate is int, not a function"),
}


@pytest.mark.parametrize("what", EXTRA)
def test_optional_functions_are_checked_as_well(what, write_task):
    """What is optional must still be right where it is there."""
    text, expected = EXTRA[what]

    with pytest.raises(InputFileError) as caught:
        load_task(write_task(new="\n\n" + text))

    assert expected in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    """A missing task file is said to be missing."""
    with pytest.raises(InputFileError, match=r"absent\.py: cannot be read"):
        load_task(tmp_path / "absent.py")


def test_evaluate_is_called_with_the_module(write_task):
    """The user's own measure is what evaluate() returns."""
    task = load_task(write_task(new="\n\ndef evaluate(module):\n    return 0.25 if isinstance(module, Net) else 0\n"))

    assert task.evaluate(task.module) == 0.25
