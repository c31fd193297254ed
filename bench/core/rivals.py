"""Other simulators behind one protocol, each in a process of its own.

    PYTHON -m bench.core.rivals NAME

Reads one JSON object per line of stdin and answers each with one on stdout: `{"op": "load",
"weights", "inputs"}` names `.npy` files, `{"op": "program"}` and `{"op": "matvec", "batch",
"noise", "converters"}` time one call. Rivals bring PyTorch, so they run in a process and an
environment of their own (`bench/rivals-requirements.txt`). Each is called as its
documentation says, on tiles of 256 x 256 if it has tiles.
"""

import resource
import sys
import time
from functools import partial

import numpy as np

from bench.shared import serve_rival

TILE = 256
READ_NOISE = 0.01


class Aihwkit:
    """`TorchInferenceTile`: noise of PCM-like programming, output-referred read noise."""

    distribution = "aihwkit"

    def __init__(self):
        import torch
        from aihwkit.nn import AnalogLinear
        from aihwkit.simulator.configs import TorchInferenceRPUConfig
        from aihwkit.simulator.parameters.enums import BoundManagementType

        self.no_repeats = BoundManagementType.NONE
        self.torch, self.linear, self.config = torch, AnalogLinear, TorchInferenceRPUConfig

    def load(self, weights, inputs):
        self.weights = self.torch.from_numpy(weights)
        self.inputs = self.torch.from_numpy(inputs)
        self.layers = {}

    def layer(self, noise, converters):
        if (noise, converters) not in self.layers:
            config = self.config()
            config.mapping.max_input_size = config.mapping.max_output_size = TILE
            config.mapping.weight_scaling_omega = 1.0  # else outputs leave their bound
            forward = config.forward
            forward.bound_management = self.no_repeats  # the fast way: one pass
            forward.inp_res = forward.out_res = 2**-7 if converters else -1
            forward.out_noise = READ_NOISE if noise else 0.0
            layer = self.linear(*self.weights.shape[::-1], bias=False, rpu_config=config)
            layer.set_weights(self.weights)
            layer.eval()
            layer.program_analog_weights()
            self.layers = {(noise, converters): layer}
        return self.layers[noise, converters]

    def program(self):
        layer = self.layer(False, True)
        layer.set_weights(self.weights)
        layer.program_analog_weights()

    def matvec(self, batch, noise, converters):
        layer = self.layer(noise, converters)
        return self.torch.inference_mode()(lambda: layer(self.inputs[:batch]))


class Analoglib:
    """`TiledCrossbar` is inside `AnalogModel`: one linear layer, NumPy in float64."""

    distribution = "analoglib"

    def __init__(self):
        import analoglib

        self.library = analoglib

    def load(self, weights, inputs):
        self.weights, self.inputs, self.models = weights.T, inputs, {}

    def model(self, noise, converters):
        if (noise, converters) not in self.models:
            model = self.library.AnalogModel.from_numpy(
                [self.weights], activations=["none"]
            )
            device = self.library.ReRAM(
                num_states=256, read_noise_sigma=READ_NOISE if noise else 0.0
            )
            bits = 8 if converters else None
            model.compile(device=device, adc_bits=bits, dac_bits=bits)
            self.models = {(noise, converters): model}
        return self.models[noise, converters]

    def program(self):
        self.models = {}
        self.model(False, True)

    def matvec(self, batch, noise, converters):
        model = self.model(noise, converters)
        return lambda: model.simulate(self.inputs[:batch], mode="hardware")


RIVALS = {"aihwkit": Aihwkit, "analoglib": Analoglib}
SKIPPED = {
    "CrossSim": "not on PyPI",
    "XBTorch": "not on PyPI",
    "NeuroSim": "not on PyPI; its entry point takes whole networks",
    "MELISO+": "not on PyPI; its build clones a second repository",
    "MemTorch": "4096 x 4096 takes an hour and more than 16 GB (0.1 ms per device object)",
    "badcrossbar": "solves wire resistance, which the others leave out: 80 s at 1024",
    "aihwkit-lightning": "splits inputs only, and stores no programmed noise",
    "MemIntelli": "always slices bits: two by two products in place of one",
}


def answer_to(rival, request: dict, warm: list[dict]) -> dict:
    """Do what a request asks for; `warm` collects the products already asked for once."""
    operation = request.pop("op")
    if operation == "load":
        rival.load(np.load(request["weights"]), np.load(request["inputs"]))
        return {}
    answer = {}
    if operation == "matvec":
        work = rival.matvec(**request)
        if request not in warm:
            answer["first_seconds"] = seconds_of(work)
            warm.append(request)
    else:
        work = rival.program
    answer["seconds"] = seconds_of(work)
    answer["peak_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return answer


def seconds_of(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    serve_rival(RIVALS[sys.argv[1]], partial(answer_to, warm=[]))
