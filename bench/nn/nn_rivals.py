"""The digits network in PyTorch, digital or by aihwkit, in a process of its own.

    PYTHON -m bench.nn.nn_rivals (torch | aihwkit)

Serves `nn_speed.py`: reads one JSON object per line of stdin and answers each with one on
stdout. `{"op": "load", "file", "weight_noise", "read_noise", "bits"}` names an `.npz` with
the parameters of our own network, images and labels; `{"op": "step" | "infer", "batch",
"repeats"}` times calls; `{"op": "logits", "batch", "steps"}` returns the logits of images,
by the network for inference or, given `steps`, by the one in training after so many steps.

aihwkit is set up as its documentation says for hardware-aware training:
`TorchInferenceTile` (the compiled one does not load beside this PyTorch), weight noise
drawn once per batch by its modifier, noise and converters on inputs and outputs,
`AnalogAdam`.
"""

import sys
import time

import numpy as np

from bench.shared import serve_rival

LEARNING_RATE = 3e-3
TILE = 256


class Digital:
    """`torch.nn`, with Adam."""

    distribution = "torch"

    def __init__(self):
        import torch

        self.torch = torch

    def layers(self):
        nn = self.torch.nn
        return (
            nn.Conv2d(1, 8, 3, padding=1),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.Linear(64, 10),
        )

    def load(self, file, **noise):
        found, nn = np.load(file), self.torch.nn
        self.noise = noise
        first, second, last = self.layers()
        for name, layer in (("first", first), ("second", second), ("last", last)):
            self.write(layer, *(self.torch.from_numpy(found[f"{name}_{part}"])
                                for part in ("weight", "bias")))  # fmt: skip
        relu_pool = lambda: (nn.ReLU(), nn.MaxPool2d(2))
        self.model = self.sequence(
            first, *relu_pool(), second, *relu_pool(), nn.Flatten(), last
        )
        self.images = self.torch.from_numpy(found["images"])
        self.labels = self.torch.from_numpy(found["labels"]).long()
        self.optimiser = self.adam()
        self.loss = nn.CrossEntropyLoss()
        # Training changes weights, so inference has a copy of its own.
        self.inferring = self.programmed()

    def sequence(self, *layers):
        return self.torch.nn.Sequential(*layers)

    def write(self, layer, weight, bias):
        with self.torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)

    def adam(self):
        return self.torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE)

    def programmed(self):
        from copy import deepcopy

        return deepcopy(self.model).eval()

    def step(self, batch):
        self.model.train()
        self.optimiser.zero_grad()
        loss = self.loss(self.model(self.images[:batch]), self.labels[:batch])
        loss.backward()
        self.optimiser.step()
        return float(loss.detach())

    def infer(self, batch):
        with self.torch.inference_mode():
            return self.inferring(self.images[:batch])

    def logits(self, batch, steps=0):
        if not steps:
            return self.infer(batch)
        for _ in range(steps):
            self.step(batch)
        with self.torch.inference_mode():
            return self.model.eval()(self.images[:batch])


class Aihwkit(Digital):
    """`AnalogConv2d` and `AnalogLinear` on one tile each."""

    distribution = "aihwkit"

    def __init__(self):
        super().__init__()
        from aihwkit import nn, optim
        from aihwkit.simulator.configs import TorchInferenceRPUConfig
        from aihwkit.simulator.parameters.enums import (
            BoundManagementType,
            WeightModifierType,
        )

        self.nn, self.optim, self.config = nn, optim, TorchInferenceRPUConfig
        self.no_repeats = BoundManagementType.NONE
        self.normal = WeightModifierType.ADD_NORMAL

    def layers(self):
        config = self.config()
        config.mapping.max_input_size = config.mapping.max_output_size = TILE
        config.mapping.weight_scaling_omega = 1.0
        forward, modifier = config.forward, config.modifier
        forward.bound_management = self.no_repeats  # the fast way: one pass
        forward.inp_res = forward.out_res = 2.0 ** (1 - self.noise["bits"])
        forward.out_noise = self.noise["read_noise"]
        modifier.type, modifier.std_dev = self.normal, self.noise["weight_noise"]
        modifier.rel_to_actual_wmax = True
        return (
            self.nn.AnalogConv2d(1, 8, 3, padding=1, rpu_config=config),
            self.nn.AnalogConv2d(8, 16, 3, padding=1, rpu_config=config),
            self.nn.AnalogLinear(64, 10, rpu_config=config),
        )

    def sequence(self, *layers):
        return self.nn.AnalogSequential(*layers)

    def write(self, layer, weight, bias):
        layer.set_weights(weight.reshape(len(weight), -1), bias)

    def adam(self):
        optimiser = self.optim.AnalogAdam(self.model.parameters(), lr=LEARNING_RATE)
        optimiser.regroup_param_groups(self.model)
        return optimiser

    def programmed(self):
        model = super().programmed()
        model.program_analog_weights()
        return model


RIVALS = {"torch": Digital, "aihwkit": Aihwkit}


def answer_to(rival, request: dict) -> dict:
    """Do what a request asks for."""
    operation = request.pop("op")
    if operation == "load":
        rival.load(**request)
        return {}
    if operation == "logits":
        return {"logits": rival.logits(**request).tolist()}
    repeats = request.pop("repeats")
    work = getattr(rival, operation)
    start = time.perf_counter()
    for _ in range(repeats):
        work(**request)
    return {"seconds": (time.perf_counter() - start) / repeats}


if __name__ == "__main__":
    serve_rival(RIVALS[sys.argv[1]], answer_to)
