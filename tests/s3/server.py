"""A real S3 server in one process: OpenStack Swift on loopback, its files below one folder.

    .venv-swift/bin/python tests/s3/server.py FOLDER [PORT]

Prints its endpoint once it answers. The access key is `test:tester`, the secret `testing`. It dies with its parent.
The folder's file system needs extended attributes; a second start on the same folder finds everything again.
Runs in the environment that `install.py` makes and imports nothing of ours.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import eventlet  # noqa: E402
import eventlet.wsgi  # noqa: E402
from swift.common import utils  # noqa: E402
from swift.common.ring import RingBuilder  # noqa: E402
from swift.common.wsgi import SwiftHttpProtocol, loadapp  # noqa: E402

PR_SET_PDEATHSIG = 1

# The hash prefix and suffix decide where objects lie on disk: they never change.
SWIFT_CONF = """
[swift-hash]
swift_hash_path_prefix = inbetween
swift_hash_path_suffix = inbetween
"""

# All servers share one process: on a busy machine they are late for each other, and none is to be given up for that.
PATIENCE = """
conn_timeout = 30
node_timeout = 60
recoverable_node_timeout = 60
error_suppression_limit = 1000000
"""

STORE = f"""
[DEFAULT]
{PATIENCE}
swift_dir = {{folder}}
devices = {{folder}}/devices
mount_check = false
disable_fallocate = true
workers = 0
log_level = ERROR
[pipeline:main]
pipeline = {{name}}-server
[app:{{name}}-server]
use = egg:swift#{{name}}
"""

PROXY = f"""
[DEFAULT]
{PATIENCE}
swift_dir = {{folder}}
workers = 0
log_level = ERROR
[pipeline:main]
pipeline = catch_errors healthcheck bulk s3api tempauth slo versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
storage_domain = storage.test
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:slo]
use = egg:swift#slo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
[filter:symlink]
use = egg:swift#symlink
"""


def main(folder: Path, port: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.environ["TZ"] = "UTC+0"
    time.tzset()
    utils.monkey_patch()
    utils.get_swift_logger.console_handler4logger = {}
    (folder / "devices" / "d1").mkdir(parents=True, exist_ok=True)
    (folder / "swift.conf").write_text(SWIFT_CONF)
    utils.set_swift_dir(str(folder))
    utils.disable_fallocate()
    sockets = {name: eventlet.listen(("127.0.0.1", 0)) for name in ("account", "container", "object")}
    for name, socket in sockets.items():
        write_ring(folder, name, socket.getsockname()[1])
        (folder / f"{name}.conf").write_text(STORE.format(folder=folder, name=name))
    (folder / "proxy.conf").write_text(PROXY.format(folder=folder))
    sockets["proxy"] = eventlet.listen(("127.0.0.1", port))
    servers = [eventlet.spawn(serve, folder / f"{name}.conf", socket) for name, socket in sockets.items()]
    # The sockets listen already, so a client that comes now is served as soon as the apps are loaded.
    print(f"http://127.0.0.1:{sockets['proxy'].getsockname()[1]}", flush=True)
    for server in servers:
        server.wait()


def write_ring(folder: Path, name: str, port: int) -> None:
    """One partition on one device, at the port that the server of this name got."""
    builder = RingBuilder(0, 1, 0)
    address = {"ip": "127.0.0.1", "port": port, "replication_ip": "127.0.0.1", "replication_port": port}
    builder.add_dev({"region": 1, "zone": 1, "weight": 1, "device": "d1", **address})
    builder.rebalance()
    builder.get_ring().save(str(folder / f"{name}.ring.gz"))


def serve(conf: Path, socket: eventlet.greenio.GreenSocket) -> None:
    app = loadapp(str(conf), global_conf={"log_name": conf.stem})
    # boto3 wants the header "ETag", which eventlet would write "Etag".
    eventlet.wsgi.server(socket, app, log_output=False, protocol=SwiftHttpProtocol, capitalize_response_headers=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
