#!/usr/bin/env python3
"""Writes tests/cli/pytorch.json: PyTorch's results, in double precision, for the optimizers, schedules, activations, losses and
layers that gradc's prelude has too. tests/cli/methods_test.cpp holds native code to it, so that the tests need no PyTorch.

usage: reference_tables.py [--check]     (--check: only compare the committed table with PyTorch's results)

A case's `expression` is .nn text with the input `x`; its `torch` function gets the same input and the parameters by gradc's names.
x is the input plus (1 + label) x0, x0 being a parameter of zeros, so that its gradient shows that of x. The loss is the mean over the
rows of (1 + label) sum_j cos(j) y_j, y being the flattened result of a row. Inputs are f32 numbers. Labels are the row's number unless given.
"""
import argparse
import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

TABLE = Path(__file__).resolve().parent.parent / "tests" / "cli" / "pytorch.json"
STEPS = 20


def f32(x):
    return torch.as_tensor(x, dtype=torch.float32).double()


def numbers(t):
    """A flat list, short where f32 needs no more."""
    return [float(f"{v:.9g}") for v in t.detach().double().reshape(-1).tolist()]


# --- optimizers: the parameter after each of 20 steps whose gradients are given

START = f32([0.7, -0.4, 1.5, 0.0])
GRADIENTS = f32([[math.cos(3 * t + 2 * i) * (0.1 + i) - 0.05 * i for i in range(4)] for t in range(1, STEPS + 1)])

o = torch.optim
OPTIMIZERS = {
    "sgd(lr=0.1)": lambda p: o.SGD(p, lr=0.1),
    "sgd(lr=0.1, weight_decay=0.05)": lambda p: o.SGD(p, lr=0.1, weight_decay=0.05),
    "momentum(lr=0.1)": lambda p: o.SGD(p, lr=0.1, momentum=0.9),
    "momentum(lr=0.1, folded=true)": lambda p: o.SGD(p, lr=0.1, momentum=0.9),
    "momentum(lr=0.1, momentum=0.5, nesterov=true, weight_decay=0.05)":
        lambda p: o.SGD(p, lr=0.1, momentum=0.5, nesterov=True, weight_decay=0.05),
    "momentum(lr=0.1, momentum=0.5, nesterov=true, folded=true)": lambda p: o.SGD(p, lr=0.1, momentum=0.5, nesterov=True),
    "momentum(lr=0.1, dampening=0.3)": lambda p: o.SGD(p, lr=0.1, momentum=0.9, dampening=0.3),
    "adagrad(lr=0.1)": lambda p: o.Adagrad(p, lr=0.1),
    "adagrad(lr=0.1, lr_decay=0.01, first=0.5, weight_decay=0.1)":
        lambda p: o.Adagrad(p, lr=0.1, lr_decay=0.01, initial_accumulator_value=0.5, weight_decay=0.1),
    "rmsprop(lr=0.05)": lambda p: o.RMSprop(p, lr=0.05),
    "rmsprop(lr=0.05, alpha=0.9, momentum=0.5, centered=true, weight_decay=0.1)":
        lambda p: o.RMSprop(p, lr=0.05, alpha=0.9, momentum=0.5, centered=True, weight_decay=0.1),
    "adadelta()": lambda p: o.Adadelta(p),
    "adadelta(lr=2.0, rho=0.8, eps=1e-3, weight_decay=0.05)":
        lambda p: o.Adadelta(p, lr=2.0, rho=0.8, eps=1e-3, weight_decay=0.05),
    "adam(lr=0.1)": lambda p: o.Adam(p, lr=0.1),
    "adam(lr=0.1, beta1=0.8, beta2=0.9, weight_decay=0.05)":
        lambda p: o.Adam(p, lr=0.1, betas=(0.8, 0.9), weight_decay=0.05),
    "adam(lr=0.1, beta2=0.6, amsgrad=true)": lambda p: o.Adam(p, lr=0.1, betas=(0.9, 0.6), amsgrad=True),
    "adamw(lr=0.1)": lambda p: o.AdamW(p, lr=0.1),
    "adamw(lr=0.1, weight_decay=0.2)": lambda p: o.AdamW(p, lr=0.1, weight_decay=0.2),
    "adamw(lr=0.1, beta2=0.6, weight_decay=0.2, amsgrad=true)":
        lambda p: o.AdamW(p, lr=0.1, betas=(0.9, 0.6), weight_decay=0.2, amsgrad=True),
    "adamax(lr=0.1)": lambda p: o.Adamax(p, lr=0.1),
    "adamax(lr=0.1, beta1=0.8, beta2=0.7, weight_decay=0.1)":
        lambda p: o.Adamax(p, lr=0.1, betas=(0.8, 0.7), weight_decay=0.1),
    "nadam(lr=0.1)": lambda p: o.NAdam(p, lr=0.1),
    "nadam(lr=0.1, momentum_decay=0.02, weight_decay=0.1)":
        lambda p: o.NAdam(p, lr=0.1, momentum_decay=0.02, weight_decay=0.1),
    "nadam(lr=0.1, weight_decay=0.1, decoupled=true)":
        lambda p: o.NAdam(p, lr=0.1, weight_decay=0.1, decoupled_weight_decay=True),
    "radam(lr=0.1)": lambda p: o.RAdam(p, lr=0.1),
    "radam(lr=0.1, beta2=0.9, weight_decay=0.1)": lambda p: o.RAdam(p, lr=0.1, betas=(0.9, 0.9), weight_decay=0.1),
    "asgd(lr=0.1)": lambda p: o.ASGD(p, lr=0.1),
    "asgd(lr=0.1, decay=0.1, power=0.5, from=5, weight_decay=0.1)":
        lambda p: o.ASGD(p, lr=0.1, lambd=0.1, alpha=0.5, t0=5, weight_decay=0.1),
    "adafactor(lr=0.1, eps=1e-6)": lambda p: o.Adafactor(p, lr=0.1, eps=(1e-6, 1e-3)),
    "adafactor(lr=0.1, decay=-0.5, eps=1e-6, least=0.1, clip=1.05, weight_decay=0.1)":
        lambda p: o.Adafactor(p, lr=0.1, beta2_decay=-0.5, eps=(1e-6, 0.1), d=1.05, weight_decay=0.1),
    "rprop(lr=0.05)": lambda p: o.Rprop(p, lr=0.05),
    "rprop(lr=0.05, shrink=0.3, grow=1.5, least=1e-2, most=0.2)":
        lambda p: o.Rprop(p, lr=0.05, etas=(0.3, 1.5), step_sizes=(1e-2, 0.2)),
}


