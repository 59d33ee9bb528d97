"""Dump the protobuf descriptors that the proxy needs into one small file (docs/decisions/0002-xds-descriptors.md).

Run by hand, in a throw-away environment, when Envoy is upgraded; the file is committed:

    python3 -m venv /tmp/xds && /tmp/xds/bin/pip install 'xds-protos==1.85.*'
    /tmp/xds/bin/python scripts/build_xds_descriptors.py src/spinyard/proxy/xds.binpb.gz

The same input gives the same bytes. Never install xds-protos into the environment of the product: it overwrites files
of opentelemetry-proto.
"""

import gzip
import importlib
import sys
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor

ROOTS = (
    "google.rpc.status",
    "envoy.service.discovery.v3.discovery",
    "envoy.service.discovery.v3.ads",
    "envoy.service.runtime.v3.rtds",
    "envoy.service.accesslog.v3.als",
    "envoy.config.cluster.v3.cluster",
    "envoy.config.endpoint.v3.endpoint",
    "envoy.config.listener.v3.listener",
    "envoy.config.route.v3.route",
    "envoy.extensions.access_loggers.file.v3.file",
    "envoy.extensions.access_loggers.grpc.v3.als",
    "envoy.extensions.access_loggers.open_telemetry.v3.logs_service",
    "envoy.extensions.filters.http.fault.v3.fault",
    "envoy.extensions.filters.http.grpc_stats.v3.config",
    "envoy.extensions.filters.http.header_mutation.v3.header_mutation",
    "envoy.extensions.filters.http.header_to_metadata.v3.header_to_metadata",
    "envoy.extensions.filters.http.jwt_authn.v3.config",
    "envoy.extensions.filters.http.local_ratelimit.v3.local_rate_limit",
    "envoy.extensions.filters.http.on_demand.v3.on_demand",
    "envoy.extensions.filters.http.rbac.v3.rbac",
    "envoy.extensions.filters.http.router.v3.router",
    "envoy.extensions.filters.http.tap.v3.tap",
    "envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager",
    "envoy.extensions.http.early_header_mutation.header_mutation.v3.header_mutation",
    "envoy.extensions.retry.host.previous_hosts.v3.previous_hosts",
    "envoy.extensions.transport_sockets.raw_buffer.v3.raw_buffer",
    "envoy.extensions.transport_sockets.tls.v3.tls",
    "envoy.extensions.upstreams.http.v3.http_protocol_options",
    "envoy.config.trace.v3.opentelemetry",
)


def with_dependencies(roots: list[FileDescriptor]) -> list[FileDescriptor]:
    """Every file once, each after the files it imports."""
    done: dict[str, FileDescriptor] = {}

    def visit(file: FileDescriptor) -> None:
        if file.name in done:
            return
        for dependency in file.dependencies:
            visit(dependency)
        done[file.name] = file

    for root in roots:
        visit(root)
    return list(done.values())


def main() -> None:
    files = with_dependencies([importlib.import_module(f"{name}_pb2").DESCRIPTOR for name in ROOTS])
    bundle = descriptor_pb2.FileDescriptorSet()
    for file in files:
        entry = bundle.file.add()
        file.CopyToProto(entry)
        entry.ClearField("source_code_info")
    data = gzip.compress(bundle.SerializeToString(deterministic=True), compresslevel=9, mtime=0)
    Path(sys.argv[1]).write_bytes(data)
    print(f"{len(files)} files, {len(data)} bytes")


if __name__ == "__main__":
    main()
