"""The HTTP door for Alertmanager: ``POST /alerts`` with a bearer token. The one door to ``aiohttp``.

Whatever is posted, the answer is JSON and says what is wrong; nothing that comes in here ends the process. An alert is
written down before it is answered with 200. Words and groups are in ``alerts``, the way on in ``delivery``.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
from aiohttp import web

from tapeline_common import logs
from tapeline_notifier.alerts import Group, PayloadRefused, read_group

MOST_BYTES = 1024 * 1024
"""A group of a thousand alerts has some seven hundred kilobytes."""

BODY_S = 10.0
"""How long a body may take to arrive."""

ALERTS = "/alerts"

Take = Callable[[Group], None]
"""Takes a group of alerts; when it returns, they are written down."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(token: str, take: Take, logger: logs.Logger) -> web.Application:
    """The application; ``token`` is what callers must show."""
    expected = f"Bearer {token}".encode()

    async def alerts(request: web.Request) -> web.Response:
        shown = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(shown, expected):
            logger.warning("alert refused", reason="wrong or missing bearer token", peer=request.remote)
            return _said(401, error="wrong or missing bearer token", headers={"WWW-Authenticate": "Bearer"})
        try:
            async with asyncio.timeout(BODY_S):
                body = await request.read()
            group = read_group(body)
        except TimeoutError:
            return _said(408, error=f"the body did not arrive within {BODY_S:.0f} s")
        except PayloadRefused as refused:
            logger.warning("alert refused", reason=str(refused))
            return _said(400, error=str(refused))
        take(group)
        return _said(200, accepted=len(group.alerts))

    @web.middleware
    async def in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
        """What aiohttp refuses by itself is said in JSON as well."""
        try:
            return await handler(request)
        except web.HTTPRequestEntityTooLarge:
            return _said(413, error=f"a body may have {MOST_BYTES} bytes")
        except web.HTTPNotFound:
            return _said(404, error=f"there is nothing here: POST {ALERTS}")
        except web.HTTPMethodNotAllowed:
            return _said(405, error=f"only POST {ALERTS}", headers={"Allow": "POST"})

    served = web.Application(client_max_size=MOST_BYTES, middlewares=[in_json])
    served.router.add_post(ALERTS, alerts)
    return served


@asynccontextmanager
async def receiving(host: str, port: int, served: web.Application) -> AsyncIterator[int]:
    """Answer on ``port`` inside the block; gives the port, which is a free one for 0. Raises ``OSError``."""
    runner = web.AppRunner(served, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def _said(status: int, headers: dict[str, str] | None = None, **said: object) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(said) + b"\n", status=status, content_type="application/json", headers=headers
    )