# Optimizers that treat a matrix differently from a vector, on the same numbers as a matrix.
MATRIX_OPTIMIZERS = {
    "adafactor(lr=0.1, eps=1e-6)": lambda p: o.Adafactor(p, lr=0.1, eps=(1e-6, 1e-3)),
    "adafactor(lr=0.1, decay=-0.5, eps=1e-6, least=0.1, clip=1.05, weight_decay=0.1)":
        lambda p: o.Adafactor(p, lr=0.1, beta2_decay=-0.5, eps=(1e-6, 0.1), d=1.05, weight_decay=0.1),
    "muon(lr=0.1)": lambda p: o.Muon(p, lr=0.1),
    "muon(lr=0.1, momentum=0.5, nesterov=false, rounds=3, weight_decay=0.3, match_adamw=true)":
        lambda p: o.Muon(p, lr=0.1, momentum=0.5, nesterov=False, ns_steps=3, weight_decay=0.3, adjust_lr_fn="match_rms_adamw"),
}
# The same numbers as a tall matrix and a wide one.
TALL_OPTIMIZERS = {"muon(lr=0.1)": lambda p: o.Muon(p, lr=0.1)}


class NoRounding:
    """PyTorch's Muon without its rounding to bfloat16, which no table of numbers could hold to."""
    def __enter__(self):
        self.rounding, torch.Tensor.bfloat16 = torch.Tensor.bfloat16, lambda t: t.clone()

    def __exit__(self, *_):
        torch.Tensor.bfloat16 = self.rounding


def trace_of(make, shape):
    w = torch.nn.Parameter(START.clone().reshape(shape))
    optimizer = make([w])
    trace = []
    for g in GRADIENTS:
        w.grad = g.clone().reshape(shape)
        with NoRounding():
            optimizer.step()
        trace.append(numbers(w))
    return trace


def optimizer_traces():
    return {"start": numbers(START), "gradients": [numbers(g) for g in GRADIENTS],
            "traces": {name: trace_of(make, [4]) for name, make in OPTIMIZERS.items()},
            "matrix_traces": {name: trace_of(make, [2, 2]) for name, make in MATRIX_OPTIMIZERS.items()},
            "tall_traces": {name: trace_of(make, [4, 1]) for name, make in TALL_OPTIMIZERS.items()},
            "wide_traces": {name: trace_of(make, [1, 4]) for name, make in TALL_OPTIMIZERS.items()}}


