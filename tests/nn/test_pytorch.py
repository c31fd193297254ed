"""Weights of PyTorch by their names; oracles are its documented formulas, in NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

import sedma_jax as sj

RNG = np.random.default_rng(0)
KEY = jr.key(0)
load = sj.nn.load_pytorch


def normal(*shape):
    return RNG.normal(size=shape)


def close(found, wanted):
    np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-5, atol=1e-6)


class Net(eqx.Module):
    """Layers whose weights PyTorch holds alike, or with biases of another shape."""

    convs: list
    fc: eqx.nn.Linear
    norm: eqx.nn.LayerNorm
    names: eqx.nn.Embedding

    def __init__(self):
        self.convs = [eqx.nn.Conv2d(2, 4, 3, groups=2, dtype=jnp.float32, key=KEY)]
        self.fc = eqx.nn.Linear(4, 3, dtype=jnp.float32, key=KEY)
        self.norm = eqx.nn.LayerNorm(3, dtype=jnp.float32)
        self.names = eqx.nn.Embedding(5, 3, dtype=jnp.float32, key=KEY)


STATE = {
    "module.convs.0.weight": normal(4, 1, 3, 3),
    "module.convs.0.bias": normal(4),
    "module.fc.weight": normal(3, 4),
    "module.fc.bias": normal(3),
    "module.norm.weight": normal(3),
    "module.norm.bias": normal(3),
    "module.names.weight": normal(5, 3),
    "module.norm.num_batches_tracked": np.array(7),
}


@pytest.mark.parametrize("form", ["mapping", "safetensors", "npz"])
def test_weights_go_where_their_names_say(form, tmp_path):
    weights = STATE
    if form != "mapping":
        weights = tmp_path / f"weights.{form}"
        save = save_file if form == "safetensors" else lambda s, p: np.savez(p, **s)
        save(STATE, weights)
    net, report = load(Net(), weights, names={"module": ""})
    close(net.convs[0].weight, STATE["module.convs.0.weight"])
    close(net.convs[0].bias[:, 0, 0], STATE["module.convs.0.bias"])
    close(net.fc.weight, STATE["module.fc.weight"])
    close(net.names.weight, STATE["module.names.weight"])
    assert net.fc.weight.dtype == jnp.float32  # of the model
    assert report.loaded["convs.0.bias"] == ("module.convs.0.bias",)
    assert len(report.loaded) == 7
    assert report.missing == report.unused == () and not report.other_shape


def test_a_report_names_what_does_not_fit():
    state = STATE | {"module.fc.weight": normal(4, 3), "module.head.weight": normal(2)}
    del state["module.norm.bias"]
    given = Net()
    net, report = load(given, state, names={"module": ""}, strict=False)
    assert report.other_shape == {
        "fc.weight": (("module.fc.weight",), ((3, 4),), ((4, 3),))
    }
    assert report.missing == ("norm.bias",) and report.unused == ("module.head.weight",)
    close(net.fc.weight, given.fc.weight)
    close(net.fc.bias, STATE["module.fc.bias"])
    with pytest.raises(ValueError) as caught:
        load(given, state, names={"module": ""})
    text = str(caught.value)
    assert "1 of another shape (`module.fc.weight` (4, 3) for `fc.weight`" in text
    assert "nothing for `norm.bias`; no place for `module.head.weight`" in text
    assert "\n" not in text


def heads(x, q, k, v, out, count):
    """Attention of `torch.nn.MultiheadAttention`, without a mask."""
    split = lambda y: y.reshape(len(x), count, -1)
    q, k, v = (split(x @ w.T + b) for w, b in (q, k, v))
    scores = np.einsum("shd,thd->hst", q, k) / np.sqrt(q.shape[-1])
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    mixed = np.einsum("hst,thd->shd", shares, v).reshape(len(x), -1)
    return mixed @ out[0].T + out[1]


def test_attention_has_three_matrices_in_one_there():
    x, whole, offsets = normal(3, 4), normal(12, 4), normal(12)
    state = {
        "in_proj_weight": whole,
        "in_proj_bias": offsets,
        "out_proj.weight": normal(4, 4),
        "out_proj.bias": normal(4),
    }
    parts = [(whole[i : i + 4], offsets[i : i + 4]) for i in (0, 4, 8)]
    out = state["out_proj.weight"], state["out_proj.bias"]
    wanted = heads(x, *parts, out, 2)
    biases = dict(use_query_bias=True, use_key_bias=True, use_value_bias=True)
    model = eqx.nn.MultiheadAttention(2, 4, **biases, use_output_bias=True, key=KEY)
    model, _ = load(model, state)
    close(model(*(jnp.asarray(x),) * 3), wanted)
    theirs = nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0))
    theirs, report = load(theirs, state)
    assert not report.unused
    close(theirs(jnp.asarray(x, jnp.float32)), wanted)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("end", ["", "_l0"])
def test_recurrent_cells_have_two_biases_there(end):
    x, h, c = normal(2), normal(3), normal(3)

    def state(gates):
        shapes = {"weight_ih": (gates * 3, 2), "weight_hh": (gates * 3, 3)}
        shapes |= {"bias_ih": (gates * 3,), "bias_hh": (gates * 3,)}
        return {name + end: normal(*shape) for name, shape in shapes.items()}

    def gates(s, count):
        at = lambda name: s[name + end]
        a = np.split(at("weight_ih") @ x + at("bias_ih"), count)
        b = np.split(at("weight_hh") @ h + at("bias_hh"), count)
        return a, b

    lstm = state(4)
    (a, b) = gates(lstm, 4)
    i, f, g, o = (p + q for p, q in zip(a, b, strict=True))
    new = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    model, _ = load(eqx.nn.LSTMCell(2, 3, key=KEY), lstm)
    close(model(x, (h, c))[0], sigmoid(o) * np.tanh(new))
    gru = state(3)
    (a, b) = gates(gru, 3)
    r, z = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
    model, _ = load(eqx.nn.GRUCell(2, 3, key=KEY), gru)
    close(model(x, h), (1 - z) * np.tanh(a[2] + r * b[2]) + z * h)


def transposed(x, w, bias, stride, groups):
    """`torch.nn.ConvTranspose1d` by its definition: each input adds a scaled kernel."""
    n, outs, k = w.shape
    y = np.zeros((outs * groups, (x.shape[1] - 1) * stride + k))
    for group in range(groups):
        for i in range(n // groups):
            for place in range(x.shape[1]):
                at = slice(place * stride, place * stride + k)
                own = slice(group * outs, (group + 1) * outs)
                c = group * (n // groups) + i
                y[own, at] += x[c, place] * w[c]
    return y + bias[:, None]


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions_read_kernels_from_the_other_end(groups):
    x, w, bias = normal(4, 3), normal(4, 6 // groups, 3), normal(6)
    state, wanted = {"weight": w, "bias": bias}, transposed(x, w, bias, 2, groups)
    model = eqx.nn.ConvTranspose1d(4, 6, 3, stride=2, groups=groups, key=KEY)
    model, _ = load(model, state)
    close(model(jnp.asarray(x)), wanted)
    if groups == 1:
        for turned in (False, True):
            there = dict(strides=2, padding="VALID", transpose_kernel=turned)
            model = nnx.ConvTranspose(4, 6, (3,), **there, rngs=nnx.Rngs(0))
            model, _ = load(model, state)
            close(model(jnp.asarray(x.T, jnp.float32)).T, wanted)


class FlaxNet(nnx.Module):
    """A convolution, a norm with statistics, an embedding and a linear layer."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(2, 4, (3, 3), feature_group_count=2, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(4, 3, rngs=rngs)])
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.names = nnx.Embed(5, 3, rngs=rngs)


