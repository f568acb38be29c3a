"""Graph networks: the graph, the split, the layers against dense arithmetic, and what plug-ins make of them."""

import sys
from functools import partial

import pytest
import torch
from avalanche.core import SupervisedPlugin
from torch.nn.functional import cross_entropy

from cl_nvrm.analysis.complexity import features, intra_class_variance
from cl_nvrm.errors import UserError
from cl_nvrm.generalization.graphs import node_classification, stochastic_blocks
from cl_nvrm.noise import weight_noise
from cl_nvrm.plugins.fisher import diagonal_fisher
from cl_nvrm.plugins.nsr import NSRPlugin
from cl_nvrm.plugins.sam import SAMPlugin
from cl_nvrm.spec import catalog, grammar
from cl_nvrm.training.checkpoint import Checkpoint
from cl_nvrm.training.evaluate import shares_right
from cl_nvrm.training.stack import run_stack
from cl_nvrm.training.train import run_one

SIZES = {"nodes": 1500, "classes": 6, "inputs": 64, "degree": 10.0, "within": 0.5, "noise": 4.0}
KINDS = ["gcn", "sage"]
SMALL = "nodes=200,classes=4,labelled=10,inputs=20,noise=2,width=8"
each_kind = pytest.mark.parametrize("kind", KINDS)
blocks = partial(stochastic_blocks, **SIZES)


@pytest.fixture
def graph_spec(toy_spec):
    pytest.importorskip("torch_geometric")

    def make(strategy="naive", settings="", **changes):
        values = {"epochs": 10, "batch_size": 40, "lr": 0.01} | changes
        return toy_spec(strategy, benchmark=f"community-graph:{SMALL}{settings}", **values)

    return make


@pytest.fixture
def network():
    """Return a small network of a kind, with its graph."""
    pytest.importorskip("torch_geometric")
    from cl_nvrm.models.graph import GraphNetwork

    def make(kind, depth=1, classes=3):
        graph = blocks(seed=1, nodes=30, classes=classes, inputs=5, degree=2.0)
        torch.manual_seed(0)
        made = GraphNetwork(graph.features, graph.edges, classes, kind=kind, width=7, depth=depth)
        for p in made.parameters():  # biases, too
            torch.nn.init.normal_(p)
        return made, graph

    return make


def node(*numbers):
    return torch.tensor(numbers, dtype=torch.float32)[:, None]


def everything(graph):
    return node(*range(len(graph.labels)))


def adjacency(graph):
    dense = torch.zeros(len(graph.labels), len(graph.labels), dtype=torch.double)
    dense[graph.edges[0], graph.edges[1]] = 1.0
    return dense


def bits(model):
    return [p.detach().clone() for p in model.parameters()]


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def test_the_graph_has_the_degrees_and_features_that_were_asked_for():
    graph = blocks(seed=0, nodes=3000)
    source, target = graph.edges
    dense = adjacency(graph)
    assert torch.equal(dense, dense.T) and not dense.diagonal().any()
    assert dense.sum() == len(source), "an edge is there twice"
    assert len(source) / 3000 == pytest.approx(10, rel=0.03)
    assert float((graph.labels[source] == graph.labels[target]).float().mean()) == pytest.approx(0.5, abs=0.02)
    assert graph.labels.bincount().tolist() == [500] * 6
    assert intra_class_variance(graph.features, graph.labels) / 64 == pytest.approx(16, rel=0.02)
    spread = torch.stack([graph.features[graph.labels == j].mean(0) for j in range(6)]).var(0, correction=1).mean()
    assert float(spread) == pytest.approx(1 + 16 / 500, rel=0.2)


def test_the_seed_decides_the_graph_and_edges_do_not_depend_on_features():
    one, same, other, wide = blocks(seed=0), blocks(seed=0), blocks(seed=1), blocks(seed=0, inputs=3)
    assert torch.equal(one.edges, same.edges) and torch.equal(one.features, same.features)
    assert not torch.equal(one.edges, other.edges) and not torch.equal(one.features, other.features)
    assert torch.equal(one.edges, wide.edges)


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"classes": 1}, "classes must be at least 2"),
        ({"nodes": 11}, "at least two a class"),
        ({"within": 1.5}, "within a share"),
        ({"noise": -1.0}, "at least 0"),
        ({"degree": 600.0}, "249 are of a node's own class and 1250 of others"),
    ],
)
def test_graphs_that_cannot_be_drawn_are_refused(sizes, says):
    with pytest.raises(ValueError, match=says):
        blocks(seed=0, **sizes)


