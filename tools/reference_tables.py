#!/usr/bin/env python3
"""Writes tests/driver/pytorch.json: what PyTorch computes, in double precision, for the optimizers, schedules, activations, losses and
layers that gradc's prelude has too. tests/driver/methods_test.cpp holds native code to it, so that the tests need no PyTorch.

usage: reference_tables.py [--check]     (--check: only say whether the committed table is what PyTorch computes now)

A case's `expression` is .nn text with the input `x`; its `torch` function gets the same input and the parameters by gradc's names.
The loss is the mean over the rows of sum_j cos(j) y_j, y being the flattened result of a row. Inputs are f32 numbers.
"""
import argparse
import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

TABLE = Path(__file__).resolve().parent.parent / "tests" / "driver" / "pytorch.json"
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
    "rprop(lr=0.05)": lambda p: o.Rprop(p, lr=0.05),
    "rprop(lr=0.05, shrink=0.3, grow=1.5, least=1e-2, most=0.2)":
        lambda p: o.Rprop(p, lr=0.05, etas=(0.3, 1.5), step_sizes=(1e-2, 0.2)),
}


def optimizer_traces():
    traces = {}
    for name, make in OPTIMIZERS.items():
        w = torch.nn.Parameter(START.clone())
        optimizer = make([w])
        trace = []
        for g in GRADIENTS:
            w.grad = g.clone()
            optimizer.step()
            trace.append(numbers(w))
        traces[name] = trace
    return {"start": numbers(START), "gradients": [numbers(g) for g in GRADIENTS], "traces": traces}


# --- schedules: the rate of each scheduler step, from lr = 0.5; `unit` is what a scheduler step is for gradc

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
]


def run_case(case):
    rows, shape = case["rows"], case["shape"]
    image = f32(case["x"]).reshape([rows] + shape)
    x0 = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    parameters = {name: f32(values).reshape(extents).requires_grad_() for name, (extents, values) in case.get("parameters", {}).items()}
    label = torch.tensor(case["labels"]) if case.get("labels") else None
    y = case["torch"](image + x0, parameters, label)
    flat = y.reshape(rows, -1)
    weights = torch.cos(torch.arange(flat.shape[1], dtype=torch.float64))
    loss = (flat * weights).sum() / rows
    leaves = {"x0": x0, **parameters}
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    entry = {"expression": case["expression"], "shape": shape, "rows": rows, "x": numbers(image)}
    if case.get("name"):
        entry["name"] = case["name"]
    if label is not None:
        entry["labels"] = case["labels"]
    entry["parameters"] = {name: numbers(p) for name, p in parameters.items()}
    entry["y"] = numbers(y)
    entry["gradients"] = {name: numbers(g) for name, g in zip(leaves, gradients) if g is not None}
    return entry


def table():
    torch.manual_seed(0)
    return {"made_by": "tools/reference_tables.py", "torch": torch.__version__.split("+")[0], "optimizers": optimizer_traces(),
            "schedules": schedule_rates(), "cases": [run_case(case) for case in CASES]}


def text(value):
    """JSON with one case, trace or list a line."""
    lines = ['{"made_by": %s, "torch": %s,' % (json.dumps(value["made_by"]), json.dumps(value["torch"]))]
    optimizers = value["optimizers"]
    lines.append('"optimizers": {"start": %s,' % json.dumps(optimizers["start"]))
    lines.append('"gradients": %s,' % json.dumps(optimizers["gradients"]))
    lines.append('"traces": {')
    lines.append(",\n".join("%s: %s" % (json.dumps(k), json.dumps(v)) for k, v in optimizers["traces"].items()) + "}},")
    lines.append('"schedules": [')
    lines.append(",\n".join(json.dumps(v) for v in value["schedules"]) + "],")
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
