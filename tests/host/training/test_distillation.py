"""Distillation: the published formulae, who is trained, and what a student is made from."""

import copy
import math

import pytest
import torch
from torch import nn

from edgepick_host.compress.passes import train_distill
from edgepick_host.compress.training import distill
from edgepick_host.compress.training import distill_losses as losses
from edgepick_host.compress.training.comparison import compare_distillation, count, few_of
from edgepick_host.compress.training.distill import METHODS, Lesson
from edgepick_host.compress.training.features import embedding, maps
from edgepick_host.compress.training.student import derive_student, droppable_blocks
from edgepick_host.compress.training.trainer import Plan
from edgepick_host.errors import CompressionError


def test_the_response_loss_is_the_published_formula():
    """(1 - alpha) CE + alpha T^2 KL, computed by hand for two classes."""
    student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 0.0]])
    t, alpha = 2.0, 0.3
    p = math.exp(3 / t) / (math.exp(3 / t) + 1)
    q = math.exp(1 / t) / (math.exp(1 / t) + 1)
    kl = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    ce = -math.log(1 / (1 + math.exp(1.0)))

    found = losses.response_loss(student, teacher, torch.tensor([1]), temperature=t, alpha=alpha)

    assert float(found) == pytest.approx((1 - alpha) * ce + alpha * t * t * kl, rel=1e-5)


def test_soft_gradients_keep_their_size_at_every_temperature():
    """For high T the T^2-scaled gradient tends to (student - teacher) / classes, whatever T (Hinton et al.)."""
    teacher = torch.tensor([[0.6, -0.2, -0.4]])
    for t in (50.0, 200.0):
        student = torch.zeros(1, 3, requires_grad=True)
        losses.response_loss(student, teacher, torch.tensor([0]), temperature=t, alpha=1.0).backward()
        assert torch.allclose(student.grad, -teacher / 3, atol=5e-3)


def test_averaged_targets_are_the_mean_of_softened_answers():
    """Two opposite teachers give an even target."""
    a = torch.tensor([[2.0, 0.0]])

    assert torch.allclose(losses.averaged_targets([a, -a], 3.0), torch.tensor([[0.5, 0.5]]))


def test_hints_are_relative_to_the_teachers_size():
    """A student of zeros is wrong by 1, whatever the teacher's scale."""
    teacher = torch.randn(2, 3, 4, 4) * 70

    assert float(losses.hint_loss(torch.zeros(2, 3, 4, 4), teacher)) == pytest.approx(1.0, rel=1e-5)
    assert float(losses.hint_loss(teacher, teacher)) == 0.0


def test_attention_does_not_see_channels_or_scale():
    """Twice the values in twice the channels pay attention to the same places."""
    teacher = torch.rand(2, 3, 4, 4)
    student = torch.cat([teacher, teacher], dim=1) * 5

    assert float(losses.attention_loss(student, teacher)) == pytest.approx(0.0, abs=1e-10)
    assert float(losses.attention_loss(torch.rand(2, 3, 2, 2), teacher)) > 0


def test_relations_do_not_see_turns_and_scale():
    """Distances in units of their mean, and angles, are the same after a rotation and a scaling."""
    teacher = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    turn = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(1))).Q

    assert float(losses.relation_loss(teacher @ turn * 7, teacher)) == pytest.approx(0.0, abs=1e-6)
    assert float(losses.relation_loss(torch.flip(teacher, [0]), teacher)) > 0.01


def test_distances_and_angles_of_a_right_triangle():
    """Sides 3, 4 and 5 around their mean 4, and the right angle's cosine 0."""
    corners = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])

    assert losses.distances(corners)[0].tolist() == pytest.approx([0.0, 0.75, 1.0])
    assert float(losses.angles(corners)[0, 1, 2]) == pytest.approx(0.0, abs=1e-6)
    assert float(losses.angles(corners)[1, 0, 2]) == pytest.approx(0.6)


@pytest.mark.parametrize("kind", ["hint", "attention", "relation"])
def test_networks_are_compared_at_places_of_one_size(kind, task):
    """Maps of one height and width are paired; adapters give the student's the teacher's channels."""
    student = task.student(seed=0)
    pairs = distill.pairs_of(kind, student, task.module, task.probe)

    for mine, its in pairs.values():
        assert mine.shape[1:] == its.shape[1:] or kind == "relation"
        adapted = distill.adapter(mine, its)(torch.zeros(2, *mine.shape))
        assert adapted.shape == (2, *its.shape)


def test_maps_and_embedding_of_a_network_are_found(task):
    """The last map of 8x8 is that of the last block, and the head takes 32 values."""
    assert maps(task.module, task.probe)[8, 8].layer == "blocks"
    assert embedding(task.module, task.probe).shape == (32,)


@pytest.fixture
def taught(context, few_steps, with_task):
    """Give a context with two teachers and unlabelled data."""
    second = copy.deepcopy(context.task.module)
    return with_task(teachers=(second,), unlabelled=context.held_out.x)