def test_few_nodes_of_each_class_are_trained_on_and_held_out_ones_are_among_them():
    graph = blocks(seed=0)
    whole, held = (node_classification(graph, labelled=20, holdout=h, model=lambda _: None) for h in (0, 60))
    train, test, rest, aside = whole.train[0], whole.test[0], held.train[0], held.test[0]
    assert torch.equal(torch.cat([train.images, test.images]), everything(graph))
    assert torch.equal(torch.cat([rest.images, aside.images]), train.images)
    for part in (train, test, rest, aside):
        assert torch.equal(part.labels, graph.labels[part.images.long().view(-1)])
    assert train.labels.bincount().tolist() == [20] * 6
    assert rest.labels.bincount().tolist() == aside.labels.bincount().tolist() == [10] * 6
    assert whole.recipe.batch_size == held.recipe.batch_size == len(train)


@pytest.mark.parametrize(("changes", "says"), [({"labelled": 0}, "labelled"), ({"labelled": 250}, "labelled")])
def test_splits_that_leave_nothing_are_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        node_classification(blocks(seed=0), **{"holdout": 0, **changes}, model=lambda _: None)
    with pytest.raises(ValueError, match="within the 120 labelled nodes"):
        node_classification(blocks(seed=0), labelled=20, holdout=120, model=lambda _: None)


def test_what_is_watched_goes_to_another_device():
    made = node_classification(blocks(seed=0), labelled=20, holdout=0, model=lambda _: None)
    assert [name for watched in made.watched for name in watched.against] == ["test accuracy", "training accuracy"]
    for watched, task in zip(made.watched, (made.test[0], made.train[0]), strict=True):
        ((index, labels),) = watched.against.values()
        assert torch.equal(labels, task.labels) and torch.equal(index, torch.arange(len(task)))
        ((index, labels),) = watched.to("meta").against.values()
        assert labels.device.type == "meta" and index.device.type == "cpu" and watched.to("meta").data is task


def test_gcn_is_the_published_formula(network):
    """Kipf and Welling, eq. 2: D^-1/2 (A + I) D^-1/2 H W, degrees with the loop; an isolated node keeps its own."""
    model, graph = network("gcn", depth=2)
    loops = adjacency(graph) + torch.eye(30)
    assert (loops.sum(1) == 1).any(), "no isolated node in this test"
    spread = loops / (loops.sum(1)[:, None] * loops.sum(1)).sqrt()
    h = graph.features.double()
    for convolution, response in zip(model.convolutions, model.responses, strict=True):
        h = (spread @ h @ convolution.lin.weight.T.double() + response.bias).clamp(min=0)
    logits = spread @ h @ model.output.lin.weight.T.double() + model.output.bias
    torch.testing.assert_close(model(everything(graph)).double(), logits, rtol=1e-4, atol=1e-5)


def test_graphsage_is_a_nodes_own_part_and_the_mean_of_its_neighbours(network):
    model, graph = network("sage", depth=2)
    dense = adjacency(graph)
    mean = dense / dense.sum(1, keepdim=True).clamp(min=1)

    def layer(convolution, h):
        neighbours = mean @ h @ convolution.lin_l.weight.T.double()
        return neighbours + h @ convolution.lin_r.weight.T.double()

    h = graph.features.double()
    for convolution, response in zip(model.convolutions, model.responses, strict=True):
        h = (layer(convolution, h) + response.bias).clamp(min=0)
    logits = layer(model.output, h) + model.output.lin_l.bias
    torch.testing.assert_close(model(everything(graph)).double(), logits, rtol=1e-4, atol=1e-5)


@each_kind
def test_a_node_has_the_same_logits_in_every_batch_by_whole_numbers_or_floats(network, kind):
    model, graph = network(kind)
    logits = model(everything(graph))
    assert torch.equal(model(node(7, 3, 7)), logits[[7, 3, 7]])
    assert torch.equal(model(torch.tensor([[7], [3]])), logits[[7, 3]])


@each_kind
def test_gradients_reach_every_weight_and_none_the_node_numbers(network, kind):
    model, graph = network(kind, depth=2)
    cross_entropy(model(everything(graph)), graph.labels).backward()
    assert all(p.grad.count_nonzero() for p in model.parameters())
    with pytest.raises(ValueError, match="node numbers, which have no gradient; leave out jacobian"):
        model(node(1).requires_grad_())


@each_kind
def test_the_graph_moves_with_the_network_and_is_not_among_its_weights(network, kind):
    model, graph = network(kind)
    other, _ = network(kind)
    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}
    torch.nn.init.zeros_(other.output.lin.weight if kind == "gcn" else other.output.lin_l.weight)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(node(2)), model(node(2)))
    model.to("meta")  # where a tensor that stayed behind is an error
    assert model(everything(graph).to("meta")).device.type == "meta"
    assert {t.device.type for t in model.buffers()} == {"meta"}


