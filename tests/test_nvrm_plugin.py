import numpy as np
import pytest
import torch
from avalanche.core import SupervisedPlugin
from avalanche.training.plugins import AGEMPlugin, LwFPlugin, MASPlugin, ReplayPlugin
from avalanche.training.supervised import Naive
from torch import nn
from torch.nn.functional import cross_entropy

from cl_nvrm.errors import UserError
from cl_nvrm.noise import Perturbation
from cl_nvrm.noise.kernels import draws
from cl_nvrm.plugins.ewc import EWCPlugin
from cl_nvrm.plugins.nvrm import NVRMPlugin
from cl_nvrm.plugins.si import SIPlugin


def bits(model):
    return [p.detach().clone() for p in model.parameters()]


def equal(a, b):
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


class Recorder(SupervisedPlugin):
    """Notes, at every callback, whether the given plug-in has its noise on."""

    def __init__(self, nvrm):
        super().__init__()
        self.nvrm, self.seen = nvrm, {}


def _note(event):
    def callback(self, strategy, **kwargs):
        self.seen.setdefault(event, set()).add(self.nvrm.perturbation.active)

    return callback


EVENTS = [name for name in dir(SupervisedPlugin) if name.startswith(("before_", "after_"))]
for _event in EVENTS:
    setattr(Recorder, _event, _note(_event))


def test_noise_is_on_for_forward_and_backward_only(train_toy):
    nvrm = NVRMPlugin(0.05)
    recorder = Recorder(nvrm)
    train_toy([nvrm, recorder], strategy_class=Naive, eval_every=1)
    noisy = {event for event, states in recorder.seen.items() if True in states}
    assert noisy == {"before_forward", "after_forward", "before_backward"}
    assert {"before_eval_forward", "after_training_iteration", "before_update"} <= recorder.seen.keys()
    assert not nvrm.perturbation.active


