# ruff: noqa: E501
"""What users' stores and scripts rest on: ids of runs, bits of results, import paths.

The values were taken at commit 898e38a; to change one is to change what everybody has stored.
"""

import importlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

# a command line -> the ids that --dry-run shows, in order
IDS = {
    "--data mnist --strategy ewc+nvrm --lambda 100": ["dc709ef70394b757"],
    "--data mnist --strategy naive --strategy si --trials 2 --seed 3 --benchmark permuted-mnist:tasks=2,width=16": [
        "05cfcca55ca205ed",
        "33928d0e406606c1",
        "21985a3391a8d0ba",
        "39491b26deaf1230",
    ],
    "--data mnist --benchmark split-mnist:width=16 --strategy ewc:lambda=10000 --optimizer sgd:momentum=0.9 --schedule cosine": [
        "8b5e2a4389a8747d"
    ],
    "--data mnist --benchmark noisy-mnist:rate=0.2,noise=symmetric,model=mlp(width=32,depth=1) --strategy sam --epochs 2": [
        "04b15eb26d2505a2"
    ],
    "--data mnist --benchmark noisy-mnist:noise=flips.txt --model small-cnn(width=4) --strategy nvrm:noise=laplace": [
        "4d1a914d5f93854d"
    ],
    "--data mnist --benchmark random-labels:p=0.5,subset=32 --model ioc-mlp(width=8) --strategy nsr --schedule steps:drops=3": [
        "744d6eacfcdd8f40"
    ],
    "--data mnist --benchmark clean-cifar10:subset=32,model=small-cnn(width=4) --strategy label-noise --channels-last": [
        "a2847d9025c6386c"
    ],
    "--benchmark toy:heads=true,tasks=2 --strategy ewc:lambda=1|10+nvrm:variability=0|0.01 --lr 1e-3|3e-3": [
        "41273c7d5b28602f",
        "98af2dd0b55710c8",
        "008ccc3510145f8f",
        "862272c7988499b2",
        "45e25d778becc88e",
        "9eed519283abe89e",
        "41daf8704acaf239",
        "dd06249ffb410c5f",
    ],
    "--benchmark toy --strategy lwf+mas --batch-size 16 --weight-decay 0.01 --optimizer nvrm-adam": [
        "57b47a86067d8b21"
    ],
    "--benchmark toy --strategy psgd --precision bfloat16 --eval-every 7 --tasks 2": ["2890ac7aa091ae12"],
}

# version of torch -> strategy -> the fingerprint of the final weights
BITS = {
    "2.14": {
        "naive": "98fd8ec2d3223b83",
        "ewc+nvrm": "3876dd7bb48a2688",
        "si": "d89f05f0ef857bfc",
        "nsr+nvrm:noise=laplace": "5b8df6731b3cf82d",
        "sam+mas": "aae9006fb3adef90",
        "psgd": "75119b0fb3f04f09",
    },
}

# module:names that users' code imports
PUBLIC = [
    "cl_nvrm.run:main",
    "cl_nvrm.report.__main__:main",
    "cl_nvrm.study.__main__:main",
    "cl_nvrm.bench.__main__:main",
    "cl_nvrm.calibrate:main,conventions,layers",
    "cl_nvrm.perturb:Perturbation,weight_noise",
    "cl_nvrm.noise:Noise,Gaussian,Laplace,Uniform,law,Stream",
    "cl_nvrm.optim:NVRM,NVRMSGD,NVRMAdam,PSGD",
    "cl_nvrm.benchmark:Benchmark,TaskData,Recipe,Watched,TaskAware,chosen_rows,sampled_batches",
    "cl_nvrm.data:Images,load",
    "cl_nvrm.spec:RunSpec,RunResult,derived_seed",
    "cl_nvrm.errors:UserError,MissingData,Diverged",
    "cl_nvrm.models.mlp:MLP,model",
    "cl_nvrm.plugins.nvrm:NVRMPlugin",
    "cl_nvrm.plugins.ewc:EWCPlugin",
    "cl_nvrm.plugins.si:SIPlugin",
    "cl_nvrm.plugins.mas:MASPlugin",
    "cl_nvrm.plugins.sam:SAMPlugin",
    "cl_nvrm.plugins.quadratic:QuadraticPenalty,trainable_weights",
    "cl_nvrm.plugins.loss_terms:LossTerm",
    "cl_nvrm.analysis.metrics:base_task,mean_accuracy,METRICS",
    "cl_nvrm.analysis.stats:compare,holm,t_interval",
    "cl_nvrm.analysis.convexity:",
    "cl_nvrm.analysis.robustness:perturbed,neural_variability",
    "cl_nvrm.analysis.pac_bayes:of_model",
    "cl_nvrm.generalization.classification:classification",
    "cl_nvrm.generalization.label_noise:transition,flipped",
]


@pytest.fixture
def tiny(tmp_path):
    """A folder with an MNIST of 64 + 32 images and a noise matrix, the same on every machine."""
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for name, count in (("train", 64), ("t10k", 32)):
        pixels = (np.arange(count * 784) * 7 % 251).astype(np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        header = bytes([0, 0, 8])
        sizes = b"".join(size.to_bytes(4, "big") for size in (count, 28, 28))
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + bytes([3]) + sizes + pixels.tobytes())
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(
            header + bytes([1]) + count.to_bytes(4, "big") + labels.tobytes()
        )
    np.savetxt(tmp_path / "flips.txt", np.eye(10) * 0.9 + 0.01)
    return tmp_path


def dry_ids(cli, words):
    code, out, err = cli(*words.split(), "--data-dir", "data", "--dry-run", "--quiet")
    assert code == 0, err
    return [line.split()[0] for line in out.splitlines() if "  seed " in line]  # the others sum up


@pytest.mark.parametrize("words", list(IDS))
def test_a_command_line_still_means_the_same_runs(words, cli, tiny):
    assert dry_ids(cli, words) == IDS[words]


TWO_TASKS = "toy:tasks=2,samples=256"


def test_strategies_still_end_at_the_same_bits(tmp_path):
    """In a process whose arithmetic is that of any x86-64 processor, whatever its vector units."""
    version = ".".join(torch.__version__.split(".")[:2])
    if version not in BITS:
        pytest.skip(f"the bits are known of torch {' and '.join(BITS)}, this is {version}")
    portable = {"MKL_CBWR": "COMPATIBLE", "ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "1"}
    words = ["--benchmark", TWO_TASKS, "--epochs", "1", "--jobs", "1", "--no-plots", "--quiet", "--out", str(tmp_path)]
    words += [word for strategy in BITS[version] for word in ("--strategy", strategy)]
    command = [sys.executable, "-W", "ignore", "-m", "cl_nvrm.run", *words, "--format", "json"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **portable}).stdout
    stored = [json.loads((tmp_path / f"{run['id']}.json").read_text()) for run in json.loads(out)["runs"]]
    found = [run["provenance"]["weights_sha256"] for run in stored]
    assert dict(zip(BITS[version], found, strict=True)) == BITS[version]


@pytest.mark.parametrize("path", PUBLIC)
def test_what_others_import_is_where_it_was(path):
    module, _, names = path.partition(":")
    found = importlib.import_module(module)
    assert all(hasattr(found, name) for name in names.split(",") if name)
