from pathlib import Path

import pytest

from tests.support import tools
from tests.support.addresses import host_and_port
from tests.support.serving import serve_calmly


@pytest.mark.parametrize("target", ["http.server:SimpleHTTPRequestHandler", "examples.http_files:FilesHandler"])
def test_curl_gets_files_and_a_404(target: str, tmp_path: Path) -> None:
    (tmp_path / "hello.txt").write_bytes(b"hello\n")
    with serve_calmly(target, workers=2, bind=["tcp://127.0.0.1:0"], chdir=str(tmp_path)) as server:
        host, port = host_and_port(server)
        wanted = [f"http://{host}:{port}/{name}" for name in ("hello.txt", "absent", "hello.txt")]
        output = [part for _ in wanted for part in ("--output", "-")]
        done = tools.run(["curl", "--silent", "--show-error", "--write-out", "%{http_code}\n", *output, *wanted])

    assert done.stdout.startswith(b"hello\n200\n")
    assert b"404\n" in done.stdout
    assert done.stdout.endswith(b"hello\n200\n")
