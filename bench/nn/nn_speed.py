"""A training step and an inference of the digits network, beside PyTorch and aihwkit.

    python -m bench.nn.nn_speed [--rivals PYTHON] [--results DIR]

All contenders start from the same weights, take the same digits and train by Adam; a check
before training and after ten steps makes sure that the digital networks agree. The analog
ones have the same load: equally noisy weights (drawn once per batch), normal noise on each
output, and 8-bit converters on both sides; each layer fits one tile. `logit_error` says how
far the noise takes each from the digital logits.

Each round times every contender of a case in turn, by 10 calls in a row; figures are
medians over rounds, of seconds per call and of ratios within a round to the first
contender. The first call, which compiles, is given beside them.

Our contenders are `digital`; `aware`, hardware-aware, whose weights are drawn from the
distribution that write-and-verify leaves, once per step; `aware, in a scan`, the same with
the steps inside one call, as the example trains; `verified`, with `analogize` inside the
step, which programs by write-and-verify each time; and for inference `analog`, programmed
before.
"""

import statistics
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
from bench.shared import Rival, add_rivals, machine, parser_of, write_json
from docs.examples.digits_cnn import Network, load

READ_NOISE, BITS, BATCHES = 0.01, 8, (64, 1024)
DEVICE = sj.Device(**{**vars(sj.devices.EPIRAM), "sigma_read": READ_NOISE})
CONVERTERS = {"dac": sj.DAC(BITS), "adc": sj.ADC(BITS)}
OPTIMISER = optax.adam(3e-3)
STEPS = 10  # after which the digital networks are compared


def loss(params, rest, xs, ys, key):
    """Cross-entropy of a network; the weights of hardware-aware layers are drawn."""
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

    Digits are arguments, since XLA would evaluate part of the step on constants while it
    compiles. In a scan they are drawn for each step, or that part would move out of the
    loop.
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
    """Seconds per step, over `repeats` steps in calls that take `steps` of them each."""
    calls = max(1, repeats // steps)
    start = time.perf_counter()
    for _ in range(calls):
        jax.block_until_ready(work())
    return (time.perf_counter() - start) / (calls * steps)


class RivalNetwork(Rival):
    """The digits network of a rival."""

    def __init__(self, python: Path | str, name: str):
        super().__init__(python, "bench.nn.nn_rivals", name)

    def ask(self, **request):
        """Its answer, or an error that says what went wrong there."""
        answer = super().ask(**request)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def timer(self, op: str, batch: int):
        """A function of the number of calls that returns the seconds of one."""
        return lambda repeats: self.ask(op=op, batch=batch, repeats=repeats)["seconds"]


def start_rivals(python: Path | str, file: Path, weight_noise: float):
    """Rivals that answer, loaded; and why the others do not."""
    running, skipped = {}, {}
    for name in ("torch", "aihwkit"):
        rival = RivalNetwork(python, name)
        try:
            if "error" in rival.hello:
                raise RuntimeError(rival.hello["error"])
            noise = {"weight_noise": weight_noise, "read_noise": READ_NOISE, "bits": BITS}
            rival.ask(op="load", file=str(file), **noise)
            running[name] = rival
        except RuntimeError as error:
            skipped[name] = str(error)
            rival.close()
    return running, skipped


def write_network(model, xs, ys, file):
    arrays = {}
    for name in ("first", "second", "last"):
        layer = getattr(model, name)
        arrays[f"{name}_weight"] = np.asarray(layer.weight)
        arrays[f"{name}_bias"] = np.asarray(layer.bias).reshape(-1)
    np.savez(file, images=np.asarray(xs), labels=np.asarray(ys), **arrays)


def weight_noise(model, aware):
    """Error of drawn weights over the layer's largest weight, a mean over layers."""
    drawn = sj.nn.draw_programming(aware, key=jr.key(2))
    found = []
    for name in ("first", "second", "last"):
        weight = getattr(model, name).weight
        error = getattr(drawn, name).drawn - weight
        found.append(float(jnp.sqrt(jnp.mean(error**2)) / jnp.max(jnp.abs(weight))))
    return statistics.mean(found)


def compare(contenders, rounds, repeats):
    """Times of all contenders, each measured once per round, in rotating order."""
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
            time.sleep(0.02)  # threads of the previous contender spin for a while
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


def check_digital(model, rival, xs, ys):
    """Distance of the logits from PyTorch's, at the start and after ten steps of Adam."""
    trainer = Trainer(model, xs, ys)
    for _ in range(STEPS):
        trainer()
    found = {}
    for steps, own in ((0, model), (STEPS, trainer.model())):
        ours = np.asarray(logits_of(own, xs, jr.key(0)))
        theirs = np.array(rival.ask(op="logits", batch=len(xs), steps=steps)["logits"])
        found[steps] = float(np.linalg.norm(theirs - ours) / np.linalg.norm(ours))
    # Adam's steps have the same size down to gradients of rounding error.
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
        rivals, skipped = start_rivals(python, file, noise)
        found = {"skipped": skipped}
        if "torch" in rivals:
            found["torch_difference"] = check_digital(
                model, rivals["torch"], xs[:64], ys[:64]
            )
        digital = np.asarray(logits_of(model, xs[:64], jr.key(0)))
        size = np.linalg.norm(digital)
        distance = lambda y: float(np.linalg.norm(np.asarray(y) - digital) / size)
        errors = {"ours": distance(logits_of(analog, xs[:64], jr.key(4)))}
        if "aihwkit" in rivals:
            logits = rivals["aihwkit"].ask(op="logits", batch=64)["logits"]
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
            contenders |= {n: r.timer("step", batch) for n, r in rivals.items()}
            cases[f"step, batch {batch}"] = compare(contenders, rounds, repeats)
            contenders = {
                name: partial(timed, partial(jax.jit(logits_of), network, x, jr.key(5)))
                for name, network in (("analog", analog), ("digital", model))
            }
            contenders |= {n: r.timer("infer", batch) for n, r in rivals.items()}
            cases[f"inference, batch {batch}"] = compare(contenders, rounds, repeats)
        versions = {n: r.hello["version"] for n, r in rivals.items()}
        for rival in rivals.values():
            rival.close()
    return found | {
        "weight_noise": noise,
        "read_noise": READ_NOISE,
        "logit_error": errors,
        "peers": versions,  # rivals, under the name that stored results have
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
    parser = parser_of(__doc__)
    add_rivals(parser)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--results", metavar="DIR", type=Path)
    options = parser.parse_args()
    about = machine()
    python = options.rivals if options.rivals.exists() else sys.executable
    result = {"machine": about} | measure(python, options.rounds, options.repeats)
    lines = list(lines_of(result))
    print("\n".join(lines))
    errors = {n: f"{e:.3g}" for n, e in result["logit_error"].items()}
    print(f"logit error {errors}; skipped {result['skipped'] or 'none'}")
    if options.results:
        write_json(options.results / "nn_speed.json", result)
        (options.results / "nn_speed.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