@pytest.mark.parametrize("method", METHODS)
def test_only_the_student_learns(method, taught, few_steps):
    """Each method changes the student, and no bit of any teacher."""
    teachers = [taught.task.module, *taught.task.teachers]
    before = [copy.deepcopy(each.state_dict()) for each in teachers]
    student = taught.task.student(seed=2)
    first = copy.deepcopy(student.state_dict())

    result = METHODS[method](student, teachers, taught, Lesson(plan=few_steps, rounds=1))

    for teacher, state in zip(teachers, before, strict=True):
        assert all(torch.equal(state[name], value) for name, value in teacher.state_dict().items())
        assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not torch.equal(result.state_dict()["stem.weight"], first["stem.weight"])


def test_several_teachers_come_first_alone_and_then_with_the_labels(taught, few_steps, monkeypatch):
    """The first stage has no labels (alpha 1), the second has both."""
    stages: list[float] = []
    monkeypatch.setattr(distill, "response_of", lambda _teachers, _context, lesson: stages.append(lesson.alpha))
    monkeypatch.setattr(distill, "_fit", lambda *_: None)

    distill.two_stages(nn.Flatten(), [nn.Flatten(), nn.Flatten()], taught, Lesson(plan=few_steps, alpha=0.6))

    assert stages == [1.0, 0.6]


def test_each_generation_learns_from_the_one_before_and_the_ensemble_teaches_the_last(taught, few_steps, monkeypatch):
    """Three trainings for two generations; the third has both as its teachers."""
    seen: list[int] = []

    def note(student, teachers, _context, _lesson):
        seen.append(len(teachers))
        return student

    monkeypatch.setattr(distill, "response", note)
    distill.born_again(nn.Linear(2, 2), [nn.Linear(2, 2)], taught, Lesson(plan=few_steps, rounds=2))

    assert seen == [1, 1, 2]


@pytest.mark.parametrize(
    ("method", "words"), [("multi_teacher", r"teachers\(\)"), ("noisy_student", r"unlabelled_data\(\)")]
)
def test_what_a_method_lacks_is_said(method, words, context):
    """The hint names the function to add to the task file."""
    with pytest.raises(CompressionError) as caught:
        train_distill.build()(context.task.module, {"method": method, "epochs": "1"}, context)

    assert __import__("re").search(words, caught.value.hint)


def test_a_student_of_half_the_width_has_about_a_quarter_of_the_weights(task):
    """Channels are cut everywhere, and the answers keep their shape."""
    student = derive_student(task.module, task.probe, width=0.5, depth=1.0)

    assert count(student) < 0.5 * count(task.module)
    assert student(task.probe).shape == (4, 4)


def test_a_student_of_half_the_depth_has_one_block_less(task):
    """Blocks that keep their shape are left out from the end."""
    assert droppable_blocks(task.module, task.probe) == ["blocks.0", "blocks.1"]

    student = derive_student(task.module, task.probe, width=1.0, depth=0.5)

    assert isinstance(student.blocks[1], nn.Identity)
    assert not isinstance(student.blocks[0], nn.Identity)


def test_random_weights_keep_each_layers_size(task):
    """A scale that is folded into the weights survives the new start."""
    student = derive_student(task.module, task.probe, width=1.0, depth=1.0, inherit=False)

    old, new = (float(each.stem.weight.detach().square().mean()) for each in (task.module, student))
    assert new == pytest.approx(old, rel=1e-4)
    assert not torch.equal(student.stem.weight, task.module.stem.weight)


def test_a_network_without_blocks_says_that_none_can_be_left_out(task):
    """Depth is refused in words where no block keeps its shape."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))

    with pytest.raises(CompressionError, match=r"depth=0\.5: no block"):
        derive_student(net, task.probe, width=1.0, depth=0.5)


@pytest.mark.parametrize("student", ["given", "derived", "current"])
def test_the_pass_takes_every_kind_of_student(student, context):
    """The task's own, one derived from the module, or the module as it is; the module given stays untouched."""
    before = copy.deepcopy(context.task.module.state_dict())

    result = train_distill.build()(context.task.module, {"student": student, "width": "0.5", "epochs": "1"}, context)

    smaller = count(result) < count(context.task.module)
    assert smaller is (student != "current")
    assert all(torch.equal(before[name], value) for name, value in context.task.module.state_dict().items())


def test_the_comparison_gives_both_students_the_same_data_and_start(task):
    """Accuracies of each seed, with and without the teacher, and the sizes of both networks."""
    found = compare_distillation(
        task, task.samples, seeds=(0, 1), per_class=3, plan=Plan(steps=4, batch=8), say=lambda _: None
    )

    assert found.labelled == 12
    assert found.student_parameters < found.teacher_parameters
    assert set(found.taught) == set(found.alone) == {0, 1}
    assert found.gain[0] == pytest.approx(sum(found.taught[s] - found.alone[s] for s in (0, 1)) / 2)
    assert len(few_of(task.samples, 0, 0)) == len(task.samples)