# --- schedules: the rate of each scheduler step, from lr = 0.5; `unit` is gradc's unit of a scheduler step

s = torch.optim.lr_scheduler
SCHEDULES = [
    ("cosine", "step", 40, lambda x: s.CosineAnnealingLR(x, 40)),
    ("cosine(to=0.1)", "step", 40, lambda x: s.CosineAnnealingLR(x, 40, eta_min=0.1)),
    ("cosine_restarts(7, to=0.05)", "step", 40, lambda x: s.CosineAnnealingWarmRestarts(x, 7, eta_min=0.05)),
    ("cosine_restarts(5, factor=2)", "step", 40, lambda x: s.CosineAnnealingWarmRestarts(x, 5, T_mult=2)),
    ("cosine_restarts(1, factor=3)", "step", 90, lambda x: s.CosineAnnealingWarmRestarts(x, 1, T_mult=3)),
    ("one_cycle", "step", 40, lambda x: s.OneCycleLR(x, 0.5, total_steps=40)),
    ("one_cycle(share=0.4, start_divisor=10.0, end_divisor=100.0, linear=true)", "step", 40,
     lambda x: s.OneCycleLR(x, 0.5, total_steps=40, pct_start=0.4, div_factor=10, final_div_factor=100, anneal_strategy="linear")),
    ("triangular(6, low=0.1)", "step", 40, lambda x: s.CyclicLR(x, 0.1, 0.5, step_size_up=6, cycle_momentum=False)),
    ("linear(to=0.1)", "step", 40, lambda x: s.LinearLR(x, start_factor=1, end_factor=0.2, total_iters=40)),
    ("polynomial(power=3)", "step", 40, lambda x: s.PolynomialLR(x, 40, power=3)),
    ("multistep([3, 20], factor=0.3)", "epoch", 40, lambda x: s.MultiStepLR(x, [3, 20], gamma=0.3)),
    ("staircase(7, factor=0.6)", "epoch", 40, lambda x: s.StepLR(x, 7, gamma=0.6)),
    ("exponential(0.9)", "epoch", 40, lambda x: s.ExponentialLR(x, 0.9)),
    ("inverse(0.2)", "epoch", 40, lambda x: s.LambdaLR(x, lambda k: 1 / (1 + 0.2 * k))),
    ("harmonic", "step", 40, lambda x: s.LambdaLR(x, lambda k: 1 / (k + 1))),
    ("inverse_sqrt", "step", 40, lambda x: s.LambdaLR(x, lambda k: (k + 1) ** -0.5)),
]


def schedule_rates():
    result = []
    for name, unit, total, make in SCHEDULES:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
        scheduler = make(optimizer)
        rates = []
        for _ in range(total):
            rates.append(float(f"{optimizer.param_groups[0]['lr']:.12g}"))
            optimizer.step()
            scheduler.step()
        result.append({"schedule": name, "unit": unit, "total": total, "rates": rates})
    return result


# --- cases: expressions of x

# Both signs, small and large, no kinks; and the ends of the range.
POINTS = [-1e30, -100.0, -20.5, -7.25, -3.5, -2.1, -1.3, -0.6, -0.1, 0.1, 0.35, 0.7, 1.2, 1.9, 2.6, 4.5, 8.5, 19.5, 100.0, 1e30]


def elementwise(expression, function):
    return dict(expression=expression, shape=[len(POINTS)], rows=1, x=POINTS, torch=lambda x, p, label: function(x))


def wave(count, scale=2.5, start=0.3):
    return [scale * math.sin(1.7 * i + start) for i in range(count)]


def layer(expression, shape, function, rows=3, scale=2.5, **parameters):
    """A case of several rows; parameters are name -> shape and get values of their own."""
    count = rows * math.prod(shape)
    values = {}
    for k, (name, extents) in enumerate(parameters.get("parameters", {}).items()):
        n = math.prod(extents)
        values[name] = (extents, [0.2 + 0.8 * math.cos(0.9 * i + 1.3 * k) for i in range(n)])
    return dict(expression=expression, shape=shape, rows=rows, x=parameters.get("x", wave(count, scale)), parameters=values, torch=function,
                labels=parameters.get("labels"), name=parameters.get("name"))


