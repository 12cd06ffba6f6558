"""Prints the coefficients of the polynomials in functions.rs. Needs mpmath: pip install mpmath"""

import mpmath as mp

mp.mp.dps = 40


def minimax(function, weight, degree, low, high):
    """The polynomial whose largest weighted error on [low, high] is least, by Remez' exchange."""
    nodes = degree + 2
    points = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * nodes)) for i in range(nodes)]
    grid = [low + (high - low) * i / 2000 for i in range(2001)]
    for _ in range(8):
        system = mp.matrix(nodes, nodes)
        for i, x in enumerate(points):
            for j in range(degree + 1):
                system[i, j] = x**j
            system[i, nodes - 1] = (-1) ** i / weight(x)
        solution = mp.lu_solve(system, mp.matrix([function(x) for x in points]))
        coefficients = list(solution[: degree + 1])
        extrema = []
        for x in grid:
            error = (function(x) - mp.polyval(coefficients[::-1], x)) * weight(x)
            if extrema and extrema[-1][1] * error > 0:
                if abs(error) > abs(extrema[-1][1]):
                    extrema[-1] = (x, error)
            else:
                extrema.append((x, error))
        while len(extrema) > nodes:
            extrema.pop(0 if abs(extrema[0][1]) < abs(extrema[-1][1]) else -1)
        if len(extrema) < nodes:
            break
        points = [x for x, _ in extrema]
    return coefficients, max(abs(error) for _, error in extrema)


def exponential_tail(x):
    """(e^x - 1 - x) / x^2."""
    return mp.mpf(1) / 2 if x == 0 else (mp.expm1(x) - x) / x**2


def exponential_slope(x):
    """(e^x - 1) / x."""
    return mp.mpf(1) if x == 0 else mp.expm1(x) / x


def scaled_erfc(y):
    """erfc(a) e^(a^2) (a + 5/2) at a = 5/2 (1 + y) / (1 - y)."""
    if y > 1 - mp.mpf(10) ** -12:
        return 1 / mp.sqrt(mp.pi)
    k = mp.mpf(5) / 2
    a = k * (1 + y) / (1 - y)
    scaled = mp.erfc(a) * mp.exp(a * a) if a < 1000 else (1 - 1 / (2 * a * a)) / (a * mp.sqrt(mp.pi))
    return scaled * (a + k)


def show(name, coefficients, error, digits):
    print(f"{name}: error {mp.nstr(error, 3)}, from the constant on")
    print("    [" + ", ".join(mp.nstr(c, digits) for c in coefficients) + "]")


half_log_2 = mp.log(2) / 2 * mp.mpf("1.0001")
relative = lambda x: x**2 * mp.exp(-x) + mp.mpf("1e-9")
coefficients, error = minimax(exponential_tail, relative, 4, -half_log_2, half_log_2)
show("(e^x - 1 - x) / x^2, relative to e^x", coefficients, error, 9)
relative = lambda x: abs(x) * mp.exp(-x) + mp.mpf("1e-9")
coefficients, error = minimax(exponential_slope, relative, 3, -half_log_2, half_log_2)
show("(e^x - 1) / x, relative to e^x", coefficients, error, 9)
coefficients, error = mp.chebyfit(scaled_erfc, [-1, 1], 14, error=True)
show("erfc(a) e^(a^2) (a + 5/2)", coefficients[::-1], error, 16)
