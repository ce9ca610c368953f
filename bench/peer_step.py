#!/usr/bin/env python3
"""Times a training step of a workload of bench/workloads/ in PyTorch or JAX, on the CPU; knows nothing of gradc.

usage: peer_step.py torch|torch_compile|jax WORKLOAD [--threads N] [--seconds S] [--channels-last]

A step is forward, loss, backward and parameter update on one batch of floats that stands in memory. Sixteen steps
warm up, then steps are timed one by one. stdout gets one JSON object:

  ms, best_ms    a step: median and shortest        steps         how many were timed
  start_ms       from the start of the process to the end of the first 16 steps, compilation included
  peak_rss_mb    the most memory the process had    loss          the last step's

Exits with 0, with 1 when the step fails (the last line on stderr says why), with 77 when the framework is not
installed.
"""
import argparse
import json
import math
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from statistics import median
from typing import List, NamedTuple, Optional, Tuple

WARM_UP_STEPS = 16


# --- The workloads, once for all frameworks; tests/bench_peers_test.py compares them with bench/workloads/*.nn.

class Dense(NamedTuple):
    outputs: int
    std: Optional[float] = None  # of the first weights; None: as the framework likes


class Conv(NamedTuple):
    channels: int
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    bias: bool = False
    depthwise: bool = False  # a filter for each channel


class Dropout(NamedTuple):
    rate: float


class Residual(NamedTuple):
    """body(x) + x. Where the body changes the shape, x loses rows and columns and gains channels of zeros on both
    sides (option A of He et al. 2015)."""
    body: tuple
    stride: int


class Embedding(NamedTuple):
    """Rows of a table at tokens, plus a learned row for each position."""
    tokens: int
    width: int
    std: float = 0.02


class Block(NamedTuple):
    """x + attention(norm(x)), then x + net(norm(x)) with a hidden layer of four times the width: causal, pre-norm."""
    heads: int


class Lstm(NamedTuple):
    """The last state of one layer over [steps, features]."""
    width: int


BATCHNORM, RELU, TANH, LAYERNORM = "batchnorm", "relu", "tanh", "layernorm"
MAX_POOL, GLOBAL_AVG_POOL, FLATTEN = "max_pool", "global_avg_pool", "flatten"


class Workload(NamedTuple):
    batch: int
    shape: Tuple[int, ...]  # of one example: features, or channels, height and width
    optimizer: str  # adam, momentum (0.9) or sgd
    lr: float
    layers: list
    weight_decay: float = 0
    tokens: int = 0  # inputs and labels are as many different integers, one label a position; 0: floats, one label


def head(outputs):
    return Dense(outputs, std=0.01)  # the first loss is that of a guess, so that no learning rate is too high


def dense_net(widths, outputs, *after_each):
    """Dense layers, each but the last followed by the same layers."""
    layers: List[object] = []
    for width in widths:
        layers += [Dense(width), *after_each]
    return layers + [head(outputs)]


def cifar_net(residual):
    """ResNet-20 (He et al. 2015), or the plain network of its size."""
    layers = [Conv(16), BATCHNORM, RELU]
    for channels in (16, 32, 64):
        for i in range(3):
            stride = 2 if i == 0 and channels != 16 else 1
            body = (Conv(channels, stride=stride), BATCHNORM, RELU, Conv(channels), BATCHNORM)
            layers += [Residual(body, stride)] if residual else body
            layers.append(RELU)
    return layers + [GLOBAL_AVG_POOL, head(10)]


def vgg_net():
    layers: List[object] = []
    for channels in (64, 128, 256):
        layers += [Conv(channels), BATCHNORM, RELU, Conv(channels), BATCHNORM, RELU, MAX_POOL]
    return layers + [FLATTEN, head(10)]


def separable(channels, stride, wide):
    return [Conv(channels, stride=stride, depthwise=True), BATCHNORM, RELU,
            Conv(wide, kernel=1, padding=0), BATCHNORM, RELU]


