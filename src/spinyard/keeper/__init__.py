"""The keeper: a small local init, apart from the control plane.

It is the parent of Envoy, of the server and of one forked shim per instance, and it outlives the control plane. It
imports the standard library and the protocol's types only, runs one thread and one poll loop, keeps no secret, and
signals nothing that it has not verified. It is a leaf of the clock rule: it and its shims read the clock themselves,
because they are started where nothing can be passed in.

Reading order: ports/keeper.py (the protocol), loop, operations, instances, shim, tree.
"""
