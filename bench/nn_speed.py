"""A training step and an inference of the digits network, beside PyTorch and aihwkit.

    python bench/nn_speed.py [--peers build/peers/bin/python] [--results DIR]

All contenders start from the same weights and take the same digits, Adam included; that the
digital networks agree is checked, before and after ten steps. Analog ones have the same
load: weights noisy by as much (drawn once a batch), normal noise on each output, and 8-bit
converters on both sides; each layer fits one tile. `logit_error` says how far the noise
takes each from the digital logits.

Each round times every contender of a case in turn, 10 calls in a row; figures are medians
over rounds, of seconds a call and of ratios in the same round to the first contender named.
The first call, which compiles, stands beside them.

Contenders of our own: `digital`; `aware`, hardware-aware, weights with the law of
write-and-verify drawn once a step; `aware, in a scan`, the same with the steps inside one
call, as the example trains; `verified`, `analogize` inside the step, which programs by
write-and-verify each time; for inference, `analog`, programmed before.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import sedma_jax as sj

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "docs" / "examples"))
from digits_cnn import Network, load
from machine import machine

READ_NOISE, BITS, BATCHES = 0.01, 8, (64, 1024)
DEVICE = sj.Device(**{**vars(sj.devices.EPIRAM), "sigma_read": READ_NOISE})
CONVERTERS = {"dac": sj.DAC(BITS), "adc": sj.ADC(BITS)}
OPTIMISER = optax.adam(3e-3)
STEPS = 10  # after which the digital networks are compared


def loss(params, rest, xs, ys, key):
    """Cross-entropy of a network, whose weights are drawn where it is hardware-aware."""
    programming_key, read_key = jr.split(key)
    model = sj.nn.draw_programming(eqx.combine(params, rest), key=programming_key)
    return cross_entropy(model, xs, ys, read_key)


def cross_entropy(model, xs, ys, key):
    logits = jax.vmap(lambda x, key: model(x, key=key))(xs, jr.split(key, len(xs)))
    return optax.softmax_cross_entropy_with_integer_labels(logits, ys).mean()


def verified_loss(params, rest, xs, ys, key):
    programming_key, read_key = jr.split(key)
    model = eqx.combine(params, rest)
    analog = sj.nn.analogize(model, DEVICE, key=programming_key, **CONVERTERS)
    return cross_entropy(analog, xs, ys, read_key)


class Trainer:
    """A network in training; each call is one step, or as many as `scan` says.

    Digits are arguments: of constants XLA would work out a part when it compiles. In a
    scan they are drawn for each step, or a part would be worked out before the loop.
    """

    def __init__(self, model, xs, ys, loss=loss, scan=0):
        params, rest = eqx.partition(model, eqx.is_inexact_array)

        def step(carry, xs, ys, key):
            params, state, _ = carry
            value, gradient = jax.value_and_grad(loss)(params, rest, xs, ys, key)
            updates, state = OPTIMISER.update(gradient, state)
            return optax.apply_updates(params, updates), state, value

        def several(carry, xs, ys, key):
            def one(carry, key):
                batch_key, key = jr.split(key)
                batch = jr.randint(batch_key, (len(xs),), 0, len(xs))
                return step(carry, xs[batch], ys[batch], key), None

            return jax.lax.scan(one, carry, jr.split(key, scan))[0]

        self.carry = params, OPTIMISER.init(params), jnp.zeros(())
        self.key, self.rest, self.digits = jr.key(1), rest, (xs, ys)
        self.step = jax.jit(several if scan else step)

    def __call__(self):
        self.key, key = jr.split(self.key)
        self.carry = self.step(self.carry, *self.digits, key)
        return self.carry

    def model(self):
        return eqx.combine(self.carry[0], self.rest)


def logits_of(model, xs, key):
    return jax.vmap(lambda x, key: model(x, key=key))(xs, jr.split(key, len(xs)))


def timed(work, repeats, steps=1):
    """Seconds of a step, of so many calls that each take `steps` of them."""
    calls = max(1, repeats // steps)
    start = time.perf_counter()
    for _ in range(calls):
        jax.block_until_ready(work())
    return (time.perf_counter() - start) / (calls * steps)


class Peer:
    """A network in a process of its own; calls return once it has answered."""

    def __init__(self, python, name):
        command = [python, str(Path(__file__).parent / "nn_peers.py"), name]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL, **pipes)
        self.hello = json.loads(self.process.stdout.readline() or '{"error": "no start"}')

    def ask(self, **request):
        print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        answer = json.loads(line or '{"error": "the process ended"}')
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def timer(self, op, batch):
        return lambda repeats: self.ask(op=op, batch=batch, repeats=repeats)["seconds"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def start_peers(python, file, weight_noise):
    """Peers that answer, loaded; and why the others do not."""
    running, skipped = {}, {}
    for name in ("torch", "aihwkit"):
        peer = Peer(python, name)
        try:
            if "error" in peer.hello:
                raise RuntimeError(peer.hello["error"])
            noise = {"weight_noise": weight_noise, "read_noise": READ_NOISE, "bits": BITS}
            peer.ask(op="load", file=str(file), **noise)
            running[name] = peer
        except RuntimeError as error:
            skipped[name] = str(error)
            peer.close()
    return running, skipped


def write_network(model, xs, ys, file):
    arrays = {}
    for name in ("first", "second", "last"):
        layer = getattr(model, name)
        arrays[f"{name}_weight"] = np.asarray(layer.weight)
        arrays[f"{name}_bias"] = np.asarray(layer.bias).reshape(-1)
    np.savez(file, images=np.asarray(xs), labels=np.asarray(ys), **arrays)


def weight_noise(model, aware):
    """Error of drawn weights in the largest weight of their layer, a mean over layers."""
    drawn = sj.nn.draw_programming(aware, key=jr.key(2))
    found = []
    for name in ("first", "second", "last"):
        weight = getattr(model, name).weight
        error = getattr(drawn, name).drawn - weight
        found.append(float(jnp.sqrt(jnp.mean(error**2)) / jnp.max(jnp.abs(weight))))
    return statistics.mean(found)


def compare(contenders, rounds, repeats):
    """Times of all contenders, one of each a round, in turning order."""
    firsts = {}
    for name, time_of in contenders.items():
        start = time.perf_counter()
        time_of(1)
        firsts[name] = time.perf_counter() - start
    for time_of in contenders.values():
        time_of(repeats)
    times, order = {name: [] for name in contenders}, list(contenders)
    for i in range(rounds):
        for name in order[i % len(order) :] + order[: i % len(order)]:
            time.sleep(0.02)  # threads of the last contender spin for a while
            times[name].append(contenders[name](repeats))
    record = {}
    for name, own in times.items():
        ratios = [a / b for a, b in zip(own, times[order[0]], strict=True)]
        record[name] = {
            "seconds": statistics.median(own),
            "over_first": statistics.median(ratios),
            "first_call_seconds": firsts[name],
        }
    return record


def check_digital(model, peer, xs, ys):
    """Distance of the logits from PyTorch's, at the start and after ten steps of Adam."""
    trainer = Trainer(model, xs, ys)
    for _ in range(STEPS):
        trainer()
    found = {}
    for steps, own in ((0, model), (STEPS, trainer.model())):
        ours = np.asarray(logits_of(own, xs, jr.key(0)))
        theirs = np.array(peer.ask(op="logits", batch=len(xs), steps=steps)["logits"])
        found[steps] = float(np.linalg.norm(theirs - ours) / np.linalg.norm(ours))
    # Adam takes steps of one size for gradients down to rounding.
    if found[0] > 1e-5 or found[STEPS] > 1e-3:
        raise SystemExit(f"the digital networks differ from PyTorch's: {found}")
    return found


