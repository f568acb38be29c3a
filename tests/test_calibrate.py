import pytest
import torch

from cl_nvrm import calibrate


@pytest.fixture
def trained(toy_spec):
    return calibrate.train_first_task(toy_spec(epochs=3), None, "cpu")


def test_equivalent_strengths_give_penalties_of_one_size(trained):
    rows = calibrate.conventions(*trained, batch_size=32, lambda_=100.0)
    here = rows[0]
    assert here.equivalent == pytest.approx(100) and here.cosine == pytest.approx(1)
    for row in rows:
        assert row.factor * row.equivalent * row.total == pytest.approx(0.5 * 100 * here.total)
    by_kind = {(row.fisher, row.factor): row for row in rows}
    assert by_kind["exact", 1.0].equivalent == pytest.approx(50)
    # Squaring the mean of a batch loses about its size: a λ for it is larger by that order.
    assert by_kind["batch", 0.5].equivalent > 5 * by_kind["empirical", 0.5].equivalent


def test_noise_is_measured_against_each_layer(trained):
    model = trained[0].requires_grad_(False)
    for row, (name, p) in zip(calibrate.layers(model, 0.03), model.named_parameters(), strict=True):
        noise = 0.03 * torch.randn(200_000).norm() / 200_000**0.5
        assert row.name == name and row.size == p.numel()
        assert row.noise_to_weight == pytest.approx(float(noise / (p.norm() / p.numel() ** 0.5)), rel=0.02)


def test_the_command_prints_both_tables(capsys):
    assert calibrate.main(["--benchmark", "toy", "--lambda", "7", "--variability", "0.1"]) == 0
    out = capsys.readouterr().out
    assert "λ = 7 here" in out and "Avalanche" in out and "b = 0.1" in out
    assert calibrate.main(["--benchmark", "toi"]) == 2
    assert "Did you mean 'toy'" in capsys.readouterr().err
