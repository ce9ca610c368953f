#!/usr/bin/env python3
"""Trains examples/resnet20.nn's network in PyTorch with the same recipe, and prints its accuracy.

    pip install torch numpy
    tools/train_resnet20.py DIR --epochs 15 --seed 1          # DIR: CIFAR-10's binary files
    tools/train_resnet20.py DIR --epochs 15 --seed 1 --plain  # examples/plain20.nn: no shortcuts

The recipe: nine tenths of the training images, normalised by channel with their own mean and standard deviation;
random crops of the image padded with 4 zeros, mirror images with probability 0.5; batches of 128, shuffled, the last
partial one kept; momentum 0.9, weight decay 3e-4 on weights alone, a rate of 0.1, warmed up over
100 steps and then by cosine to 0; kaiming-normal convolutions. A tool for comparing; gradc needs none of it.
"""

import argparse
import math
import pathlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional


def read(files):
    rows = np.concatenate([np.fromfile(f, dtype=np.uint8).reshape(-1, 3073) for f in files])
    return torch.from_numpy(rows[:, 1:].reshape(-1, 3, 32, 32).astype(np.float32) / 255), torch.from_numpy(
        rows[:, 0].astype(np.int64)
    )


def conv_bn(inputs, outputs, kernel=3, stride=1):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, plain):
        super().__init__()
        self.first, self.second = conv_bn(inputs, outputs, 3, stride), conv_bn(outputs, outputs)
        self.plain = plain
        self.shortcut = None
        if not plain and (stride != 1 or inputs != outputs):
            self.shortcut = conv_bn(inputs, outputs, 1, stride)

    def forward(self, x):
        h = self.second(functional.relu(self.first(x)))
        if not self.plain:
            h = h + (self.shortcut(x) if self.shortcut else x)
        return functional.relu(h)


class ResNet20(nn.Module):
    def __init__(self, plain, width=16):
        super().__init__()
        layers = [conv_bn(3, width), nn.ReLU()]
        inputs = width
        for stage, outputs in enumerate((width, 2 * width, 4 * width)):
            for i in range(3):
                layers.append(Block(inputs, outputs, 2 if stage > 0 and i == 0 else 1, plain))
                inputs = outputs
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, 10)
        nn.init.normal_(self.head.weight, 0, 0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


def augment(images, generator):
    n = len(images)
    padded = functional.pad(images, (4, 4, 4, 4))
    y, x = torch.randint(0, 9, (2, n), generator=generator)
    mirrored = torch.rand(n, generator=generator) < 0.5
    made = torch.stack([padded[i, :, y[i] : y[i] + 32, x[i] : x[i] + 32] for i in range(n)])
    made[mirrored] = made[mirrored].flip(3)
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(o.seed)
    generator = torch.Generator().manual_seed(o.seed)

    images, labels = read(sorted(o.folder.glob("data_batch_*.bin")))
    test_images, test_labels = read([o.folder / "test_batch.bin"])
    order = torch.randperm(len(images), generator=generator)[: len(images) * 9 // 10]
    images, labels = images[order], labels[order]
    mean, std = images.mean((0, 2, 3), keepdim=True), images.std((0, 2, 3), keepdim=True)
    images, test_images = (images - mean) / std, (test_images - mean) / std

    model = ResNet20(o.plain).to(memory_format=torch.channels_last)
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD(
        [{"params": weights, "weight_decay": 3e-4}, {"params": others, "weight_decay": 0}], lr=o.rate, momentum=0.9
    )
    batch = 128
    total = o.epochs * math.ceil(len(images) / batch)

    def rate(step):
        if step < 100:
            return (step + 1) / 100
        return 0.5 * (1 + math.cos(math.pi * (step - 100) / max(1, total - 100)))

    step = 0
    for epoch in range(o.epochs):
        model.train()
        losses = 0.0
        for indices in torch.randperm(len(images), generator=generator).split(batch):
            x = augment(images[indices], generator).to(memory_format=torch.channels_last)
            for group in optimizer.param_groups:
                group["lr"] = o.rate * rate(step)
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x), labels[indices])
            loss.backward()
            optimizer.step()
            losses += loss.item() * len(indices)
            step += 1
        model.eval()
        with torch.no_grad():
            right = sum(
                (model(x).argmax(1) == y).sum().item()
                for x, y in zip(test_images.split(500), test_labels.split(500))
            )
        print(
            f"epoch {epoch + 1}/{o.epochs}  loss {losses / len(images):.4f}  test accuracy "
            f"{100 * right / len(test_images):.2f}%",
            flush=True,
        )


if __name__ == "__main__":
    main()