def measure(python, rounds, repeats):
    (xs, ys), _ = load()
    model = Network(key=jr.key(0))
    aware = sj.nn.hardware_aware(model, DEVICE, **CONVERTERS)
    noise = weight_noise(model, aware)
    analog = sj.nn.analogize(model, DEVICE, key=jr.key(3), **CONVERTERS)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.npz"
        write_network(model, xs, ys, file)
        peers, skipped = start_peers(python, file, noise)
        found = {"skipped": skipped}
        if "torch" in peers:
            found["torch_difference"] = check_digital(
                model, peers["torch"], xs[:64], ys[:64]
            )
        digital = np.asarray(logits_of(model, xs[:64], jr.key(0)))
        size = np.linalg.norm(digital)
        distance = lambda y: float(np.linalg.norm(np.asarray(y) - digital) / size)
        errors = {"ours": distance(logits_of(analog, xs[:64], jr.key(4)))}
        if "aihwkit" in peers:
            logits = peers["aihwkit"].ask(op="logits", batch=64)["logits"]
            errors["aihwkit"] = distance(logits)
        cases = {}
        for batch in BATCHES:
            x, y = xs[:batch], ys[:batch]
            trainer = lambda *how, x=x, y=y: Trainer(how[0], x, y, *how[1:])
            contenders = {
                "aware": partial(timed, trainer(aware)),
                "aware, in a scan": partial(
                    timed, trainer(aware, loss, repeats), steps=repeats
                ),
                "verified": partial(timed, trainer(model, verified_loss)),
                "digital": partial(timed, trainer(model)),
            }
            contenders |= {n: p.timer("step", batch) for n, p in peers.items()}
            cases[f"step, batch {batch}"] = compare(contenders, rounds, repeats)
            contenders = {
                name: partial(timed, partial(jax.jit(logits_of), network, x, jr.key(5)))
                for name, network in (("analog", analog), ("digital", model))
            }
            contenders |= {n: p.timer("infer", batch) for n, p in peers.items()}
            cases[f"inference, batch {batch}"] = compare(contenders, rounds, repeats)
        versions = {n: p.hello["version"] for n, p in peers.items()}
        for peer in peers.values():
            peer.close()
    return found | {
        "weight_noise": noise,
        "read_noise": READ_NOISE,
        "logit_error": errors,
        "peers": versions,
        "cases": cases,
    }


def lines_of(result):
    """The table."""
    yield "| case | contender | ms | over the first | first call s |"
    yield "| --- | --- | ---: | ---: | ---: |"
    for name, case in result["cases"].items():
        title = name
        for contender, figures in case.items():
            yield (
                f"| {title} | {contender} | {1e3 * figures['seconds']:.3g} | "
                f"{figures['over_first']:.3g} | {figures['first_call_seconds']:.2f} |"
            )
            title = ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", default="build/peers/bin/python", metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--results", metavar="DIR", type=Path)
    options = parser.parse_args()
    about = machine()
    python = options.peers if os.path.exists(options.peers) else sys.executable
    result = {"machine": about} | measure(python, options.rounds, options.repeats)
    lines = list(lines_of(result))
    print("\n".join(lines))
    errors = {n: f"{e:.3g}" for n, e in result["logit_error"].items()}
    print(f"logit error {errors}; skipped {result['skipped'] or 'none'}")
    if options.results:
        options.results.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result, indent=1) + "\n"
        (options.results / "nn_speed.json").write_text(text)
        (options.results / "nn_speed.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
