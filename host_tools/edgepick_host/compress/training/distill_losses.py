"""The losses of knowledge distillation, each as published. All take batches first and give a scalar."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

TINY = 1e-12


def softened(scores: Tensor, temperature: float) -> Tensor:
    """Return ``softmax(scores / T)``, ``[N, classes]``."""
    return torch.softmax(scores / temperature, dim=1)


def divergence(student: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Return ``KL(target || softmax(student / T))``, mean over the batch.

    Args:
        student: Logits.
        target: Probabilities.
        temperature: T.
    """
    return functional.kl_div(torch.log_softmax(student / temperature, dim=1), target, reduction="batchmean")


def response_loss(student: Tensor, teacher: Tensor, y: Tensor, *, temperature: float, alpha: float) -> Tensor:
    """Return ``(1 - alpha) CE(student, y) + alpha T^2 KL(teacher_T || student_T)`` (Hinton et al. 2015).

    T^2 keeps the size of the soft part's gradients independent of T.

    Args:
        student: Logits ``[N, classes]``.
        teacher: Logits ``[N, classes]``; no gradient flows to them.
        y: Labels ``[N]``.
        temperature: T.
        alpha: Share of the teacher (0..1).
    """
    soft = divergence(student, softened(teacher.detach(), temperature), temperature)
    return (1 - alpha) * functional.cross_entropy(student, y) + alpha * temperature**2 * soft


def averaged_targets(teachers: Sequence[Tensor], temperature: float) -> Tensor:
    """Return the mean of the teachers' softened probabilities, ``[N, classes]``."""
    return torch.stack([softened(each.detach(), temperature) for each in teachers]).mean(dim=0)


def hint_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of two feature maps of one shape, relative to the teacher's mean square.

    FitNets (Romero et al. 2015); the student's comes through an adapter that gives it the teacher's channels.
    """
    taught = teacher.detach()
    return functional.mse_loss(_fitted(student, taught), taught) / taught.square().mean().clamp_min(TINY)


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference of normalised spatial attention, summed over places.

    Attention is the sum of squares over channels, divided by its norm (Zagoruyko and Komodakis 2017); the numbers of
    channels may differ.
    """
    taught = teacher.detach()
    return (attention(_fitted(student, taught)) - attention(taught)).square().sum(dim=1).mean()


def attention(features: Tensor) -> Tensor:
    """Return ``[N, H * W]`` of ``[N, C, H, W]``: sums of squares over channels, of norm 1."""
    return functional.normalize(features.square().sum(dim=1).flatten(1), dim=1)


def _fitted(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the student's map in the teacher's height and width."""
    if student.ndim == 4 and student.shape[2:] != teacher.shape[2:]:
        return functional.adaptive_avg_pool2d(student, list(teacher.shape[2:]))
    return student


def relation_loss(student: Tensor, teacher: Tensor, *, distance: float = 1.0, angle: float = 2.0) -> Tensor:
    """Return how far the batch's distances and angles differ (RKD, Park et al. 2019, with its weights).

    Args:
        student: ``[N, ...]``, flattened here.
        teacher: ``[N, ...]``; the sizes may differ.
        distance: Weight of pairwise distances.
        angle: Weight of the angles of triples.
    """
    s, t = student.flatten(1), teacher.detach().flatten(1)
    loss = distance * functional.smooth_l1_loss(distances(s), distances(t))
    return loss + angle * functional.smooth_l1_loss(angles(s), angles(t))


def distances(features: Tensor) -> Tensor:
    """Return the distance of each pair ``[N, N]``, in units of the batch's mean distance."""
    squares = (features[:, None] - features[None]).square().sum(dim=2)
    away = ~torch.eye(len(features), dtype=torch.bool)
    found = torch.where(away, squares.clamp_min(TINY).sqrt(), torch.zeros(()))
    return found / found[away].mean().clamp_min(TINY)


def angles(features: Tensor) -> Tensor:
    """Return the cosine of the angle at the first of each triple, ``[N, N, N]``."""
    towards = functional.normalize(features[None] - features[:, None], dim=2)
    return torch.bmm(towards, towards.transpose(1, 2))
