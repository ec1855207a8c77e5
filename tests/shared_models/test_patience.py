from __future__ import annotations

import httpx
from flwr.supercore.retry import make_simple_http_retry_invoker

from shared_models.patience import outlast_cut_connections


def test_a_connection_that_is_cut_in_its_tls_handshake_is_tried_again_and_a_refusal_is_not() -> None:
    cut = httpx.ConnectError("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol (_ssl.c:1006)")
    request = httpx.Request("POST", "https://center.example.org/v1/fleet/pull-object")
    refused = httpx.HTTPStatusError("404", request=request, response=httpx.Response(404, request=request))
    invoker = make_simple_http_retry_invoker()
    assert invoker.should_giveup is not None
    assert invoker.should_giveup(cut)
    outlast_cut_connections(invoker)
    assert not invoker.should_giveup(cut)
    assert invoker.should_giveup(refused)