# Two rows with the ends of the range among ordinary numbers.
EXTREMES = [-1e30, 0.5, -100.0, 99.0, 100.0, 1e30, -0.5, 1.0, -1e30, 3.0]


def batchnorm(call, shape):
    """A layer that trains with the statistics of the batch and evaluates with running ones, which it updates."""
    c = shape[0]
    momentum = 0.25 if "0.25" in call else 0.1
    names = [f"batchnorm_1.{name}" for name in ("gamma", "beta", "running_mean", "running_var")]

    def run(x, p, training, after):
        mean, var = p[names[2]].detach().clone(), p[names[3]].detach().clone()
        y = F.batch_norm(x, mean, var, p[names[0]], p[names[1]], training, momentum)
        if training:
            after[names[2]], after[names[3]] = mean, var
        return y

    return dict(layer(f"x |> {call}", shape, None, rows=4, parameters={name: [c] for name in names}), both=run, states=names[2:])


def batchrenorm(call, shape, rmax, dmax):
    """Ioffe 2017, algorithm 1, with the running statistics as updated there; not in PyTorch, but differentiated by it."""
    c, axes, view = shape[0], [0, *range(2, len(shape) + 1)], [1, shape[0]] + [1] * (len(shape) - 1)
    names = [f"batchrenorm_1.{name}" for name in ("gamma", "beta", "running_mean", "running_std")]

    def run(x, p, training, after):
        gamma, beta, mean, std = (p[name].reshape(view) for name in names)
        if training:
            mu = x.mean(axes, keepdim=True)
            sigma = ((x - mu).square().mean(axes, keepdim=True) + 1e-5).sqrt()
            r = (sigma / std).clamp(1 / rmax, rmax).detach()
            d = ((mu - mean) / std).clamp(-dmax, dmax).detach()
            after[names[2]] = (0.75 * mean + 0.25 * mu).reshape(-1)
            after[names[3]] = (0.75 * std + 0.25 * sigma).reshape(-1)
            return ((x - mu) / sigma * r + d) * gamma + beta
        return (x - mean) / std * gamma + beta

    return dict(layer(f"x |> {call}", shape, None, rows=4, parameters={name: [c] for name in names}), both=run, states=names[2:])


HEADS = {f"multi_head_attention_1.{name}": shape for name, shape in (("in_proj_weight", [18, 6]), ("in_proj_bias", [18]),
                                                                    ("out_proj.weight", [6, 6]), ("out_proj.bias", [6]))}


def heads(x, memory, p, count, causal):
    q = lambda name: p[f"multi_head_attention_1.{name}"]
    mask = torch.triu(torch.ones(x.shape[1], memory.shape[1], dtype=torch.bool), 1) if causal else None
    y, _ = F.multi_head_attention_forward(
        x.transpose(0, 1), memory.transpose(0, 1), memory.transpose(0, 1), 6, count, q("in_proj_weight"), q("in_proj_bias"), None, None,
        False, 0.0, q("out_proj.weight"), q("out_proj.bias"), attn_mask=mask, need_weights=False)
    return y.transpose(0, 1)


def positions(length, width):
    angle = torch.arange(length, dtype=torch.float64)[:, None] / 10000 ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
    return torch.stack([angle.sin(), angle.cos()], -1).reshape(length, width)


