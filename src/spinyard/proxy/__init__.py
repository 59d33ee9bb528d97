"""The data plane: Envoy, driven by delta ADS over a unix socket, seen as one more provider.

translate*  PURE   what is wanted, as Envoy's resources (plain dicts)
proto              dicts to protobuf bytes
xds_stream  PURE   what one Envoy has, what it lacks, and in which order it may be told
xds                the gRPC server around it
stats              what Envoy says of its endpoints
bootstrap          how Envoy is started
provider           all of it together: ensure, observe, remove, owned, changes
"""
