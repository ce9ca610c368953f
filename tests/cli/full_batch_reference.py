#!/usr/bin/env python3
"""Writes full_batch_reference.json: what optimizers of all examples do on a small classification problem, computed in
double precision with PyTorch (torch.optim.LBFGS) and from the definitions. Run by hand: python3 full_batch_reference.py."""

import json
import pathlib

import torch

torch.set_default_dtype(torch.float64)

EXAMPLES, CLASSES, HIDDEN, PIXELS, STEPS, BATCH = 40, 3, 6, 9, 16, 16


def numbers(count, seed):
    """Integers below 2^31 of a linear congruential generator, so that nothing depends on a library's generator."""
    state = seed
    for _ in range(count):
        state = (1103515245 * state + 12345) % 2**31
        yield state


pixels = [n >> 16 & 255 for n in numbers(EXAMPLES * PIXELS, 1)]
labels = []
for e in range(EXAMPLES):
    row = pixels[e * PIXELS:(e + 1) * PIXELS]
    labels.append(max(range(CLASSES), key=lambda c: sum(row[c::CLASSES]) + 40 * (c == row[0] % CLASSES)))
shapes = {"body.weight": (HIDDEN, PIXELS), "body.bias": (HIDDEN,), "head.weight": (CLASSES, HIDDEN), "head.bias": (CLASSES,)}
weights = {}
for i, (name, shape) in enumerate(shapes.items()):
    count = torch.Size(shape).numel()
    # Multiples of 2^-10: exact in single precision.
    weights[name] = [round((n / 2**31 - 0.5) * 1024) / 1024 for n in numbers(count, 7 + i)]

x = torch.tensor(pixels).reshape(EXAMPLES, PIXELS) / 255
y = torch.tensor(labels)


def start():
    return {n: torch.tensor(weights[n]).reshape(shapes[n]).requires_grad_() for n in shapes}


def loss_of(p, rows=slice(None), penalty=True):
    h = torch.tanh(x[rows] @ p["body.weight"].T + p["body.bias"])
    loss = torch.nn.functional.cross_entropy(h @ p["head.weight"].T + p["head.bias"], y[rows])
    if penalty:
        loss = loss + 1e-3 / 2 * sum((p[n] ** 2).sum() for n in p if n.endswith("weight"))
    return loss


def gradient(p, *args):
    return torch.autograd.grad(loss_of(p, *args), list(p.values()))


def lbfgs(line_search, lr, history):
    """The loss after 0, 1, 2, ... iterations of one call of step()."""
    losses = []
    for iterations in range(STEPS):
        p = start()
        optimizer = torch.optim.LBFGS(p.values(), lr=lr, max_iter=max(iterations, 1), max_eval=10**6, history_size=history,
                                      line_search_fn=line_search)

        def closure():
            optimizer.zero_grad()
            loss = loss_of(p)
            loss.backward()
            return loss

        if iterations > 0:
            optimizer.step(closure)
        losses.append(loss_of(p).item())
    return losses


def descent(lr, armijo):
    p = start()
    losses = []
    for _ in range(STEPS):
        loss, g = loss_of(p).item(), gradient(p)
        losses.append(loss)
        squares = sum((d**2).sum().item() for d in g)
        t = lr
        while True:
            q = {n: (v - t * d).detach().requires_grad_() for (n, v), d in zip(p.items(), g)}
            if not armijo or loss_of(q).item() <= loss - 1e-4 * t * squares:
                break
            t /= 2
        p = q
    return losses


def svrg(lr):
    """Johnson and Zhang 2013 with batches in order; an epoch's loss is the mean of its batches' as they were met. The penalty's gradient is
    exact in every update."""
    p = start()
    losses = []
    for _ in range(STEPS):
        anchor = {n: v.detach().clone().requires_grad_() for n, v in p.items()}
        full = gradient(anchor, slice(None), False)
        total = 0
        for begin in range(0, EXAMPLES, BATCH):
            rows = slice(begin, min(begin + BATCH, EXAMPLES))
            total += loss_of(p, rows).item() * (rows.stop - begin)
            here, there = gradient(p, rows), gradient(anchor, rows, False)
            p = {n: (v - lr * (a - b + c)).detach().requires_grad_()
                 for (n, v), a, b, c in zip(p.items(), here, there, full)}
        losses.append(total / EXAMPLES)
    return losses


cases = {
    "lbfgs()": lbfgs("strong_wolfe", 1, 10),
    "lbfgs(history=3)": lbfgs("strong_wolfe", 1, 3),
    "lbfgs(lr=0.5, line_search=\"none\")": lbfgs(None, 0.5, 10),
    "gd(lr=0.5)": descent(0.5, False),
    "gd(lr=16, line_search=\"armijo\")": descent(16, True),
    "svrg(lr=0.3)": svrg(0.3),
}
table = {"torch": torch.__version__, "pixels": pixels, "labels": labels, "shapes": shapes, "weights": weights, "losses": cases}
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(json.dumps(table, separators=(",", ":")).replace("],", "],\n") + "\n")
for name, losses in cases.items():
    print(name, losses[:3], losses[-1])
