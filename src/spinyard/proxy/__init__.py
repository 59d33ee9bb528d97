"""The data plane: Envoy, driven by delta ADS over a unix socket, seen as one more provider.

translate*  PURE   what is wanted, as Envoy's resources (plain dicts)
proto              dicts to protobuf bytes
xds_stream  PURE   what one Envoy has, what it lacks, and in which order it may be told
xds                the gRPC server around it
stats              what Envoy says of its endpoints
bootstrap          how Envoy is started
doors              the listeners, and what else Envoy has always
boundaries         which boundaries are wanted, and what becomes of them with the routes that are known
aliases            clusters that share endpoints with another one, kept until nothing is under way in them
wanted             what is wanted, and how it becomes one version of what Envoy is told
provider           all of it together: ensure, observe, remove, owned, changes
"""