def mobile_net():
    layers: List[object] = [Conv(32), BATCHNORM, RELU]
    for channels, stride, wide in ((32, 1, 64), (64, 2, 128), (128, 1, 128), (128, 2, 256), (256, 1, 256)):
        layers += separable(channels, stride, wide)
    return layers + [GLOBAL_AVG_POOL, head(10)]


def gpt_net(tokens=256, width=128):
    return [Embedding(tokens, width), *[Block(4)] * 4, LAYERNORM, head(tokens)]


LENET = [Conv(6, 5, padding=2, bias=True), RELU, MAX_POOL, Conv(16, 5, padding=0, bias=True), RELU, MAX_POOL, FLATTEN,
         *dense_net([120, 84], 10, RELU)]

WORKLOADS = {
    "mlp": Workload(128, (784,), "adam", 1e-3, dense_net([512, 512], 10, BATCHNORM, RELU, Dropout(0.5))),
    "tanh10": Workload(1000, (500,), "sgd", 1e-2, dense_net([500] * 10, 10, TANH)),
    "lenet": Workload(64, (1, 28, 28), "momentum", 1e-2, LENET),
    "resnet20": Workload(128, (3, 32, 32), "momentum", 0.1, cifar_net(residual=True), weight_decay=3e-4),
    "plain20": Workload(128, (3, 32, 32), "momentum", 0.1, cifar_net(residual=False), weight_decay=3e-4),
    "vgg": Workload(64, (3, 32, 32), "adam", 1e-3, vgg_net()),
    "wide": Workload(256, (4096,), "adam", 1e-4, dense_net([4096, 4096], 1000, RELU)),
    "tiny": Workload(32, (64,), "adam", 1e-3, dense_net([64, 64], 10, RELU)),
    "resnet20_b1": Workload(1, (3, 32, 32), "momentum", 0.01, cifar_net(residual=True), weight_decay=3e-4),
    "resnet20_b8": Workload(8, (3, 32, 32), "momentum", 0.01, cifar_net(residual=True), weight_decay=3e-4),
    "gpt": Workload(16, (128,), "adam", 1e-3, gpt_net(), tokens=256),
    "gpt_b4": Workload(4, (128,), "adam", 1e-3, gpt_net(), tokens=256),
    "lstm": Workload(64, (28, 28), "adam", 1e-3, [Lstm(128), head(10)]),
    "mobile": Workload(64, (3, 32, 32), "momentum", 0.05, mobile_net()),
}
CLASSES = 10  # labels are 0 to 9, also where there are more outputs
MOMENTUM = 0.9