@pytest.mark.parametrize(
    "others",
    [
        lambda: [EWCPlugin(10.0)],
        lambda: [SIPlugin(1.0)],
        lambda: [EWCPlugin(10.0), SIPlugin(1.0)],
        lambda: [MASPlugin(1.0)],
        lambda: [LwFPlugin()],
        lambda: [ReplayPlugin(50)],
        lambda: [AGEMPlugin(16, 16)],
    ],
    ids=["ewc", "si", "ewc+si", "mas", "lwf", "replay", "agem"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_order_of_plug_ins_does_not_change_a_bit(train_toy, others):
    results = []
    for arrange in (lambda p: p, lambda p: p[::-1], lambda p: p[1:] + p[:1]):
        _, model = train_toy(arrange([NVRMPlugin(0.02, seed=7), *others()]), tasks=3)
        results.append(bits(model))
    assert equal(results[0], results[1]) and equal(results[0], results[2])


def test_variability_zero_is_the_plain_method_bit_for_bit(train_toy):
    plain, zero = (bits(train_toy([EWCPlugin(10.0), *more])[1]) for more in ([], [NVRMPlugin(0.0)]))
    assert equal(plain, zero)


def test_it_equals_a_hand_written_loop(train_toy):
    noise_seed, lr, scale = 5, 0.1, 0.05
    batches = []

    class Batches(SupervisedPlugin):
        def before_forward(self, strategy, **kwargs):
            batches.append((strategy.mb_x.clone(), strategy.mb_y.clone()))

    def sgd(model):
        return torch.optim.SGD(model.parameters(), lr=lr)

    _, trained = train_toy([NVRMPlugin(scale, seed=noise_seed), Batches()], optimizer=sgd)

    untouched = nn.Module()

    class Stop(Exception):
        pass

    class Snapshot(SupervisedPlugin):
        def before_training(self, strategy, **kwargs):
            untouched.model = strategy.model
            raise Stop

    with pytest.raises(Stop):
        train_toy([Snapshot()], optimizer=sgd)
    model = untouched.model
    key, position = np.uint64(draws.key(noise_seed)), 0
    weights = list(model.parameters())
    for x, y in batches:
        clean = bits(model)
        for p in weights:
            half = -(-p.numel() // 2)
            words = draws.word(key, np.arange(position, position + half, dtype=np.uint64))
            xi = np.concatenate(draws.gaussian(words))[: p.numel()]
            p.data += torch.from_numpy(np.float32(scale) * xi).view(p.shape)
            position += half
        gradients = torch.autograd.grad(cross_entropy(model(x), y), weights)
        with torch.no_grad():
            for p, w, g in zip(weights, clean, gradients, strict=True):
                p.copy_(w).add_(g, alpha=-lr)
    assert equal(bits(model), bits(trained))


RAISING = ["before_forward", "after_forward", "before_backward", "after_backward", "before_update"]


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("event", RAISING)
@pytest.mark.parametrize("penalty_at", ["noisy", "clean"])
def test_an_exception_anywhere_leaves_clean_weights(train_toy, event, place, penalty_at):
    class Failing(SupervisedPlugin):
        pass

    seen = {}

    def fail(self, strategy, **kwargs):
        seen["strategy"] = strategy
        if strategy.clock.train_iterations == 2:
            raise KeyError(event)

    def keep(self, strategy, **kwargs):
        seen["weights"] = bits(strategy.model)

    setattr(Failing, event, fail)
    Failing.before_training_iteration = keep
    plugins = [Failing(), NVRMPlugin(0.5, penalty_at=penalty_at)]
    with pytest.raises(KeyError):
        train_toy(plugins if place == "first" else plugins[::-1])
    strategy = seen["strategy"]
    assert equal(bits(strategy.model), seen["weights"])
    assert "training_epoch" not in vars(strategy) and "forward" not in vars(strategy)


@pytest.mark.parametrize("part", ["forward", "backward", "criterion"])
def test_an_exception_in_the_passes_themselves_leaves_clean_weights(train_toy, part):
    from cl_nvrm.training.loop import Strategy

    seen = {}

    class Broken(Strategy):
        def __init__(self, **arguments):
            super().__init__(seed=0, **{k: v for k, v in arguments.items() if k != "evaluator"})
            seen["weights"] = bits(self.model)
            seen["model"] = self.model

    def fail(self):
        raise MemoryError

    setattr(Broken, part, fail)
    with pytest.raises(MemoryError):
        train_toy([NVRMPlugin(0.5)], strategy_class=Broken)
    assert equal(bits(seen["model"]), seen["weights"])


@pytest.mark.parametrize("penalty_at", ["noisy", "clean"])
def test_the_penalty_is_taken_where_asked_and_the_data_loss_at_the_noisy_weights(train_toy, penalty_at):
    scale, lam = 0.3, 50.0
    checked = []

    class Check(SupervisedPlugin):
        def before_forward(self, strategy, **kwargs):
            self.noise = nvrm.perturbation.state_dict()

        def before_training_iteration(self, strategy, **kwargs):
            self.clean = dict(zip(names(strategy), bits(strategy.model), strict=True))
            self.state = nvrm.perturbation.state_dict()

        def after_update(self, strategy, **kwargs):
            if not ewc.importance:
                return
            model = strategy.model
            after = bits(model)
            with torch.no_grad():
                for name, p in model.named_parameters():
                    p.copy_(self.clean[name])
            again = Perturbation(scale)
            again.load_state_dict(self.state)
            weights = list(model.parameters())
            noisy = {}
            with again.around(weights):
                loss = cross_entropy(model(strategy.mb_x), strategy.mb_y)
                data = torch.autograd.grad(loss, weights)
                noisy = dict(zip(names(strategy), bits(model), strict=True))
            at = noisy if penalty_at == "noisy" else self.clean
            for (name, p), g in zip(model.named_parameters(), data, strict=True):
                pull = lam * ewc.importance[name] * (at[name] - ewc.anchor[name])
                torch.testing.assert_close(p.grad, g + pull, rtol=1e-4, atol=1e-5)
                checked.append(float(pull.abs().max()))
            with torch.no_grad():
                for p, w in zip(weights, after, strict=True):
                    p.copy_(w)

    def names(strategy):
        return [name for name, _ in strategy.model.named_parameters()]

    nvrm, ewc = NVRMPlugin(scale, penalty_at=penalty_at), EWCPlugin(lam)
    train_toy([nvrm, ewc, Check()], tasks=2)
    assert max(checked) > 0.01


def test_clean_penalties_make_another_gradient_but_the_same_without_penalty(train_toy):
    def trained(penalty_at, more):
        return bits(train_toy([NVRMPlugin(0.05, penalty_at=penalty_at), *more()], heads=True)[1])

    for p, q in zip(trained("noisy", list), trained("clean", list), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5)
    assert not equal(trained("noisy", lambda: [EWCPlugin(50.0)]), trained("clean", lambda: [EWCPlugin(50.0)]))


def with_batch_norm():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))


def test_batch_norm_statistics_can_be_recalibrated_with_clean_weights(train_toy):
    still = {"optimizer": lambda model: torch.optim.SGD(model.parameters(), lr=0.0), "tasks": 1}
    variances = {}
    for policy in ("noisy", "recalibrate"):
        _, model = train_toy([NVRMPlugin(0.5, batch_norm=policy)], model=with_batch_norm(), **still)
        variances[policy] = model[1].running_var.clone()
        assert model[1].momentum == 0.1
    from cl_nvrm.spec import catalog

    data = catalog.maker("benchmarks", "toy")(tasks=2, heads=False, samples=128, seed=0).train[0]
    clean = with_batch_norm()[0](data.images).detach()
    mean_of_batch_variances = torch.stack([b.var(0) for b in clean.split(32)]).mean(0)
    assert float((variances["recalibrate"] / mean_of_batch_variances - 1).abs().max()) < 0.3
    assert float((variances["noisy"] / mean_of_batch_variances).mean()) > 1.5


def test_recalibration_leaves_random_state_and_batch_order_alone(train_toy):
    def trained(policy):
        torch.manual_seed(0)
        plugin = NVRMPlugin(0.05, batch_norm=policy)
        return bits(train_toy([plugin], model=with_batch_norm(), tasks=2)[1])

    assert equal(trained("noisy"), trained("recalibrate"))


def test_early_stopping_leaves_no_guard_behind(train_toy):
    class StopAtOnce(SupervisedPlugin):
        def before_training_epoch(self, strategy, **kwargs):
            if strategy.experience.current_experience == 0:
                strategy.stop_training()

    strategy, model = train_toy([NVRMPlugin(0.05), StopAtOnce()], tasks=3)
    assert not {"training_epoch", "forward"} & set(vars(strategy))
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def test_two_noise_sources_are_refused(train_toy):
    with pytest.raises(UserError, match="one NVRMPlugin"):
        train_toy([NVRMPlugin(0.1), NVRMPlugin(0.1)])


def test_it_works_in_avalanches_own_strategies_and_multi_head_models(train_toy):
    strategy, model = train_toy([NVRMPlugin(0.02)], heads=True, strategy_class=Naive)
    assert type(strategy) is Naive
    assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


@pytest.mark.parametrize("setting", [{"penalty_at": "here"}, {"batch_norm": "none"}])
def test_unknown_settings_are_refused(setting):
    with pytest.raises(UserError, match="must be"):
        NVRMPlugin(0.1, **setting)
