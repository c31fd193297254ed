"""Serve one agent: `sedma deploy compile` copies this folder beside the agents' code.

It needs the standard library, and uvicorn for HTTP, grpcio for gRPC or `sedma-jax[comm]`
for libp2p, if the agent speaks it. `SEDMA_ENTRY` names the agent's function as
`module:function`. It is called with the bytes of a request and with `call(agent, request)`,
which asks another agent at the address in `SEDMA_CALL_<AGENT>`.
"""
