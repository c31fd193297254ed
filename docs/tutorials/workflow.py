# %% [markdown]
# # A workflow placed and compiled for a cluster
#
# Agents that call each other (a front, a solver on crossbar arrays, checkers) run on a
# cluster of Kubernetes. `sj.deploy` decides which node each replica goes to, so that calls
# are short and memory is saved, and compiles the workflow into the files that a cluster
# takes. All of this is offline: nothing here needs a cluster, and nothing is applied.
#
# Needs the extra `deploy`.

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np
import yaml

import sedma_jax as sj

TEXT = """\
name: refinement
agents:
  - {name: front, entry: "refinement:front", memory: 512Mi, cpu: 500m}
  - {name: solver, entry: "refinement:solver", memory: 1Gi, cpu: "1", model: matrix}
  - {name: checker, entry: "refinement:checker", memory: 512Mi, cpu: 500m, replicas: 2}
models:
  - {name: matrix, memory: 2Gi}
edges:
  - {source: front, target: solver, protocol: http, volume: 0.5, rate: 2}
  - {source: solver, target: checker, protocol: grpc, volume: 2, rate: 10}
nodes:
  - {name: n0, memory: 4Gi, cpu: 2, rack: left, zone: north}
  - {name: n1, memory: 4Gi, cpu: 2, rack: left, zone: north}
  - {name: n2, memory: 8Gi, cpu: 4, rack: right, zone: north}
"""
workflow = sj.deploy.parse_workflow(TEXT)  # `load_workflow` reads a file
print(len(workflow.agents), "agents,", len(workflow.nodes), "nodes")

# %% [markdown]
# A mistake is named with its line.

# %%
refused = None
try:
    sj.deploy.parse_workflow(TEXT.replace("target: checker", "target: cheker"))
except ValueError as mistake:
    refused = str(mistake)
    print(refused)
assert refused is not None and "cheker" in refused

# %% [markdown]
# ## Place
#
# The cost of a placement adds the traffic between nodes (volume times rate, by latency and
# bandwidth of the link) and the memory that is used (each node's own, and each model once a
# node that needs it). Capacities of memory and processors hold, and two replicas of an
# agent never share a node. For 30 agents or fewer the optimum is *proven*, by CP-SAT.

# %%
placement = sj.deploy.plan(workflow, key=jax.random.key(0))
told = sj.deploy.describe(workflow, placement)
for replica, node in told["placement"].items():
    print(f"{replica:12} on {node}")
print(f"cost {told['cost']:.4f}, proven optimal: {placement.optimal}")
assert placement.optimal
assert told["placement"]["checker-0"] != told["placement"]["checker-1"]
checkers = {told["placement"][f"checker-{i}"] for i in (0, 1)}
assert told["placement"]["solver-0"] in checkers  # they talk most

# %% [markdown]
# An independent check: all $3^4$ placements, by the cost function alone.

# %%
problem = sj.deploy.placement_problem(workflow)
names = sj.deploy.replica_names(workflow)
every = np.stack(np.meshgrid(*[np.arange(3)] * len(names)), axis=-1).reshape(-1, len(names))
costs = jax.vmap(lambda nodes: sj.kernels.placement_cost(problem, nodes))(
    jax.numpy.asarray(every)
)
allowed = np.asarray(costs.total)[np.asarray(costs.feasible)]
print(f"{len(allowed)} of {len(every)} placements are allowed; best {allowed.min():.4f}")
np.testing.assert_allclose(told["cost"], allowed.min(), rtol=1e-5)

# %%
figure, axis = plt.subplots(figsize=(6, 2.8))
axis.hist(allowed, bins=24)
axis.axvline(told["cost"], color="#D55E00", label="the proven optimum")
axis.set(xlabel="cost of a placement", ylabel="allowed placements")
axis.legend()
plt.show()

# %% [markdown]
# ## Compile
#
# The same bytes each time: a Dockerfile, a compose file, serving code, and manifests, in
# which a required affinity pins each agent to its node. `validate` checks manifests
# against the published schemas and rules of Kubernetes without a server.

# %%
files = sj.deploy.compile(workflow, placement)
for path, text in files.items():
    print(f"{path:32} {len(text):6,} bytes")
assert files == sj.deploy.compile(workflow, placement)

# %%
manifests = [
    each
    for path, text in files.items()
    if path.startswith("manifests/")
    for each in yaml.safe_load_all(text)
]
assert sj.deploy.validate(manifests) == []
(solver,) = [
    each
    for each in manifests
    if each["kind"] == "Deployment" and each["metadata"]["name"] == "solver"
]
pinned = solver["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
print(yaml.safe_dump(pinned))
assert told["placement"]["solver-0"] in yaml.safe_dump(pinned)

# %% [markdown]
# From here `sedma deploy apply`, or `sj.deploy.apply`, rolls it out, after a dry run on the
# cluster; `sj.run(..., workflow=..., cluster=...)` does all of that after a product.