CASES = [
    elementwise("relu(x)", F.relu),
    elementwise("sigmoid(x)", torch.sigmoid),
    elementwise("tanh(x)", torch.tanh),
    elementwise("softplus(x)", F.softplus),
    elementwise("leaky_relu(x)", F.leaky_relu),
    elementwise("leaky_relu(x, 0.2)", lambda x: F.leaky_relu(x, 0.2)),
    elementwise("elu(x, alpha=1.5)", lambda x: F.elu(x, 1.5)),
    elementwise("celu(x, alpha=1.5)", lambda x: F.celu(x, 1.5)),
    elementwise("selu(x)", F.selu),
    elementwise("silu(x)", F.silu),
    elementwise("gelu(x)", F.gelu),
    elementwise("gelu_tanh(x)", lambda x: F.gelu(x, approximate="tanh")),
    elementwise("mish(x)", F.mish),
    elementwise("softsign(x)", F.softsign),
    elementwise("log_sigmoid(x)", F.logsigmoid),
    elementwise("relu6(x)", F.relu6),
    elementwise("hard_tanh(x)", F.hardtanh),
    elementwise("hard_sigmoid(x)", F.hardsigmoid),
    elementwise("hard_swish(x)", F.hardswish),
    elementwise("soft_shrink(x, 0.4)", lambda x: F.softshrink(x, 0.4)),
    elementwise("hard_shrink(x, 0.4)", lambda x: F.hardshrink(x, 0.4)),
    elementwise("tanh_shrink(x)", F.tanhshrink),
    layer("glu(x)", [3, 4], lambda x, p, label: F.glu(x, -1)),
    layer("glu(x, 0)", [4, 3], lambda x, p, label: F.glu(x, 1)),
    layer("softmax(x)", [7], lambda x, p, label: F.softmax(x, -1)),
    layer("softmax(x, 0)", [3, 4], lambda x, p, label: F.softmax(x, 1)),
    layer("softmax(x)", [5], lambda x, p, label: F.softmax(x, -1), rows=2, x=EXTREMES, name="softmax of extremes"),
    layer("log_softmax(x)", [5], lambda x, p, label: F.log_softmax(x, -1), rows=2, x=EXTREMES, name="log_softmax of extremes"),
    layer("x |> prelu", [5], lambda x, p, label: F.prelu(x, p["prelu_1.a"]), parameters={"prelu_1.a": [1]}),

    # losses
    layer("cross_entropy(x, label)", [6], lambda x, p, label: F.cross_entropy(x, label, reduction="none"), labels=[1, 5, 0]),
    layer("cross_entropy(x, label)", [5], lambda x, p, label: F.cross_entropy(x, label, reduction="none"), rows=2, x=EXTREMES, labels=[1, 4],
          name="cross_entropy of extremes"),
    layer("cross_entropy(x, label, label_smoothing=0.2)", [6],
          lambda x, p, label: F.cross_entropy(x, label, reduction="none", label_smoothing=0.2), labels=[1, 5, 0]),
    layer("cross_entropy(x, softmax(2 * image))", [6],
          lambda x, p, label: F.cross_entropy(x, F.softmax(2 * x.detach(), -1), reduction="none")),
    layer("cross_entropy(x, softmax(2 * image), label_smoothing=0.2)", [6],
          lambda x, p, label: F.cross_entropy(x, F.softmax(2 * x.detach(), -1), reduction="none", label_smoothing=0.2)),
    layer("kl_divergence(x, softmax(2 * image))", [6],
          lambda x, p, label: F.kl_div(F.log_softmax(x, -1), F.softmax(2 * x.detach(), -1), reduction="none").sum(-1)),
    layer("kl_divergence(x, one_hot(label, 6))", [6],
          lambda x, p, label: F.kl_div(F.log_softmax(x, -1), F.one_hot(label, 6).double(), reduction="none").sum(-1), labels=[1, 5, 0]),
    layer("binary_cross_entropy(x, select(image > 0, 1, 0.25))", [6], lambda x, p, label: F.binary_cross_entropy_with_logits(
        x, torch.where(x.detach() > 0, 1.0, 0.25).double(), reduction="none").mean(-1)),
    layer("binary_cross_entropy(x, select(image > 0, 1, 0.25))", [5], lambda x, p, label: F.binary_cross_entropy_with_logits(
        x, torch.where(x.detach() > 0, 1.0, 0.25).double(), reduction="none").mean(-1), rows=2, x=EXTREMES,
          name="binary_cross_entropy of extremes"),
    layer("hinge(x, label)", [6], lambda x, p, label: 6 * F.multi_margin_loss(x, label, reduction="none"), labels=[1, 5, 0]),
    layer("hinge(x, label, margin=0.4)", [6], lambda x, p, label: 6 * F.multi_margin_loss(x, label, margin=0.4, reduction="none"),
          labels=[1, 5, 0]),
    layer("mse(x, 0.5)", [6], lambda x, p, label: ((x - 0.5) ** 2).mean(-1)),
    layer("l2_loss(x, 0.5)", [6], lambda x, p, label: ((x - 0.5) ** 2).sum(-1) / 2),
    layer("half_squared_error(x, 0.5)", [6], lambda x, p, label: ((x - 0.5) ** 2).sum(-1) / 2),
    layer("l1_loss(x, 0.5)", [6], lambda x, p, label: (x - 0.5).abs().mean(-1)),
    layer("mae(x, 0.5)", [6], lambda x, p, label: (x - 0.5).abs().mean(-1)),
    layer("huber(x, 0.5, delta=1.5)", [6],
          lambda x, p, label: F.huber_loss(x, torch.full_like(x, 0.5), delta=1.5, reduction="none").mean(-1)),
    layer("huber(x, 0)", [5], lambda x, p, label: F.huber_loss(x, torch.zeros_like(x), reduction="none").mean(-1), rows=2, x=EXTREMES,
          name="huber of extremes"),
    layer("hinge(x, label)", [5], lambda x, p, label: 5 * F.multi_margin_loss(x, label, reduction="none"), rows=2, x=EXTREMES, labels=[1, 4],
          name="hinge of extremes"),
    layer("cross_entropy(x, label, label_smoothing=0.2)", [5],
          lambda x, p, label: F.cross_entropy(x, label, reduction="none", label_smoothing=0.2), rows=2, x=EXTREMES, labels=[1, 4],
          name="label smoothing of extremes"),
    layer("kl_divergence(x, one_hot(label, 5))", [5],
          lambda x, p, label: F.kl_div(F.log_softmax(x, -1), F.one_hot(label, 5).double(), reduction="none").sum(-1), rows=2, x=EXTREMES,
          labels=[1, 4], name="kl_divergence of extremes"),
    layer("l1_loss(x, 0.5)", [5], lambda x, p, label: (x - 0.5).abs().mean(-1), rows=2, x=[v if v != 0.5 else 0.75 for v in EXTREMES],
          name="l1_loss of extremes"),
    layer("smooth_l1(x, 0.25)", [5], lambda x, p, label: F.smooth_l1_loss(x, torch.full_like(x, 0.25), reduction="none").mean(-1), rows=2,
          x=EXTREMES, name="smooth_l1 of extremes"),
    layer("glu(x)", [6], lambda x, p, label: F.glu(x, -1), rows=1, x=[2.0, -3.0, 1e30, 1e30, -1e30, 100.0], name="glu of extremes"),
    layer("x |> prelu", [6], lambda x, p, label: F.prelu(x, p["prelu_1.a"]), rows=1, x=[2.0, -3.0, 100.0, 1e30, -100.0, 0.5],
          parameters={"prelu_1.a": [1]}, name="prelu of extremes"),
    layer("smooth_l1(x, 0.5, beta=0.7)", [6],
          lambda x, p, label: F.smooth_l1_loss(x, torch.full_like(x, 0.5), beta=0.7, reduction="none").mean(-1)),
    layer("class_weight(label, [1, 0.5, 0, 3]) * x[0]", [1],
          lambda x, p, label: torch.tensor([1, 0.5, 0, 3], dtype=torch.float64)[label] * x[:, 0], labels=[3, 1, 2]),

    # layers
    layer("x |> dense(3)", [4], lambda x, p, label: F.linear(x, p["dense_1.weight"], p["dense_1.bias"]),
          parameters={"dense_1.weight": [3, 4], "dense_1.bias": [3]}),
    layer("x |> dense(3, bias=false)", [2, 4], lambda x, p, label: F.linear(x, p["dense_1.weight"]), parameters={"dense_1.weight": [3, 4]}),
    layer("x |> weightnorm_dense(3)", [4], lambda x, p, label: F.linear(
        x, torch._weight_norm(p["weightnorm_dense_1.weight_v"], p["weightnorm_dense_1.weight_g"], 0), p["weightnorm_dense_1.bias"]),
          parameters={"weightnorm_dense_1.weight_v": [3, 4], "weightnorm_dense_1.weight_g": [3, 1], "weightnorm_dense_1.bias": [3]}),
    layer("x |> conv2d(4, 3, padding=\"same\", dilation=2, groups=2)", [2, 5, 6],
          lambda x, p, label: F.conv2d(x, p["conv2d_1.weight"], p["conv2d_1.bias"], padding=2, dilation=2, groups=2), rows=2,
          parameters={"conv2d_1.weight": [4, 1, 3, 3], "conv2d_1.bias": [4]}),
    layer("x |> weightnorm_conv2d(3, [2, 3], stride=2, padding=1)", [2, 5, 6], lambda x, p, label: F.conv2d(
        x, torch._weight_norm(p["weightnorm_conv2d_1.weight_v"], p["weightnorm_conv2d_1.weight_g"], 0), p["weightnorm_conv2d_1.bias"],
        stride=2, padding=1), rows=2, parameters={"weightnorm_conv2d_1.weight_v": [3, 2, 2, 3], "weightnorm_conv2d_1.weight_g": [3, 1, 1, 1],
                                                  "weightnorm_conv2d_1.bias": [3]}),
    layer("x |> dropconnect(3, rate=0.0)", [4], lambda x, p, label: F.linear(x, p["dropconnect_1.weight"], p["dropconnect_1.bias"]),
          parameters={"dropconnect_1.weight": [3, 4], "dropconnect_1.bias": [3]}),
    layer("x |> maxout(2, pieces=3)", [4],
          lambda x, p, label: F.linear(x, p["maxout_1.dense_1.weight"], p["maxout_1.dense_1.bias"]).reshape(-1, 2, 3).amax(-1),
          parameters={"maxout_1.dense_1.weight": [6, 4], "maxout_1.dense_1.bias": [6]}),
    layer("x |> layernorm", [2, 6], lambda x, p, label: F.layer_norm(x, [6], p["layernorm_1.gamma"], p["layernorm_1.beta"]),
          parameters={"layernorm_1.gamma": [6], "layernorm_1.beta": [6]}),
    layer("x |> groupnorm(2)", [4, 3, 2], lambda x, p, label: F.group_norm(x, 2, p["groupnorm_1.gamma"], p["groupnorm_1.beta"]),
          parameters={"groupnorm_1.gamma": [4], "groupnorm_1.beta": [4]}),
    layer("x |> groupnorm(3, eps=0.1)", [6], lambda x, p, label: F.group_norm(x, 3, p["groupnorm_1.gamma"], p["groupnorm_1.beta"], 0.1),
          parameters={"groupnorm_1.gamma": [6], "groupnorm_1.beta": [6]}),
    layer("x |> instancenorm", [2, 3, 4], lambda x, p, label: F.instance_norm(x)),
    layer("x |> instancenorm(affine=true)", [2, 7],
          lambda x, p, label: F.instance_norm(x, weight=p["instancenorm_1.gamma"], bias=p["instancenorm_1.beta"]),
          parameters={"instancenorm_1.gamma": [2], "instancenorm_1.beta": [2]}),
    batchnorm("batchnorm(momentum=0.25)", [3]),
    batchnorm("batchnorm", [2, 3, 4]),
    batchrenorm("batchrenorm(momentum=0.25)", [3], 3.0, 5.0),
    batchrenorm("batchrenorm(rmax=1.2, dmax=0.1, momentum=0.25)", [2, 3, 4], 1.2, 0.1),
    layer("x @ reshape(image, [2, 4, 3])", [2, 3, 4], lambda x, p, label: x @ x.detach().reshape(-1, 2, 4, 3), rows=2),
    layer("(x[0..2] @ transpose(x, [0, 2, 1])[1..2])", [3, 2, 4], lambda x, p, label: x[:, :2] @ x[:, 1:2].transpose(-1, -2), rows=2),
    layer("attention(x, tanh(x), x * x)", [4, 3],
          lambda x, p, label: F.scaled_dot_product_attention(x, torch.tanh(x), x * x)),
    layer("attention(x, tanh(x), x * x, causal=true)", [2, 5, 3],
          lambda x, p, label: F.scaled_dot_product_attention(x, torch.tanh(x), x * x, is_causal=True), rows=2),
    layer("x |> multi_head_attention(2)", [5, 6], lambda x, p, label: heads(x, x, p, 2, False), rows=2, scale=1.0, parameters=HEADS),
    layer("x |> multi_head_attention(3, causal=true)", [5, 6], lambda x, p, label: heads(x, x, p, 3, True), rows=2, scale=1.0,
          parameters=HEADS),
    layer("multi_head_attention(x[0..2], 2, memory=x[1..4])", [4, 6], lambda x, p, label: heads(x[:, :2], x[:, 1:], p, 2, False), rows=2,
          scale=1.0, parameters=HEADS),
    layer("embedding(cast(image, \"i32\"), 5, 3) + reshape(x, [4, 1])", [4],
          lambda x, p, label: F.embedding(x.detach().long(), p["embedding_1.weight"]) + x[..., None], rows=3,
          x=[0, 4, 1, 1, 2, 0, 4, 4, 1, 1, 3, 0], parameters={"embedding_1.weight": [5, 3]}),
    layer("gather(x, label)", [4, 3], lambda x, p, label: x[torch.arange(3), label], labels=[3, 0, 2]),
    layer("gather(x, cast(image[0], \"i32\"), -1)", [2, 3], lambda x, p, label: torch.stack(
        [row[:, row[0].detach().long()] for row in x]), x=[2, 0, 2, 0.5, 1.5, -1, 1, 2, 0, 3, -4, 5, 0, 0, 1, 2.5, 7, 8]),
    layer("fractional_pairs(fractional_pairs(x, 1, 5, 0.3), 2, 4, 0.8)", [2, 8, 6], lambda x, p, label: F.fractional_max_pool2d(
        x, 2, output_size=(5, 4), _random_samples=torch.tensor([0.8, 0.3], dtype=torch.float64).expand(x.shape[0], 2, 2)), rows=2),
    layer("x + sinusoidal_positions(4, 6)", [4, 6], lambda x, p, label: x + positions(4, 6)),
]


