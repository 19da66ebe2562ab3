"""Shows a result in OHIF, a real viewer, before a real archive: a real CT, its SEG, SR and capture.

::

    make ohif        # fetches OHIF from npm, draws docs/pictures/ohif.png

Starts the embedded server and Orthanc on loopback, sends the CT, scores it with
``dlild score --store``, serves the built files of OHIF before the archive, and lets headless
Chromium open the study, load the SEG and take the picture.
"""

from __future__ import annotations

import argparse
import http.client
import mimetypes
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from orthanc import Orthanc, storescu
from playwright.sync_api import Page, sync_playwright

from dlild_client import Client
from dlild_client.archive.scan import open_scan
from dlild_deploy.server import EmbeddedServer

ROOT = Path(__file__).parents[2]
CT = ROOT.parent / "shared" / "data" / "lidc-idri-0314" / "dicom"
CHROMIUM = "/usr/bin/chromium"
PATIENCE_MS = 300_000
"""A slow machine draws the slices by software."""

CONFIG = """
window.config = {
  routerBasename: '/', extensions: [], modes: [], showStudyList: true,
  showWarningMessageForCrossOrigin: false, showCPUFallbackMessage: false,
  investigationalUseDialog: {option: 'never'}, maxNumberOfWebWorkers: 2,
  customizationService: [{'ohif.tours': {$set: []}}],
  defaultDataSourceName: 'dicomweb',
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb', sourceName: 'dicomweb',
    configuration: {
      friendlyName: 'Orthanc', name: 'orthanc', qidoRoot: '/dicom-web', wadoRoot: '/dicom-web',
      wadoUriRoot: '/wado', qidoSupportsIncludeField: false, imageRendering: 'wadors',
      thumbnailRendering: 'wadors', enableStudyLazyLoad: true, supportsFuzzyMatching: false,
      supportsWildcard: true, omitQuotationForMultipartRequest: true,
    },
  }],
};
"""


@contextmanager
def served(app: Path, archive: Orthanc) -> Iterator[str]:
    """Serve the files of OHIF, and the archive's DICOMweb service under the same origin."""
    app = app.resolve()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path.startswith("/dicom-web/"):
                self._answer(*self._ask_archive())
            elif path == "/app-config.js":
                self._answer(200, "text/javascript", CONFIG.encode())
            else:
                file = (app / path.lstrip("/")).resolve()
                if not file.is_file() or app not in file.parents:
                    file = app / "index.html"
                kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
                self._answer(200, kind, file.read_bytes())

        def _ask_archive(self) -> tuple[int, str, bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", archive.http_port, timeout=120)
            connection.request(
                "GET", self.path, headers={"Accept": self.headers["Accept"] or "*/*"}
            )
            answer = connection.getresponse()
            kind = answer.getheader("Content-Type", "application/octet-stream")
            return answer.status, kind, answer.read()

        def _answer(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            for name, value in (
                ("Content-Type", kind),
                ("Content-Length", str(len(body))),
                # OHIF shares memory between its workers.
                ("Cross-Origin-Opener-Policy", "same-origin"),
                ("Cross-Origin-Embedder-Policy", "require-corp"),
            ):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def store_result(archive: Orthanc, folder: Path) -> dict[str, Any]:
    """Send the real CT to the archive and store its result there; returns the study."""
    storescu(archive.dicom_port, CT)
    (study,) = archive.get("studies?expand")
    uid = study["MainDicomTags"]["StudyInstanceUID"]
    with (
        EmbeddedServer(
            ROOT / "model_repository",
            grpc_port=0,
            http_port=0,
            metrics_port=0,
            log_path=folder / "tritonserver.log",
        ) as server,
        open_scan(archive.dicomweb, uid, None) as scan,
        Client(server.grpc_url) as client,
    ):
        scan.fetch()
        scan.store(client.score(lambda: scan.read(None, with_source=True)))
    return study


def show(page: Page, url: str, study: dict[str, Any], picture: Path) -> list[str]:
    """Open the study, load the SEG, and take the picture; returns the words on the page."""
    uid = study["MainDicomTags"]["StudyInstanceUID"]
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{url}/viewer?StudyInstanceUIDs={uid}")
    page.get_by_text("DL-ILD segmentation").first.wait_for()
    skip = page.get_by_text("Skip all")
    page.locator("canvas").first.wait_for()
    page.wait_for_timeout(5_000)
    if skip.count():
        skip.click()
    page.get_by_text("DL-ILD segmentation").first.dblclick()
    page.get_by_role("button", name="Yes").click()
    page.locator("[data-cy=panelSegmentation-btn]").click()
    # Its row in the panel leads to the middle of a segment; the SEG begins at its first slice.
    page.get_by_text("Reticulation").first.click()
    page.wait_for_timeout(15_000)
    page.screenshot(path=picture)
    return page.inner_text("body").splitlines()


def draw(app: Path, picture: Path) -> list[str]:
    """Make the picture; returns the words that OHIF shows."""
    with tempfile.TemporaryDirectory() as name, Orthanc(Path(name) / "orthanc") as archive:
        study = store_result(archive, Path(name))
        study = archive.get(f"studies/{study['ID']}")
        with served(app, archive) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM,
                args=["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"],
            )
            page = browser.new_page(viewport={"width": 1400, "height": 840})
            words = show(page, url, study, picture)
            browser.close()
    return words


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--app", type=Path, required=True, help="folder of OHIF's built files")
    parser.add_argument("--out", type=Path, required=True, help="the picture, PNG")
    given = parser.parse_args()
    print("\n".join(draw(given.app, given.out)))


if __name__ == "__main__":
    main()
