#!/usr/bin/env python3
"""Computes the polynomial coefficients of codegen/vector_math.cpp: weighted minimax fits by Remez' exchange (needs mpmath).

Each fit approximates f(x) by sum c_i b_i(x) on an interval so that max |w(x) (f(x) - p(x))| is least; then the coefficients are
rounded to f32 (or f64). Prints C++ arrays, the constant term first, and the error before and after."""
import struct
from mpmath import mp, mpf, matrix, lu_solve, exp, log, sin, cos, erf, erfc, sqrt, pi, linspace, chop, diff, inf, atanh, expm1

mp.dps = 40


def to_f32(x):
    return mpf(struct.unpack("f", struct.pack("f", float(x)))[0])


def to_f64(x):
    return mpf(float(x))


def remez(f, w, powers, a, b, iterations=30):
    """Coefficients of sum c_i x^powers[i]; points start at Chebyshev's."""
    n = len(powers)
    if n == 0:
        return [], max(abs(w(x) * f(x)) for x in linspace(a, b, 500))
    points = [(a + b) / 2 - (b - a) / 2 * cos(pi * i / n) for i in range(n + 1)]
    grid = [(a + b) / 2 - (b - a) / 2 * cos(pi * i / 1200) for i in range(1201)]
    grid = [x for x in grid if abs(x) > (b - a) * mpf(10) ** -7]  # at 0 the formulas cancel
    fs, ws = [f(x) for x in grid], [w(x) for x in grid]
    c = []
    for _ in range(iterations):
        points = [x if abs(x) > (b - a) / 1000 else (b - a) / 50 for x in points]  # the weight may vanish at 0
        m = matrix(n + 1, n + 1)
        r = matrix(n + 1, 1)
        for i, x in enumerate(points):
            for j, p in enumerate(powers):
                m[i, j] = w(x) * x ** p
            m[i, n] = (-1) ** i
            r[i] = w(x) * f(x)
        solution = lu_solve(m, r)
        c = [solution[i] for i in range(n)]
        e = [wx * (fx - sum(ci * x ** p for ci, p in zip(c, powers))) for x, fx, wx in zip(grid, fs, ws)]
        # the largest error of each run of equal sign
        runs, best = [], 0
        for i in range(1, len(e)):
            if (e[i] > 0) != (e[best] > 0):
                runs.append(best)
                best = i
            elif abs(e[i]) > abs(e[best]):
                best = i
        runs.append(best)
        while len(runs) > n + 1:
            if abs(e[runs[0]]) < abs(e[runs[-1]]):
                runs.pop(0)
            else:
                runs.pop()
        if len(runs) < n + 1:
            break
        new = [grid[i] for i in runs]
        if max(abs(x - y) for x, y in zip(new, points)) < mpf(10) ** -9:
            break
        points = new
    return c, max(abs(x) for x in e)


def fit(name, f, w, powers, a, b, rounder=to_f32):
    c, exact = remez(f, w, powers, mpf(a), mpf(b))
    done = [rounder(k) for k in c]
    rounded = lambda x: f(x) - sum(k * x ** p for k, p in zip(done, powers))
    error = max(abs(w(x) * rounded(x)) for x in linspace(mpf(a), mpf(b), 2000) if abs(x) > 1e-7)
    digits = 9 if rounder is to_f32 else 17
    suffix = "f" if rounder is to_f32 else ""
    print(f"// {name}: error {float(error):.2e} (unrounded {float(exact):.2e})")
    print("{" + ", ".join(f"{float(c):.{digits}g}{suffix}" for c in done) + "}\n")


if __name__ == "__main__":
    h = log(2) / 2 * mpf("1.0001")
    fit("exp: (exp(r) - 1 - r) / r^2, error relative to exp", lambda r: (exp(r) - 1 - r) / r**2, lambda r: r**2 / exp(r), range(5), -h, h)
    for n in (5, 6):
        fit(f"expm1: the same, error relative to expm1, {n}", lambda r: (exp(r) - 1 - r) / r**2, lambda r: r**2 / abs(expm1(r)), range(n), -h, h)
    for n in (7, 8):
        fit(f"log: (log(1+f) - f + f^2/2) / f^3, {n}", lambda f: (log(1 + f) - f + f**2 / 2) / f**3, lambda f: f**3 / log(1 + f), range(n),
            sqrt(mpf(1) / 2) - 1 - mpf("1e-6"), sqrt(mpf(2)) - 1 + mpf("1e-6"))
    q = pi / 4 * mpf("1.0001")
    fit("sin: (sin r - r) / r^3 in r^2", lambda z: (sin(sqrt(z)) / sqrt(z) - 1) / z, lambda z: z / (sin(sqrt(z)) / sqrt(z)), range(3), mpf("1e-9"), q**2)
    fit("cos: (cos r - 1 + r^2/2) / r^4 in r^2", lambda z: (cos(sqrt(z)) - 1 + z / 2) / z**2, lambda z: z**2 / cos(sqrt(z)), range(3), mpf("1e-9"), q**2)
    for n in (6, 7):
        fit(f"erf: erf(x)/x in x^2, |x| <= 1, {n}", lambda z: erf(sqrt(z)) / sqrt(z), lambda z: sqrt(z) / erf(sqrt(z)), range(n), mpf("1e-9"), mpf(1))
    for n in (6, 7, 8):
        fit(f"erfc: -log(erfc(t)) in t-1, 1 <= t <= 4, {n}", lambda t: -log(erfc(t + 1)), lambda t: erfc(t + 1), range(n), mpf(0), mpf(3))
    s = ((sqrt(mpf(2)) - 1) / (sqrt(mpf(2)) + 1)) ** 2 * mpf("1.0001")
    fit("log2 (f64): log2(m)/s in s^2, s = (m-1)/(m+1)", lambda z: 2 * atanh(sqrt(z)) / sqrt(z) / log(2), lambda z: 1 / (2 * atanh(sqrt(z)) / sqrt(z) / log(2)),
        range(6), mpf("1e-12"), s, to_f64)
    fit("exp2 (f64): 2^f, |f| <= 1/2", lambda f: mpf(2)**f, lambda f: mpf(2)**-f, range(8), mpf("-0.50001"), mpf("0.50001"), to_f64)