def shape_behind(layer, shape):
    """The shape of one example behind a layer."""
    if isinstance(layer, Dense):
        return (*shape[:-1], layer.outputs)
    if isinstance(layer, Embedding):
        return (*shape, layer.width)
    if isinstance(layer, Lstm):
        return (layer.width,)
    if isinstance(layer, Conv):
        return (layer.channels, *((n + 2 * layer.padding - layer.kernel) // layer.stride + 1 for n in shape[1:]))
    if isinstance(layer, Residual):
        for inner in layer.body:
            shape = shape_behind(inner, shape)
        return shape
    if layer == MAX_POOL:
        return (shape[0], shape[1] // 2, shape[2] // 2)
    if layer == GLOBAL_AVG_POOL:
        return shape[:1]
    if layer == FLATTEN:
        return (math.prod(shape),)
    return shape


# --- PyTorch

def torch_net(torch, layers, shape):
    nn = torch.nn

    class ResidualSum(nn.Module):
        def __init__(self, body, stride, more):
            super().__init__()
            self.body, self.stride, self.more = body, stride, more

        def forward(self, x):
            y = self.body(x)
            if self.stride != 1:
                x = x[:, :, ::self.stride, ::self.stride]
            if self.more:
                x = nn.functional.pad(x, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))
            return y + x

    class Positions(nn.Module):
        def __init__(self, tokens, length, width, std):
            super().__init__()
            self.table = nn.Embedding(tokens, width)
            self.positions = nn.Parameter(torch.randn(length, width) * std)
            nn.init.normal_(self.table.weight, std=std)

        def forward(self, x):
            return self.table(x) + self.positions

    class Decoder(nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.heads = heads
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.in_proj, self.out_proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.net = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

        def forward(self, x):
            batch, length, width = x.shape
            q, k, v = (part.view(batch, length, self.heads, -1).transpose(1, 2)
                       for part in self.in_proj(self.norm1(x)).split(width, dim=2))
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out_proj(y.transpose(1, 2).reshape(batch, length, width))
            return x + self.net(self.norm2(x))

    class LastState(nn.Module):
        def __init__(self, features, width):
            super().__init__()
            self.lstm = nn.LSTM(features, width, batch_first=True)

        def forward(self, x):
            return self.lstm(x)[0][:, -1]

    modules = []
    for layer in layers:
        behind = shape_behind(layer, shape)
        if isinstance(layer, Dense):
            modules.append(nn.Linear(shape[-1], layer.outputs))
            if layer.std is not None:
                nn.init.normal_(modules[-1].weight, std=layer.std)
        elif isinstance(layer, Conv):
            modules.append(nn.Conv2d(shape[0], layer.channels, layer.kernel, layer.stride, layer.padding,
                                     bias=layer.bias, groups=shape[0] if layer.depthwise else 1))
        elif isinstance(layer, Embedding):
            modules.append(Positions(layer.tokens, shape[0], layer.width, layer.std))
        elif isinstance(layer, Block):
            modules.append(Decoder(shape[-1], layer.heads))
        elif isinstance(layer, Lstm):
            modules.append(LastState(shape[-1], layer.width))
        elif isinstance(layer, Residual):
            modules.append(ResidualSum(torch_net(torch, layer.body, shape), layer.stride, behind[0] - shape[0]))
        elif isinstance(layer, Dropout):
            modules.append(nn.Dropout(layer.rate))
        elif layer == BATCHNORM:
            modules.append(nn.BatchNorm2d(shape[0]) if len(shape) == 3 else nn.BatchNorm1d(shape[0]))
        elif layer == LAYERNORM:
            modules.append(nn.LayerNorm(shape[-1]))
        elif layer == MAX_POOL:
            modules.append(nn.MaxPool2d(2))
        elif layer == GLOBAL_AVG_POOL:
            modules += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        else:
            modules.append({RELU: nn.ReLU, TANH: nn.Tanh, FLATTEN: nn.Flatten}[layer]())
        shape = behind
    return nn.Sequential(*modules)


def torch_step(workload, threads, compiled, channels_last):
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # as gradc and XLA do: one batch learned by heart leaves subnormal gradients
    torch.manual_seed(0)
    net = torch_net(torch, workload.layers, workload.shape).train()
    if workload.tokens:
        x, y = (torch.randint(0, workload.tokens, (workload.batch, *workload.shape)) for _ in range(2))
    else:
        x, y = torch.randn(workload.batch, *workload.shape), torch.randint(0, CLASSES, (workload.batch,))
    if channels_last:
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    if workload.optimizer == "adam":
        optimizer = torch.optim.Adam(net.parameters(), lr=workload.lr, weight_decay=workload.weight_decay, fused=True)
    else:
        optimizer = torch.optim.SGD(net.parameters(), lr=workload.lr, weight_decay=workload.weight_decay,
                                    momentum=MOMENTUM if workload.optimizer == "momentum" else 0, fused=True)

    def forward(x, y):
        return torch.nn.functional.cross_entropy(net(x).flatten(0, -2), y.flatten())

    if compiled:
        forward = torch.compile(forward)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = forward(x, y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step, torch.__version__


# --- JAX: images are channels-last, as XLA for processors prefers them; the updates are written out.

def jax_parameters(random, layers, shape):
    """Parameters and statistics, one dictionary a layer each; a residual layer has lists."""
    import numpy as np
    f32 = np.float32

    def weights(*extents, std=None):
        std = std or math.sqrt(2 / math.prod(extents[:-1]))
        return random.standard_normal(extents, dtype=f32) * f32(std)

    parameters, statistics = [], []
    for layer in layers:
        behind = shape_behind(layer, shape)
        own, stats = {}, {}
        if isinstance(layer, Dense):
            own = {"weight": weights(shape[-1], layer.outputs, std=layer.std), "bias": np.zeros(layer.outputs, f32)}
        elif isinstance(layer, Embedding):
            own = {"table": weights(layer.tokens, layer.width, std=layer.std),
                   "positions": weights(*behind, std=layer.std)}
        elif isinstance(layer, Block):
            width = shape[-1]
            own = {name: {"weight": weights(n, m), "bias": np.zeros(m, f32)}
                   for name, n, m in (("in_proj", width, 3 * width), ("out_proj", width, width),
                                      ("wide", width, 4 * width), ("narrow", 4 * width, width))}
            own |= {name: {"gamma": np.ones(width, f32), "beta": np.zeros(width, f32)} for name in ("norm1", "norm2")}
        elif layer == LAYERNORM:
            own = {"gamma": np.ones(shape[-1], f32), "beta": np.zeros(shape[-1], f32)}
        elif isinstance(layer, Lstm):
            own = {"weight_ih": weights(shape[-1], 4 * layer.width), "weight_hh": weights(layer.width, 4 * layer.width),
                   "bias_ih": np.zeros(4 * layer.width, f32), "bias_hh": np.zeros(4 * layer.width, f32)}
        elif isinstance(layer, Conv):
            own = {"weight": weights(layer.kernel, layer.kernel, 1 if layer.depthwise else shape[0], layer.channels)}
            if layer.bias:
                own["bias"] = np.zeros(layer.channels, f32)
        elif isinstance(layer, Residual):
            own, stats = jax_parameters(random, layer.body, shape)
        elif layer == BATCHNORM:
            own = {"gamma": np.ones(shape[0], f32), "beta": np.zeros(shape[0], f32)}
            stats = {"mean": np.zeros(shape[0], f32), "variance": np.ones(shape[0], f32)}
        parameters.append(own)
        statistics.append(stats)
        shape = behind
    return parameters, statistics


def jax_norm(jax, own, x):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * own["gamma"] + own["beta"]


def jax_dense(own, x):
    return x @ own["weight"] + own["bias"]


def jax_block(jax, heads, own, x):
    jnp = jax.numpy
    batch, length, width = x.shape
    q, k, v = (part.reshape(batch, length, heads, -1)
               for part in jnp.split(jax_dense(own["in_proj"], jax_norm(jax, own["norm1"], x)), 3, axis=-1))
    y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    x = x + jax_dense(own["out_proj"], y.reshape(batch, length, width))
    hidden = jax.nn.gelu(jax_dense(own["wide"], jax_norm(jax, own["norm2"], x)), approximate=False)
    return x + jax_dense(own["narrow"], hidden)


def jax_lstm(jax, width, own, x):
    """The last state; one product for the inputs of all steps, and a loop over the steps."""
    jnp = jax.numpy
    inputs = x @ own["weight_ih"] + own["bias_ih"] + own["bias_hh"]
    zeros = jnp.zeros((x.shape[0], width), x.dtype)

    def step(state, inputs):
        h, c = state
        i, f, g, o = jnp.split(inputs + h @ own["weight_hh"], 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    (h, _), _ = jax.lax.scan(step, (zeros, zeros), inputs.swapaxes(0, 1))
    return h


def jax_forward(jax, layers, parameters, statistics, x, key):
    """The value behind the layers, and the statistics after this step."""
    jnp, lax = jax.numpy, jax.lax
    new_statistics = []
    for layer, own, stats in zip(layers, parameters, statistics):
        if isinstance(layer, Dense):
            x = jax_dense(own, x)
        elif isinstance(layer, Embedding):
            x = own["table"][x] + own["positions"]
        elif isinstance(layer, Block):
            x = jax_block(jax, layer.heads, own, x)
        elif isinstance(layer, Lstm):
            x = jax_lstm(jax, layer.width, own, x)
        elif layer == LAYERNORM:
            x = jax_norm(jax, own, x)
        elif isinstance(layer, Conv):
            x = lax.conv_general_dilated(x, own["weight"], (layer.stride, layer.stride),
                                         [(layer.padding, layer.padding)] * 2,
                                         dimension_numbers=("NHWC", "HWIO", "NHWC"),
                                         feature_group_count=x.shape[-1] if layer.depthwise else 1)
            if layer.bias:
                x = x + own["bias"]
        elif isinstance(layer, Residual):
            y, stats = jax_forward(jax, layer.body, own, stats, x, key)
            if layer.stride != 1:
                x = x[:, ::layer.stride, ::layer.stride]
            more = y.shape[-1] - x.shape[-1]
            if more:
                x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2)))
            x = y + x
        elif isinstance(layer, Dropout):
            key, mask_key = jax.random.split(key)
            x = jnp.where(jax.random.bernoulli(mask_key, 1 - layer.rate, x.shape), x / (1 - layer.rate), 0)
        elif layer == BATCHNORM:
            axes = tuple(range(x.ndim - 1))
            mean, variance = x.mean(axes), x.var(axes)
            x = (x - mean) * lax.rsqrt(variance + 1e-5) * own["gamma"] + own["beta"]
            stats = {"mean": 0.9 * stats["mean"] + 0.1 * mean, "variance": 0.9 * stats["variance"] + 0.1 * variance}
        elif layer == RELU:
            x = jax.nn.relu(x)
        elif layer == TANH:
            x = jnp.tanh(x)
        elif layer == MAX_POOL:
            x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        elif layer == GLOBAL_AVG_POOL:
            x = x.mean((1, 2))
        elif layer == FLATTEN:
            x = x.reshape(x.shape[0], -1)
        new_statistics.append(stats)
    return x, new_statistics


def jax_update(jax, workload, parameters, gradients, slots, count):
    """New parameters and optimizer slots; count is 1 at the first step."""
    jnp, tree_map = jax.numpy, jax.tree_util.tree_map
    lr = workload.lr
    if workload.weight_decay:
        gradients = tree_map(lambda g, w: g + workload.weight_decay * w, gradients, parameters)
    if workload.optimizer == "adam":
        beta1, beta2 = 0.9, 0.999
        m = tree_map(lambda m, g: beta1 * m + (1 - beta1) * g, slots["m"], gradients)
        v = tree_map(lambda v, g: beta2 * v + (1 - beta2) * g * g, slots["v"], gradients)
        unbias1, unbias2 = 1 / (1 - beta1 ** count), 1 / (1 - beta2 ** count)
        parameters = tree_map(lambda w, m, v: w - lr * (m * unbias1) / (jnp.sqrt(v * unbias2) + 1e-8), parameters, m, v)
        return parameters, {"m": m, "v": v}
    if workload.optimizer == "momentum":
        v = tree_map(lambda v, g: MOMENTUM * v + g, slots["v"], gradients)
        return tree_map(lambda w, v: w - lr * v, parameters, v), {"v": v}
    return tree_map(lambda w, g: w - lr * g, parameters, gradients), {}


def jax_training(jax, workload):
    """The first state of training, the batch, and a function from both to the next state and the loss."""
    import numpy as np
    random = np.random.default_rng(0)
    parameters, statistics = jax_parameters(random, workload.layers, workload.shape)
    if workload.tokens:
        x, y = (random.integers(0, workload.tokens, (workload.batch, *workload.shape), dtype=np.int32)
                for _ in range(2))
    else:
        images = len(workload.shape) == 3
        shape = (*workload.shape[1:], workload.shape[0]) if images else workload.shape
        x = random.standard_normal((workload.batch, *shape), dtype=np.float32)
        y = random.integers(0, CLASSES, workload.batch, dtype=np.int32)

    def zeros():
        return jax.tree_util.tree_map(np.zeros_like, parameters)

    slots = {"adam": ("m", "v"), "momentum": ("v",), "sgd": ()}[workload.optimizer]
    state = {"parameters": parameters, "statistics": statistics, "slots": {name: zeros() for name in slots},
             "count": np.float32(0), "key": jax.random.PRNGKey(0)}

    def train(state, x, y):
        key, step_key = jax.random.split(state["key"])

        def loss_of(parameters):
            z, statistics = jax_forward(jax, workload.layers, parameters, state["statistics"], x, step_key)
            picked = jax.numpy.take_along_axis(jax.nn.log_softmax(z), y[..., None], axis=-1)
            return -picked.mean(), statistics

        (loss, statistics), gradients = jax.value_and_grad(loss_of, has_aux=True)(state["parameters"])
        count = state["count"] + 1
        parameters, slots = jax_update(jax, workload, state["parameters"], gradients, state["slots"], count)
        return {"parameters": parameters, "statistics": statistics, "slots": slots, "count": count, "key": key}, loss

    return state, (x, y), train


def jax_step(workload, threads):
    # XLA takes as many threads as the process may use processors; NPROC overrides that.
    processors = sorted(os.sched_getaffinity(0))
    if threads < len(processors):
        os.sched_setaffinity(0, processors[:threads])
    os.environ.update(NPROC=str(threads), OMP_NUM_THREADS=str(threads), JAX_PLATFORMS="cpu")
    import jax
    state, batch, train = jax_training(jax, workload)
    state, batch = jax.device_put(state), jax.device_put(batch)
    train = jax.jit(train, donate_argnums=0)  # the new state takes the old one's memory

    def step():
        nonlocal state
        state, loss = train(state, *batch)
        jax.block_until_ready((state, loss))
        return loss

    return step, jax.__version__


# --- Measuring

def seconds_since_process_start():
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()  # behind the name, which may have spaces
    started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def measure(step, seconds):
    for _ in range(WARM_UP_STEPS):
        loss = step()
    start = seconds_since_process_start()
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        begin = time.perf_counter()
        loss = step()
        times.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"steps": len(times), "ms": 1e3 * median(times), "best_ms": 1e3 * min(times), "start_ms": 1e3 * start,
            "peak_rss_mb": peak / 1024, "loss": float(loss)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("implementation", choices=["torch", "torch_compile", "jax"])
    parser.add_argument("workload", choices=list(WORKLOADS))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--channels-last", action="store_true", help="PyTorch's other layout for images")
    arguments = parser.parse_args()
    workload = WORKLOADS[arguments.workload]
    is_jax = arguments.implementation == "jax"
    if arguments.channels_last and (is_jax or len(workload.shape) != 3):
        parser.error("--channels-last is for PyTorch and images")
    try:
        if is_jax:
            step, version = jax_step(workload, arguments.threads)
        else:
            step, version = torch_step(workload, arguments.threads, arguments.implementation == "torch_compile",
                                       arguments.channels_last)
        result = measure(step, arguments.seconds)
        if not math.isfinite(result["loss"]):
            raise ArithmeticError(f"the loss is {result['loss']}: it does not train")
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "jax"):
            raise
        print(f"peer_step: {error.name} is not installed; python3 -m pip install {error.name}", file=sys.stderr)
        sys.exit(77)
    except Exception as error:  # whatever a framework throws is what the caller wants to know
        traceback.print_exc()
        first_line = next((line for line in str(error).splitlines() if line.strip()), "")
        print(f"peer_step: {type(error).__name__}: {first_line.strip()}", file=sys.stderr)
        sys.exit(1)
    print(json.dumps({"implementation": arguments.implementation, "workload": arguments.workload,
                      "channels_last": arguments.channels_last, "threads": arguments.threads, "batch": workload.batch,
                      "version": version, **result}))


if __name__ == "__main__":
    main()
