#!/usr/bin/env python3
"""Compares gradc's losses with PyTorch's over the first steps of training, optimizer by optimizer; uses both only as programs.

A small net without dropout (784-64-32-10, batchnorm after the first layer, ReLU) trains the same number of steps in both from the same
weights, on the same batches in the data's own order. Every step's loss must agree to 1e-4 relative. gradc makes the initial weights and
saves them (--steps 0 --save); PyTorch loads that file by name.

usage: compare_with_pytorch.py [--tool build/bin/gradc] [--data synthetic|mnist] [--steps 20] [--tolerance 1e-4] [--optimizer NAME]

Exits with 0 when all agree, 1 when not, 77 (skipped) without PyTorch or the data.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MNIST = ROOT / ".." / "shared" / "data" / "mnist"
BATCH = 64

MODEL = """\
data digits = %(data)s
model net(image: f32[1, 28, 28]) {
    return image |> flatten |> dense(64) |> batchnorm |> relu |> dense(32) |> relu |> dense(10)
}
train {
    logits    = net(digits.image)
    loss      cross_entropy(logits, digits.label)
    metric    accuracy(logits, digits.label)
    predict   logits
    optimizer %(optimizer)s
    epochs    1
    seed      3
}
"""

# gradc's name, and PyTorch's optimizer.
OPTIMIZERS = {
    "sgd": ("sgd(lr=0.1)", lambda torch, p: torch.optim.SGD(p, lr=0.1)),
    "sgd_decay": ("sgd(lr=0.1, weight_decay=0.01)", lambda torch, p: torch.optim.SGD(p, lr=0.1, weight_decay=0.01)),
    "momentum": ("momentum(lr=0.05, momentum=0.9, weight_decay=3e-4)",
                 lambda torch, p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=3e-4)),
    "rmsprop": ("rmsprop(lr=1e-3, momentum=0.5, centered=true)",
                lambda torch, p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.5, centered=True)),
    "adadelta": ("adadelta()", lambda torch, p: torch.optim.Adadelta(p)),
    "adamax": ("adamax(lr=2e-3)", lambda torch, p: torch.optim.Adamax(p, lr=2e-3)),
    "nadam": ("nadam(lr=2e-3, weight_decay=0.01)", lambda torch, p: torch.optim.NAdam(p, lr=2e-3, weight_decay=0.01)),
    "radam": ("radam(lr=2e-3)", lambda torch, p: torch.optim.RAdam(p, lr=2e-3)),
    "adafactor": ("adafactor(lr=1e-2)", lambda torch, p: torch.optim.Adafactor(p, lr=1e-2)),
    "amsgrad": ("adamw(lr=1e-3, amsgrad=true)", lambda torch, p: torch.optim.AdamW(p, lr=1e-3, amsgrad=True)),
    "adam": ("adam(lr=1e-3)", lambda torch, p: torch.optim.Adam(p, lr=1e-3)),
    "adamw": ("adamw(lr=1e-3, weight_decay=0.05)", lambda torch, p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.05)),
}


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def read_safetensors(path, torch):
    """The arrays of a safetensors file by name (only F32, which is all that gradc saves for parameters and statistics)."""
    raw = Path(path).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        assert entry["dtype"] == "F32", (name, entry)
        begin, end = (8 + length + x for x in entry["data_offsets"])
        tensors[name] = torch.frombuffer(bytearray(raw[begin:end]), dtype=torch.float32).reshape(entry["shape"])
    return tensors


def read_idx(path, torch):
    import gzip
    raw = gzip.open(path, "rb").read()
    rank = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * i:8 + 4 * i], "big") for i in range(rank)]
    return torch.frombuffer(bytearray(raw[4 + 4 * rank:]), dtype=torch.uint8).reshape(shape)


def gradc(tool, *arguments):
    result = subprocess.run([tool, *map(str, arguments)], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"gradc {' '.join(map(str, arguments))}: exit code {result.returncode}\n{result.stderr}")
    return [json.loads(line) for line in result.stdout.splitlines()]


def batches(data, steps, torch, tool, folder):
    """The images and labels of the first steps, in the data's own order. Synthetic digits come through gradc itself: a model that
    predicts its input."""
    count = steps * BATCH
    if data == "mnist":
        images = read_idx(MNIST / "train-images-idx3-ubyte.gz", torch)[:count].to(torch.float32) / 255
        return images.reshape(count, 784), read_idx(MNIST / "train-labels-idx1-ubyte.gz", torch)[:count].long()
    fields = {}
    for field, value in (("image", "flatten(digits.image)"), ("label", "one_hot(digits.label, 10)")):
        model = MODEL % dict(data=source(data, steps), optimizer="sgd(lr=0.1)")
        path = folder / f"{field}.nn"
        path.write_text(model.replace("predict   logits", f"predict   {value}"))
        gradc(tool, "train", path, "--steps", 0, "--json", "--save", folder / "any.safetensors")
        rows = gradc(tool, "predict", path, "--weights", folder / "any.safetensors", "--split", "train", "--json")
        fields[field] = torch.tensor([row["predict"] for row in rows], dtype=torch.float32)
    return fields["image"], fields["label"].argmax(dim=1)


def source(data, steps):
    if data == "mnist":
        return f'mnist("{MNIST}", batch={BATCH})'
    return f"synthetic_digits(train={steps * BATCH}, test=32, batch={BATCH})"


def build(torch, weights):
    """The same net with gradc's weights, found by the ends of their names."""
    nn = torch.nn
    layers = {"dense_1": nn.Linear(784, 64), "batchnorm_1": nn.BatchNorm1d(64), "dense_2": nn.Linear(64, 32),
              "dense_3": nn.Linear(32, 10)}
    translate = {"gamma": "weight", "beta": "bias"}
    used = set()
    for name, value in weights.items():
        parts = name.split(".")
        own = dict(layers[parts[-2]].named_parameters()) | dict(layers[parts[-2]].named_buffers())
        target = own.get(parts[-1], own.get(translate.get(parts[-1])))
        assert target is not None and target.shape == value.shape, (name, value.shape)
        with torch.no_grad():
            target.copy_(value)
        used.add((parts[-2], parts[-1]))
    assert len(used) >= 8, sorted(weights)
    return nn.Sequential(layers["dense_1"], layers["batchnorm_1"], nn.ReLU(), layers["dense_2"], nn.ReLU(), layers["dense_3"])


