"""A workflow that several tests compile, and a secret for its agents."""

TOUR = """\
name: tour
agents:
  - {name: front, entry: "tour:front", memory: 64Mi, cpu: 100m}
  - {name: planner, entry: "tour:planner", memory: 128Mi, cpu: 200m, model: words}
  - {name: critic, entry: "tour:critic", memory: 128Mi, cpu: 200m, replicas: 2}
models:
  - {name: words, memory: 1Gi}
edges:
  - {source: front, target: planner, volume: 0.5, protocol: http}
  - {source: planner, target: critic, volume: 2, protocol: grpc}
nodes:
  - {name: n0, memory: 4Gi, cpu: 2}
  - {name: n1, memory: 4Gi, cpu: 2}
"""

SECRET = "0123456789abcdef of this test alone"