@each_kind
def test_the_responses_that_are_heard_are_those_of_the_nodes_asked_for(network, kind):
    model, graph = network(kind, depth=2)
    x, y = everything(graph), graph.labels
    for layer in ("responses.0", "responses.1"):
        whole, _ = features(model, layer, [(x, y)])
        some, _ = features(model, layer, [(x[[5, 2]], y[[5, 2]])])
        assert whole.shape == (30, 7) and torch.equal(some, whole[[5, 2]])
    last, _ = features(model, "responses.1", [(x, y)])
    calls = []
    hook = model.output.register_forward_hook(lambda _, inputs, __: calls.append(inputs[0]))
    logits = model(x[:2])
    hook.remove()
    assert torch.equal(calls[0], last), "what the output layer sees is something else"
    plugin = NSRPlugin(layer="responses.1")
    listening = model.responses[1].register_forward_hook(plugin._keep("responses.1"))
    assert torch.equal(model(x[:2]), logits), "listening changes the pass"
    listening.remove()


@each_kind
def test_nsr_on_a_hidden_layer_adds_the_variance_within_classes_there(train_toy, graph_spec, kind):
    made = grammar.parse("benchmarks", graph_spec(settings=f",network={kind}").benchmark).make(seed=0)
    added, means, model = [], [], made.model()

    class Look(SupervisedPlugin):
        def before_backward(self, strategy, **kwargs):
            self.x, self.y, self.loss = strategy.mb_x.clone(), strategy.mb_y.clone(), float(strategy.loss.detach())

        def after_backward(self, strategy, **kwargs):
            added.append(float(strategy.loss.detach()) - self.loss)
            means.append(intra_class_variance(features(model, "responses.0", [(self.x, self.y)])[0], self.y) / 8)

    frozen = torch.optim.SGD(model.parameters(), lr=0.0)
    plugins = [Look(), NSRPlugin(2.0, memory=1, layer="responses.0")]
    train_toy(plugins, model=model, optimizer=lambda _: frozen, benchmark=made)
    assert len(added) == 2  # batches of 32 and 8 nodes
    assert added == pytest.approx([2.0 * mean for mean in means], rel=1e-3)
    assert set(plugins[1].diagnostics) >= {"intra_class_variance/responses.0", "davies_bouldin/responses.0"}


@each_kind
def test_nsr_auto_chooses_among_what_has_a_row_for_each_sample(graph_spec, kind):
    diagnostics = run_one(graph_spec("nsr:layer=auto", f",network={kind},depth=2", epochs=1), threads=1).diagnostics[
        "nsr"
    ][0]
    (chosen,) = {name.partition("/")[2] for name in diagnostics if "/" in name}
    assert chosen in ("logits", "responses.0", "responses.1")
    for layer in ("convolutions.0", "output"):
        with pytest.raises(UserError, match=rf"'{layer}' gives \(200, \d\) for 40 samples"):
            run_one(graph_spec(f"nsr:layer={layer}", f",network={kind}"), threads=1)


@each_kind
@pytest.mark.parametrize("fisher", ["exact", "empirical"])
def test_the_fisher_information_is_that_of_one_node_after_the_other(network, kind, fisher):
    model, graph = network(kind)
    x, y = everything(graph)[:6], graph.labels[:6]
    found = diagonal_fisher(model, [[x, y, torch.zeros(6)]], fisher)
    for name, weight in model.named_parameters():
        by_hand = torch.zeros_like(weight)
        for i in range(6):
            logits = model(x[i : i + 1])
            shares = logits.detach().softmax(1)[0] if fisher == "exact" else torch.eye(3)[y[i]]
            for label, share in enumerate(shares):
                loss = cross_entropy(logits, torch.tensor([label]))
                (g,) = torch.autograd.grad(loss, weight, retain_graph=True)
                by_hand += share * g.square() / 6
        torch.testing.assert_close(found[name], by_hand, rtol=1e-3, atol=1e-6)


@each_kind
def test_two_runs_end_with_the_same_bits_and_another_seed_with_others(graph_spec, kind):
    def weights(**changes):
        return run_one(graph_spec("nsr:layer=auto+nvrm", f",network={kind}", epochs=3, **changes), threads=1).provenance

    one, same, other = weights(), weights(), weights(seed=1)
    assert one["weights_sha256"] == same["weights_sha256"] != other["weights_sha256"]


@each_kind
@pytest.mark.parametrize("strategy", ["ewc", "l1+nsr", "sam", "si+nvrm"])
def test_strategies_train_on_it_in_mini_batches_too(graph_spec, kind, strategy):
    result = run_one(graph_spec(strategy, f",network={kind}", batch_size=16), threads=1)
    assert result.status == "done" and result.accuracy[0][0] > 0.5, result.error
    assert {len(curve) for curve in result.curves.values()} == {10}
    assert result.curves["test accuracy"][-1] == result.accuracy[0][0]


