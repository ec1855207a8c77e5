from __future__ import annotations

import httpx
import pytest
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.retry import make_simple_http_retry_invoker

from shared_models.patience import FLOWERS_HEARTBEAT, outlast_cut_connections, outlast_failed_heartbeats


def answer(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "https://center.example.org/v1/fleet/pull-object")
    return httpx.HTTPStatusError(str(status), request=request, response=httpx.Response(status, request=request))


def test_a_connection_that_is_cut_in_its_tls_handshake_is_tried_again_and_a_refusal_is_not() -> None:
    cut = httpx.ConnectError("[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol (_ssl.c:1006)")
    refused = answer(404)
    invoker = make_simple_http_retry_invoker()
    assert invoker.should_giveup is not None
    assert invoker.should_giveup(cut)
    outlast_cut_connections(invoker)
    assert not invoker.should_giveup(cut)
    assert invoker.should_giveup(refused)


def test_a_heartbeat_that_the_center_cannot_note_is_sent_again_and_one_that_it_refuses_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(HeartbeatSender, "_heartbeat", FLOWERS_HEARTBEAT)
    answers: list[httpx.HTTPStatusError | None] = []

    def beat() -> bool:
        if error := answers.pop(0):
            raise error
        return True

    sender = HeartbeatSender(beat)
    sender._retry_invoker.wait_function = lambda seconds: None

    def send(*statuses: int) -> int:
        """How many answers were not waited for."""
        answers[:] = [*map(answer, statuses), None]
        sender._retry_invoker.invoke(sender._heartbeat)
        return len(answers)

    with pytest.raises(httpx.HTTPStatusError):  # as Flower does, whose thread ends of it
        send(500)
    outlast_failed_heartbeats()
    assert send(500, 507, 503) == 0
    with pytest.raises(httpx.HTTPStatusError):
        send(401)