def compare(name, torch, arguments, images, labels, folder):
    text, make = OPTIMIZERS[name]
    model = folder / f"{name}.nn"
    model.write_text(MODEL % dict(data=source(arguments.data, arguments.steps), optimizer=text))
    weights = folder / f"{name}.safetensors"
    gradc(arguments.tool, "train", model, "--steps", 0, "--save", weights, "--json")
    events = gradc(arguments.tool, "train", model, "--steps", arguments.steps, "--no-shuffle", "--init-from", weights, "--log-every", 1,
                   "--json")
    ours = [e["loss"] for e in events if e["event"] == "step"]
    assert len(ours) == arguments.steps, events

    net = build(torch, read_safetensors(weights, torch))
    net.train()
    optimizer = make(torch, net.parameters())
    theirs = []
    for step in range(arguments.steps):
        rows = slice(step * BATCH, (step + 1) * BATCH)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(net(images[rows]), labels[rows])
        loss.backward()
        optimizer.step()
        theirs.append(loss.item())
    worst = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs))
    # A comparison of two constant losses would prove nothing: the loss must have moved.
    moved = abs(theirs[-1] - theirs[0]) / abs(theirs[0])
    ok = worst <= arguments.tolerance and moved > 0.01
    print(f"{name:10} first {ours[0]:.6f}/{theirs[0]:.6f}  last {ours[-1]:.6f}/{theirs[-1]:.6f}  worst relative {worst:.2e}  "
          f"{'ok' if ok else 'FAIL'}")
    return ok


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tool", default=str(ROOT / "build" / "bin" / "gradc"))
    parser.add_argument("--data", choices=["synthetic", "mnist"], default="synthetic")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--optimizer", choices=list(OPTIMIZERS), action="append")
    arguments = parser.parse_args()
    try:
        import torch
    except ImportError:
        skip("PyTorch is not installed")
    if arguments.data == "mnist" and not MNIST.is_dir():
        skip(f"{MNIST} is not there")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        images, labels = batches(arguments.data, arguments.steps, torch, arguments.tool, folder)
        results = [compare(name, torch, arguments, images, labels, folder) for name in arguments.optimizer or OPTIMIZERS]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
