"""The S3 server of the tests itself: it outlives neither its test session nor, unlike its files, a kill."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import boto3

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

HOME = Path(__file__).parent

PARENT = """
import subprocess, sys
server = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)
print(server.pid, server.stdout.readline().strip(), flush=True)
sys.stdin.read()
"""


def start(folder: Path) -> tuple[subprocess.Popen[str], int, str]:
    """A parent process, the id of the server that it started, and the server's endpoint."""
    python = subprocess.run([sys.executable, HOME / "install.py"], stdout=subprocess.PIPE, text=True, check=True).stdout
    command = [sys.executable, "-c", PARENT, python.strip(), str(HOME / "server.py"), str(folder)]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid, endpoint = parent.stdout.readline().split()
    return parent, int(pid), endpoint


def kill_parent_and_see_the_server_end(parent: subprocess.Popen[str], server: int) -> None:
    descriptor = os.pidfd_open(server)
    try:
        parent.send_signal(signal.SIGKILL)
        parent.communicate()
        assert select.select([descriptor], [], [], 60)[0], "the server lives on"
    finally:
        os.close(descriptor)


@contextmanager
def connect(endpoint: str) -> Iterator[S3Client]:
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id="test:tester",
        aws_secret_access_key="testing",
        region_name="us-east-1",
    )
    yield client
    client.close()


def test_it_dies_with_its_parent_and_keeps_its_files(tmp_path: Path) -> None:
    parent, server, endpoint = start(tmp_path)
    with connect(endpoint) as client:
        client.create_bucket(Bucket="kept")
        client.put_object(Bucket="kept", Key="key", Body=b"kept")
    kill_parent_and_see_the_server_end(parent, server)
    parent, server, endpoint = start(tmp_path)
    with connect(endpoint) as client:
        assert client.get_object(Bucket="kept", Key="key")["Body"].read() == b"kept"
    kill_parent_and_see_the_server_end(parent, server)