def run_case(case):
    rows, shape = case["rows"], case["shape"]
    image = f32(case["x"]).reshape([rows] + shape)
    x0 = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    parameters = {name: f32(values).reshape(extents).requires_grad_() for name, (extents, values) in case.get("parameters", {}).items()}
    labels = case.get("labels") or list(range(rows))
    label = torch.tensor(labels)
    x = image + (1 + label.double()).reshape([rows] + [1] * len(shape)) * x0
    states = case.get("states", [])
    after = {}
    if "both" in case:
        for name in states:
            with torch.no_grad():
                parameters[name].abs_()
        trained = case["both"](x, parameters, True, after)
        y = case["both"](x, parameters, False, {})
    else:
        y = trained = case["torch"](x, parameters, label)
    flat = trained.reshape(rows, -1)
    weights = torch.cos(torch.arange(flat.shape[1], dtype=torch.float64))
    loss = ((1 + label.double()) * (flat * weights).sum(-1)).sum() / rows
    leaves = {"x0": x0, **{name: p for name, p in parameters.items() if name not in states}}
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    entry = {"expression": case["expression"], "shape": shape, "rows": rows, "x": numbers(image)}
    if case.get("name"):
        entry["name"] = case["name"]
    entry["labels"] = labels
    entry["parameters"] = {name: numbers(p) for name, p in parameters.items()}
    entry["y"] = numbers(y)
    entry["loss"] = numbers(loss)[0]
    entry["gradients"] = {name: numbers(g) for name, g in zip(leaves, gradients)}
    if after:
        entry["after"] = {name: numbers(v) for name, v in after.items()}
    return entry


