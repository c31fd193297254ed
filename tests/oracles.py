"""Independent models in float64 NumPy, written from the equations and not from the code."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from sedma_jax.kernels import normal_pair_at


@functools.cache
def pulse_constant(label: float) -> float:
    """`A / P` behind a nonlinearity label, by bisection on the sampled curve."""
    if label == 0:
        return math.inf
    x = np.linspace(0, 1, 200_001)

    def height(a):
        return np.max((1 - np.exp(-x / a)) / (1 - math.exp(-1 / a)) - x)

    low, high = 0.01, 1e4
    for _ in range(80):
        middle = math.sqrt(low * high)
        if 10.101525 * height(middle) > abs(label):
            low = middle
        else:
            high = middle
    return math.copysign(low, label)


class Cell:
    """One cell in siemens, with `G(P) = B (1 - exp(-P/A)) + Gmin` for each direction."""

    def __init__(self, device, conductance):
        self.device = device
        self.g = conductance
        self.ltp = pulse_constant(device.nonlinearity_ltp) * device.pulses_ltp
        self.ltd = pulse_constant(device.nonlinearity_ltd) * device.pulses_ltd

    def curve(self, a, top):
        b = (self.device.g_max - self.device.g_min) / (1 - math.exp(-top / a))
        forward = lambda p: b * (1 - math.exp(-p / a)) + self.device.g_min
        inverse = lambda g: -a * math.log(1 - (g - self.device.g_min) / b)
        return forward, inverse

    def apply(self, pulses, normal):
        if pulses == 0:
            return
        device = self.device
        a, top = (
            (self.ltp, device.pulses_ltp) if pulses > 0 else (self.ltd, device.pulses_ltd)
        )
        forward, inverse = self.curve(a, top)
        place = min(max(inverse(self.g) + pulses, 0), top)
        window = device.g_max - device.g_min
        noise = device.sigma_c2c * window * math.sqrt(abs(pulses)) * normal
        self.g = min(max(forward(place) + noise, device.g_min), device.g_max)

    def current(self, g=None):
        g = self.g if g is None else g
        return self.device.v_read / (1 / g + self.device.r_access) if g else 0.0

    def reading(self):
        low, high = self.current(self.device.g_min), self.current(self.device.g_max)
        return (self.current() - low) / (high - low)


def write_and_verify(target, device, rule, key):
    """The closed loop, cell by cell; shares only the random draws with the kernel."""
    read_key, cycle_key = jax.random.split(key)
    shape = target.shape
    cells = np.empty(shape, object)
    for place in np.ndindex(shape):
        cells[place] = Cell(device, device.g_min)
    total = dict(pulses=0, iterations=0, energy=0.0, latency=0.0, verify=0.0)
    pending = np.ones(shape, bool)
    squares = np.zeros(shape)

    def draws(key, iteration):
        turn, parity = divmod(iteration, 2)
        cell = jnp.arange(target.size, dtype=jnp.uint32).reshape(shape)
        turn = jnp.full(shape, turn % 2**32, jnp.uint32)
        return np.asarray(normal_pair_at(key, turn, cell, np.float64)[parity])

    def wanted(iteration):
        noise = draws(read_key, iteration - 1)
        pulses = np.zeros(shape)
        for place in np.argwhere(pending):
            place = tuple(place)
            total["verify"] += device.v_read * cells[place].current() * device.t_read
            reading = cells[place].reading() + device.sigma_read * float(noise[place])
            e = target[place] - reading
            squares[place] = e**2
            per_window = device.pulses_ltp if e > 0 else device.pulses_ltd
            if abs(e) > rule.band:
                n = min(math.floor(abs(e) * per_window + 0.5), rule.max_pulses)
                if device.sigma_c2c > 0 and rule.caution < math.inf:
                    quiet = math.floor((rule.caution * abs(e) / device.sigma_c2c) ** 2)
                    n = min(n, max(quiet, 1))
                pulses[place] = math.copysign(n, e)
        # A cell that once reads right is left alone.
        pending[...] = pulses != 0
        return pulses, math.sqrt(squares.sum())

    pulses, norm = wanted(0)
    while total["iterations"] < rule.iterations and (pulses != 0).any():
        iteration = total["iterations"]
        noise = draws(cycle_key, iteration)
        for place in np.ndindex(shape):
            n = pulses[place]
            before = cells[place].g
            cells[place].apply(n, float(noise[place]))
            volts, width = (
                (device.v_ltp, device.t_ltp) if n > 0 else (device.v_ltd, device.t_ltd)
            )
            mean = (before + cells[place].g) / 2
            total["energy"] += volts**2 * width * abs(n) * mean
        for row in range(shape[1]):
            line = pulses[:, row]
            total["latency"] += max(line.max(), 0) * device.t_ltp
            total["latency"] += max((-line).max(), 0) * device.t_ltd
        total["pulses"] += int(abs(pulses).sum())
        previous = norm
        pulses, norm = wanted(iteration + 1)
        total["iterations"] += 1
        if iteration > 0 and abs(norm - previous) < rule.tolerance:
            break
    conductance = np.vectorize(lambda cell: cell.g)(cells)
    return conductance, total