def test_nnx_has_other_names_and_axes():
    state = {
        "conv.weight": normal(4, 1, 3, 3),
        "conv.bias": normal(4),
        "layers.0.weight": normal(3, 4),
        "layers.0.bias": normal(3),
        "norm.weight": normal(4),
        "norm.bias": normal(4),
        "norm.running_mean": normal(4),
        "norm.running_var": normal(4) ** 2,
        "norm.num_batches_tracked": np.array(3),
        "names.weight": normal(5, 3),
    }
    given = FlaxNet()
    before = given.layers[0].kernel[...]
    net, report = load(given, state)
    assert report.missing == report.unused == ()
    close(net.layers[0].kernel[...], state["layers.0.weight"].T)
    close(net.norm.mean[...], state["norm.running_mean"])
    close(net.norm.scale[...], state["norm.weight"])
    close(net.names.embedding[...], state["names.weight"])
    close(given.layers[0].kernel[...], before)
    # The convolution itself, at one place of an image.
    image = normal(1, 3, 3, 2)
    w, b = state["conv.weight"], state["conv.bias"]
    wanted = [np.sum(image[0, :, :, o // 2] * w[o, 0]) + b[o] for o in range(4)]
    net.conv.padding = "VALID"
    close(net.conv(jnp.asarray(image, jnp.float32))[0, 0, 0], wanted)


class Tensor:
    """What of a tensor of PyTorch NumPy cannot take: a gradient, or bfloat16."""

    def __init__(self, values, dtype="torch.float32", free=False):
        self.values, self.dtype, self.free = values, dtype, free

    def detach(self):
        return Tensor(self.values, self.dtype, True)

    def cpu(self):
        return self

    def float(self):
        return Tensor(self.values, "torch.float32", self.free)

    def __array__(self, dtype=None, copy=None):
        if not self.free or self.dtype == "torch.bfloat16":
            raise TypeError("detach first")
        return np.asarray(self.values, dtype)


def test_tensors_are_taken_off_their_device():
    state = {"weight": Tensor(normal(3, 4)), "bias": Tensor(normal(3), "torch.bfloat16")}
    layer, _ = load(eqx.nn.Linear(4, 3, key=KEY), state)
    close(layer.weight, state["weight"].values)
    close(layer.bias, state["bias"].values)


LINEAR = {"weight": np.ones((3, 4)), "bias": np.ones(3)}
REFUSED = [
    (LINEAR, {"names": {"fc": "x"}}, "`names` to map names of the file. Got 'fc'"),
    (LINEAR, {"names": lambda name: "weight"}, "one name of the file for each place"),
    (LINEAR | {"bias": np.array(["x"])}, {}, "arrays of real numbers"),
    (3, {}, "arrays by name, or a path"),
    ("model.pth", {}, "'.pth', a pickle, which may run any code"),
    ("model.h5", {}, "a .safetensors or .npz file"),
    ("none.safetensors", {}, "No such file"),
]


@pytest.mark.parametrize("weights, options, said", REFUSED)
def test_bad_weights_are_refused_in_one_line(weights, options, said, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # it would say so
    with pytest.raises(ValueError) as caught:
        load(eqx.nn.Linear(4, 3, key=KEY), weights, **options)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_network_with_loaded_weights_is_analogized_and_exported():
    model = eqx.nn.MLP(4, 2, 5, 1, dtype=jnp.float32, key=KEY)
    state = {"a.weight": normal(5, 4), "a.bias": normal(5)}
    state |= {"b.weight": normal(2, 5), "b.bias": normal(2)}
    model, _ = load(model, state, names={"a": "layers[0]", "b": "layers[1]"})
    x = normal(4)
    hidden = np.maximum(state["a.weight"] @ x + state["a.bias"], 0)
    wanted = state["b.weight"] @ hidden + state["b.bias"]
    close(model(jnp.asarray(x, jnp.float32)), wanted)
    analog = sj.nn.analogize(model, "epiram", array=4, key=KEY)
    call = jax.jit(lambda x: sj.nn.with_read_keys(analog, key=jr.key(1))(x))
    given = jnp.asarray(x, jnp.float32)
    exported = jax.export.export(call, platforms=("cpu", "cuda"))(given)
    np.testing.assert_allclose(exported.call(given), call(given), rtol=1e-6)
    error = np.abs(np.asarray(call(given)) - wanted)
    assert error.max() < 0.2 * np.abs(wanted).max()
