"""RanDumb: random features, sums of them, and the discriminants that follow."""

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from cl_nvrm.errors import UserError
from cl_nvrm.plugins.randumb import RandomFeatures, RanDumbPlugin
from cl_nvrm.training import weights
from cl_nvrm.training.build import build_benchmark
from cl_nvrm.training.train import run_one

SMALL = "randumb:features=200"


def network(classes=3, **changes):
    return RandomFeatures(6, classes, **{"features": 40, "gamma": 1.0, "ridge": 1e-3, "seed": 0} | changes)


def points(count, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % classes
    x = torch.randn(classes, 6, generator=generator)[y] + 0.5 * torch.randn(count, 6, generator=generator)
    return x, y, torch.zeros(count, dtype=torch.long)


def test_the_features_approximate_the_kernel():
    x, *_ = points(20)
    z = network(features=3000, gamma=2.0).lift(x)
    kernel = torch.exp(-2.0 * (x[:, None] - x[None]).double().square().mean(-1))
    assert float((z @ z.T - kernel).abs().max()) < 0.1


def test_the_discriminants_are_those_of_an_independent_implementation():
    """Scikit-learn's, with the same covariance; scores may differ by what all classes have in common."""
    x, y, t = points(90)
    ours = network()
    ours.learn(x, y, t)
    scores = ours(x).detach().numpy()

    class Ridge:
        def fit(self, of):
            self.covariance_ = np.cov(of.T, bias=True)
            return self

    z = ours.lift(x).numpy()
    within = z - np.stack([z[y == c].mean(0) for c in range(3)])[y]
    ridge = 1e-3 * np.trace(np.cov(within.T, bias=True)) / 40

    class WithRidge(Ridge):
        def fit(self, of):
            super().fit(of)
            self.covariance_ = self.covariance_ + ridge * np.eye(40)
            return self

    theirs = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=WithRidge(), priors=[1 / 3] * 3).fit(z, y)
    expected = theirs.decision_function(z)
    np.testing.assert_allclose(
        scores - scores.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("size", [1, 7, 90])
def test_neither_the_order_of_samples_nor_batches_matter(size):
    x, y, t = points(90)
    whole, other = network(), network()
    whole.learn(x, y, t)
    for index in torch.randperm(90, generator=torch.Generator().manual_seed(1)).split(size):
        other.learn(x[index], y[index], t[index])
    other(x[:1])
    whole(x[:1])
    assert torch.allclose(whole.products, other.products, rtol=1e-12, atol=1e-12)
    assert torch.allclose(whole(x), other(x), rtol=1e-7, atol=1e-7)


def test_only_classes_that_have_come_are_predicted_and_only_those_of_the_own_head():
    x, y, t = points(90)
    single = network()
    assert single(x).argmax(-1).eq(0).all()
    single.learn(x[y < 2], y[y < 2], t[y < 2])
    assert set(single(x).argmax(-1).tolist()) == {0, 1}
    heads = network(classes=2, heads=2)
    heads.learn(x[y < 2], y[y < 2], t[y < 2])
    second = x[y == 2]
    heads.learn(second, torch.ones(len(second), dtype=torch.long), torch.ones(len(second), dtype=torch.long))
    mixed = (y == 2).long()
    assert heads(x, mixed)[y == 2].argmax(-1).eq(1).all()
    assert float((heads(x, mixed)[y < 2].argmax(-1) == y[y < 2]).double().mean()) > 0.8
    assert torch.equal(heads(x, 0), heads(x, torch.zeros(90, dtype=torch.long)))


def test_a_run_takes_no_gradient_and_sees_every_sample_once(toy_spec, tmp_path):
    spec = toy_spec(SMALL, epochs=3, optimizer="adam", eval_every=4)
    result = run_one(spec, threads=1, keep_weights=tmp_path / "kept")
    assert result.status == "done" and result.provenance["gradient_passes"] == 0
    assert result.losses == ((), (), ()) and [row[1] for row in result.trace if row[0] == 0] == [4, 8, 12, 16]
    made, _ = build_benchmark(spec, None, "cpu")
    model = made.model()
    weights.load(tmp_path / "kept", model, spec.id)
    assert float(model.counts.sum()) == 3 * 512
    x, y, t = made.test[0].gather(torch.arange(512))
    assert float((model(x, t).argmax(-1) == y).double().mean()) == result.accuracy[-1][0] > 0.9


def test_as_many_batches_as_there_are_iterations(toy_spec, tmp_path):
    spec = toy_spec(SMALL, benchmark="toy:tasks=1", epochs=0, iterations=5)
    run_one(spec, threads=1, keep_weights=tmp_path / "kept")
    model = build_benchmark(spec, None, "cpu")[0].model()
    weights.load(tmp_path / "kept", model, spec.id)
    assert float(model.counts.sum()) == 5 * 32


@pytest.mark.parametrize("scenario", ["task", "domain", "class"])
def test_a_stopped_run_goes_on_to_the_same_bits(scenario, toy_spec, tmp_path):
    spec = toy_spec(SMALL, benchmark=f"toy:scenario={scenario}")
    whole = run_one(spec, threads=1)

    def stop(history, share):
        if len(history.accuracy) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_one(spec, threads=1, on_task=stop, checkpoint=tmp_path / "state")
    resumed = []
    again = run_one(
        spec, threads=1, on_task=lambda history, _: resumed.append(len(history.accuracy)), checkpoint=tmp_path / "state"
    )
    assert resumed == [3] and again.provenance["weights_sha256"] == whole.provenance["weights_sha256"]
    assert again.accuracy == whole.accuracy and min(whole.accuracy[-1]) > 0.8


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--strategy randumb+ewc", "nothing can be added to"),
        ("--strategy joint+randumb", "nothing can be added to"),
        ("--strategy randumb --features 0", "features must lie"),
        ("--strategy randumb --ridge 0", "ridge must be"),
        ("--strategy randumb --gamma -1", "gamma must be"),
    ],
)
def test_what_it_cannot_do_is_refused_while_planning(words, why, cli):
    code, out, err = cli("--benchmark", "toy", *words.split())
    assert code == 2 and why in err and not out


def test_inputs_that_are_numbers_of_nodes_are_refused(toy_spec):
    made, _ = build_benchmark(toy_spec("naive", benchmark="toy:inputs=1"), None, "cpu")
    with pytest.raises(UserError, match="several values"):
        RanDumbPlugin().rearrange(made)