def test_it_overfits_at_the_recipe_and_the_edges_matter():
    """At the defaults: 75 to 90 % by GCN with all labelled nodes right; without edges it is far below."""
    pytest.importorskip("torch_geometric")
    shares = []
    for settings in ("", ":degree=0"):
        made = grammar.parse("benchmarks", f"community-graph{settings}").make(seed=0)
        torch.manual_seed(0)
        model, (x, y, _) = made.model(), made.train[0].gather(torch.arange(120))
        optimizer = torch.optim.Adam(model.parameters(), lr=made.recipe.lr)
        for _ in range(made.recipe.epochs // 2):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        shares.append([next(iter(shares_right(model, watched).values())) for watched in made.watched])
    assert 0.75 < shares[0][0] < 0.9 and shares[0][1] == shares[1][1] == 1.0
    assert shares[1][0] < 0.65


@each_kind
def test_weight_noise_and_sam_leave_weights_and_graph_as_they_were(network, train_toy, graph_spec, kind):
    model, _ = network(kind)
    before = bits(model)
    with weight_noise(model, 0.1):
        noisy = model(node(0))
    assert equal(bits(model), before) and not torch.equal(model(node(0)), noisy)
    made = grammar.parse("benchmarks", graph_spec(settings=f",network={kind}").benchmark).make(seed=0)
    model = made.model()
    before, kept = bits(model), [t.clone() for t in model.buffers()]
    train_toy(
        [SAMPlugin(0.1)], model=model, benchmark=made, optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.0)
    )
    assert equal(bits(model), before) and equal(model.buffers(), kept)


def test_trials_are_not_stacked(graph_spec):
    with pytest.raises(UserError, match="watched after every epoch cannot be stacked; write --stack off"):
        run_stack([graph_spec(seed=seed) for seed in (0, 1)])


@each_kind
def test_a_checkpoint_has_the_weights_alone_and_goes_on_to_the_same_bits(train_toy, graph_spec, tmp_path, kind):
    made = grammar.parse("benchmarks", graph_spec(settings=f",network={kind}").benchmark).make(seed=0)
    plugin = NSRPlugin(layer="responses.0")
    strategy, model = train_toy([plugin], benchmark=made)
    Checkpoint(tmp_path / "state", strategy, [plugin], keep_optimizer=True).save({})
    again, other = train_toy([fresh := NSRPlugin(layer="responses.0")], benchmark=made, epochs=2)
    assert not equal(bits(model), bits(other))
    assert Checkpoint(tmp_path / "state", again, [fresh], keep_optimizer=True).load() == {}
    assert equal(bits(model), bits(other)) and plugin.diagnostics == fresh.diagnostics
    for one in (strategy, again):
        one.train_epochs = 2
        one.train(made.streams().train_stream[0])
    assert equal(bits(model), bits(other))


def test_without_the_package_the_benchmark_is_listed_and_says_what_to_install(cli, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("torch_geometric", "cl_nvrm.models.graph"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch_geometric", None)
    code, out, _ = cli("--list", "benchmarks")
    assert code == 0 and "community-graph: Community graph" in out and "network = gcn" in out
    code, out, err = cli("--benchmark", "community-graph")
    assert (code, out) == (2, "")
    assert err == "cl_nvrm: community-graph: graph networks need more: pip install 'cl_nvrm[graphs]'\n"


@pytest.mark.parametrize("settings", ["network=gat", "width=0", "depth=-1", "labelled=0", "holdout=120", "degree=2000"])
def test_settings_that_will_not_do_are_refused(settings):
    pytest.importorskip("torch_geometric")
    with pytest.raises(UserError, match=settings.partition("=")[0]):
        grammar.parse("benchmarks", f"community-graph:{settings}").make(seed=0)


def test_a_network_on_a_graph_is_no_model_of_images():
    assert "graph" not in catalog.names("models")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@each_kind
@pytest.mark.parametrize("strategy", ["naive", "nsr:layer=auto", "ewc+nvrm", "sam"])
def test_on_a_gpu_a_run_is_that_of_the_cpu_up_to_rounding(graph_spec, kind, strategy):
    gpu, cpu = (run_one(graph_spec(strategy, f",network={kind}"), device=device) for device in ("cuda", "cpu"))
    assert gpu.status == "done" and gpu.curves.keys() == cpu.curves.keys()
    if "nvrm" not in strategy:  # whose noise is torch's own on a GPU
        torch.testing.assert_close(torch.tensor(gpu.losses), torch.tensor(cpu.losses), rtol=1e-2, atol=1e-2)
    assert abs(gpu.accuracy[0][0] - cpu.accuracy[0][0]) < 0.1
