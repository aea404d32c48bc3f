"""Fewer dimensions: factorized layers and embeddings, folded principal components, shared weights."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from edgepick_host.compress.passes import train_cluster, train_embedding, train_low_rank, train_pca
from edgepick_host.compress.training import factorize, pca
from edgepick_host.compress.training.clusters import Codebooks
from edgepick_host.compress.training.export import export_module
from edgepick_host.compress.training.masks import prunable
from edgepick_host.compress.training.recovery import normalized
from edgepick_host.compress.training.samples import Samples
from edgepick_host.errors import CompressionError
from edgepick_wire.manifest import ModelFormat


def numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture
def tabular(cut_context):
    """Provide a context of tables with 24 features that really are 3, and a dense network for them."""
    dice = torch.Generator().manual_seed(0)
    hidden = torch.randn(80, 3, generator=dice)
    x = hidden @ torch.randn(3, 24, generator=dice) + 5.0
    samples = Samples(x=x, y=(hidden[:, 0] > 0).long())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
    task = replace(cut_context.task, module=module, samples=samples, classes=2)
    return replace(cut_context, task=task, data=samples, held_out=samples)


@pytest.mark.parametrize("spatial", [False, True])
def test_the_largest_energy_answers_as_the_whole_layer(spatial):
    """Factors of full rank are the layer, strides and padding and bias included."""
    layer = nn.Sequential(nn.Conv2d(3, 5, (3, 5), stride=(2, 1), padding=(1, 2)))
    x = torch.randn(2, 3, 9, 8)
    split = factorize._spatial if spatial else lambda *given: factorize._convolution(*given, spatial=False)
    whole = split("0", layer[0], (x.shape, layer(x).shape))
    thin = copy.deepcopy(layer)

    factorize.replace(thin, whole, len(whole.singular_values))

    with torch.no_grad():
        torch.testing.assert_close(thin(x), layer(x), atol=1e-4, rtol=1e-4)


def test_the_rank_is_the_least_that_keeps_the_energy():
    """By hand: singular values 4, 2, 2, 1 have 16, 20, 24, 25 of 25."""
    layer = nn.Linear(4, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.diag(torch.tensor([4.0, 2.0, 2.0, 1.0])))
    whole = factorize._dense("x", layer)

    assert [whole.rank_of(energy) for energy in (0.5, 0.64, 0.65, 0.8, 0.96, 1.0)] == [1, 1, 2, 2, 3, 4]


def test_layers_are_replaced_only_where_work_falls(cut_context):
    """The largest rank of each layer still has fewer parameters and multiplications."""
    for spatial in (False, True):
        for each in factorize.decompositions(cut_context.task.module, cut_context.task.probe, spatial=spatial):
            rank = each.largest_rank
            assert numbers(each.factors(rank)) - numbers(cut_context.task.module.get_submodule(each.name)) < 0
            assert rank * each.macs_per_rank < each.macs
            assert each.saved(rank) > 0 >= each.saved(rank + 1) or (rank + 1) * each.macs_per_rank >= each.macs


@pytest.mark.parametrize("how", [{"energy": "0.6"}, {"rank": "tolerance"}, {"energy": "0.6", "split": "space"}])
def test_low_rank_makes_a_smaller_module(cut_context, how):
    """By energy or by tolerance; the module given stays as it is."""
    context = replace(cut_context, max_accuracy_drop=0.3)
    before = numbers(context.task.module)

    found = train_low_rank.build()(context.task.module, {"epochs": "1", **how}, context)

    assert numbers(found) < before == numbers(context.task.module)
    assert found(context.task.probe).shape == (4, 4)


def test_the_tolerance_bounds_what_factorization_may_lose(cut_context):
    """Without training afterwards, the held-out accuracy is within the tolerance."""
    from edgepick_host.compress.training.trainer import accuracy

    context = replace(cut_context, max_accuracy_drop=0.1)

    found = train_low_rank.build()(context.task.module, {"rank": "tolerance", "epochs": "0"}, context)

    least = accuracy(context.task.module, context.held_out) - 0.1
    assert accuracy(found, context.held_out) >= least


def test_no_saving_is_an_error(cut_context):
    """Keeping all energy cannot save anything, and that is said."""
    with pytest.raises(CompressionError, match="no layer becomes smaller"):
        train_low_rank.build()(cut_context.task.module, {"energy": "1"}, cut_context)


def test_an_embedding_becomes_two_factors(cut_context):
    """E = A B: of full rank it gives the same vectors; of a lower one it is smaller."""
    table = nn.Embedding(40, 12)

    same, thin = factorize.split_embedding(table, 12), factorize.split_embedding(table, 3)

    ids = torch.arange(40)
    torch.testing.assert_close(same(ids), table(ids), atol=1e-5, rtol=1e-4)
    assert numbers(thin) == 3 * (40 + 12)
    found = train_embedding.build()(nn.Sequential(table), {"rank": "3", "epochs": "0"}, cut_context)
    torch.testing.assert_close(found(ids), thin(ids))
    with pytest.raises(CompressionError, match="none of 0 embeddings"):
        train_embedding.build()(cut_context.task.module, {}, cut_context)


def test_folded_components_are_the_two_steps_in_one(tabular):
    """The first layer gives (x - mean) C; where nothing is lost, the network answers as before."""
    module, x = tabular.task.module, tabular.data.x
    mean, components = pca.principal_components(x, 0.9999)

    first = pca.projected(module[0], mean, components)

    assert components.shape == (24, 3)
    with torch.no_grad():
        torch.testing.assert_close(first[0](x), (x - mean) @ components, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(first(x), module[0](x), atol=1e-2, rtol=1e-2)


def test_the_model_on_components_still_takes_the_raw_features(tabular):
    """It has fewer parameters, the projection is not trained, and the exported file takes 24 features."""
    x = tabular.data.x
    _, components = pca.principal_components(x, 0.95)

    found = train_pca.build()(tabular.task.module, {"epochs": "2"}, tabular)

    assert numbers(found) < numbers(tabular.task.module)
    torch.testing.assert_close(found[0][0].weight, components.T)
    assert found(x).shape == (80, 2)
    assert export_module(found, ModelFormat.ONNX, x[:4], channels_last=False)


def test_components_of_images_or_of_no_use_are_refused(cut_context, tabular):
    """Images have no features to project, and features that are independent are all needed."""
    noise = Samples(x=torch.randn(80, 24, generator=torch.Generator().manual_seed(1)), y=tabular.data.y)

    with pytest.raises(CompressionError, match="tabular"):
        train_pca.build()(cut_context.task.module, {}, cut_context)
    with pytest.raises(CompressionError, match="not become smaller"):
        train_pca.build()(tabular.task.module, {}, replace(tabular, data=noise))


def test_trained_layers_share_as_many_values_as_asked(cut_context):
    """At most so many values besides zero, after centroids were trained; zeros stay zeros."""
    module = copy.deepcopy(cut_context.task.module)
    with torch.no_grad():
        module.first.weight[:4] = 0.0

    found = train_cluster.build()(module, {"clusters": "6", "epochs": "1"}, cut_context)

    for name in prunable(module):
        values = found.get_submodule(name).weight.unique()
        assert len(values[values != 0]) <= 6
    assert (found.first.weight[:4] == 0).all()
    assert not torch.equal(found.second.weight, _clustered(module).second.weight)


def _clustered(module: nn.Module) -> nn.Module:
    shared = copy.deepcopy(module)
    Codebooks(shared, 6)
    return shared


def test_batch_norms_come_back_without_a_change():
    """A network with folded norms answers as before; one with norms is only copied."""
    folded = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Flatten()).eval()
    x = torch.randn(16, 1, 8, 8)

    found = normalized(folded, x)

    assert sum(isinstance(part, nn.BatchNorm2d) for part in found.modules()) == 2
    with torch.no_grad():
        torch.testing.assert_close(found(x), folded(x), atol=1e-4, rtol=1e-4)
    assert numbers(normalized(found, x)) == numbers(found)
