# %% [markdown]
# # Five peers: puts, gets, and whom to ask
#
# Nodes hold tensors and fetch them from each other over *libp2p*, a stack of peer-to-peer
# protocols. A tensor's name is its *CID*, made from a hash of its bytes: whoever sends
# other bytes is found out. A node lets nobody in who is not named; these five let everybody
# in (`EVERYONE`), which is for loopback only.
#
# Needs the extra `comm`. All five run in this process, on loopback.

# %%
import time
from contextlib import ExitStack

import matplotlib.pyplot as plt
import numpy as np

import sedma_jax as sj
from sedma_jax.comm import EVERYONE

NAMES = ("client", "anna", "boris", "clara", "dana")
open_to_all = dict(allowed=frozenset({EVERYONE}), status_every=0.5)
stacks = {name: ExitStack() for name in NAMES}  # each closes its node again, below
nodes = {
    name: stack.enter_context(sj.comm.open_node(**open_to_all))
    for name, stack in stacks.items()
}
client = nodes["client"]
for name in NAMES[1:]:
    client.connect(nodes[name].addresses[0])
print(len(client.status()["connected"]), "peers are connected")
assert len(client.status()["connected"]) == 4

# %% [markdown]
# ## Put and get
#
# `put` returns the CID; `get` fetches from whoever has it, checks the hash, and gives a
# read-only array. The same bytes have the same CID, whoever puts them.

# %%
weights = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
cid = nodes["anna"].put(weights)
assert nodes["boris"].put(weights) == cid
copy = client.get(cid, timeout=30)
print(cid, copy.shape, copy.dtype)
assert np.array_equal(copy, weights) and not copy.flags.writeable

# %% [markdown]
# What nobody has is an error within the time allowed, not a wait for ever.

# %%
absent = sj.comm.FetchError, TimeoutError
unknown = cid[:-6] + ("aaaaaa" if cid[-6:] != "aaaaaa" else "bbbbbb")
failure = None
try:
    client.get(unknown, timeout=10)
except (*absent, ValueError) as error:
    failure = error
    print(type(error).__name__)
assert failure is not None

# %% [markdown]
# ## Choice
#
# Every peer has a score from four terms: load, latency, memory, and what became of
# earlier transfers. Their weights are learnt as transfers succeed or fail. The client asks
# the best first, and another if that one fails. Here all four hold twelve tensors; after
# half of them the peer that served most goes away.

# %%
rng = np.random.default_rng(1)
tensors = [rng.normal(size=(128, 128)).astype(np.float32) for _ in range(12)]
cids = []
for tensor in tensors:
    (each,) = {nodes[name].put(tensor) for name in NAMES[1:]}  # one CID for all
    cids.append(each)
time.sleep(1.0)  # two statuses


def served():
    """Bytes of tensors that each peer has sent so far."""
    return {
        name: nodes[name].status()["served_bytes"] for name in NAMES[1:] if name in nodes
    }


at_start, sent = served(), []
for turn, (each, tensor) in enumerate(zip(cids, tensors, strict=True)):
    if turn == 6:
        scores = {p["id"]: p["score"] for p in client.peers()}
        leaving = max(sent[-1], key=sent[-1].get)
        ids = {name: nodes.pop(name).name for name in [leaving]}
        stacks[leaving].close()
    assert np.array_equal(client.get(each, timeout=60), tensor)
    sent.append(served())
print(f"{leaving} went away after six; all twelve tensors came, bit by bit")
for name, node in nodes.items():
    if name != "client":
        print(f"{name:6} score {scores[node.name]:.2f}")
print(f"{leaving:6} score {scores[ids[leaving]]:.2f}, before it left")
assert len(sent) == 12 and leaving not in sent[-1]

# %%
figure, axis = plt.subplots()
first = [(sent[5][name] - at_start[name]) / 1024 for name in NAMES[1:]]
last = [
    (sent[-1][name] - sent[5][name]) / 1024 if name in sent[-1] else 0 for name in NAMES[1:]
]
axis.bar(NAMES[1:], first, label="first six tensors")
axis.bar(NAMES[1:], last, bottom=first, label=f"last six, without {leaving}")
axis.set(ylabel="sent to the client, KiB")
axis.legend()
plt.show()
# Six tensors of 64 KiB each, or more: see below.
assert sum(first) >= 6 * 64 and sum(last) >= 6 * 64

# %% [markdown]
# Peers have sent more than twelve times 64 KiB: a large tensor comes in ranges from several
# peers at once, and when no range is left to ask for, another peer is asked for what a slow
# one still owes, and the first answer wins. These tensors have one range each.
#
# In processes of their own, nodes are opened by `sj.comm.open_node_process`, or by
# `sedma node start` on a command line.

# %%
for stack in stacks.values():
    stack.close()