def weighted_loss():
    """The mean cross entropy with class weights: PyTorch divides by the sum of the weights."""
    labels, weights = [2, 0, 3, 3, 1], [1.0, 0.5, 3.0, 0.25]
    image = f32(wave(20)).reshape(5, 4)
    x0 = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    loss = F.cross_entropy(image + x0, torch.tensor(labels), weight=torch.tensor(weights, dtype=torch.float64))
    loss.backward()
    return {"x": numbers(image), "labels": labels, "weights": weights, "loss": numbers(loss)[0], "gradient": numbers(x0.grad)}


def table():
    torch.manual_seed(0)
    return {"made_by": "tools/reference_tables.py", "torch": torch.__version__.split("+")[0], "optimizers": optimizer_traces(),
            "schedules": schedule_rates(), "weighted": weighted_loss(), "cases": [run_case(case) for case in CASES]}


def text(value):
    """JSON with one case, trace or list a line."""
    lines = ['{"made_by": %s, "torch": %s,' % (json.dumps(value["made_by"]), json.dumps(value["torch"]))]
    optimizers = value["optimizers"]
    lines.append('"optimizers": {"start": %s,' % json.dumps(optimizers["start"]))
    lines.append('"gradients": %s,' % json.dumps(optimizers["gradients"]))
    for part in ("traces", "matrix_traces", "tall_traces", "wide_traces"):
        lines.append('"%s": {' % part)
        lines.append(",\n".join("%s: %s" % (json.dumps(k), json.dumps(v)) for k, v in optimizers[part].items()) + "},")
    lines[-1] = lines[-1][:-1] + "},"
    lines.append('"schedules": [')
    lines.append(",\n".join(json.dumps(v) for v in value["schedules"]) + "],")
    lines.append('"weighted": %s,' % json.dumps(value["weighted"]))
    lines.append('"cases": [')
    lines.append(",\n".join(json.dumps(v) for v in value["cases"]) + "]}")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the committed table")
    arguments = parser.parse_args()
    made = text(table())
    if not arguments.check:
        TABLE.write_text(made)
        return 0
    same = TABLE.is_file() and TABLE.read_text() == made
    print("the table is what PyTorch computes" if same else "the table differs from what PyTorch computes")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
