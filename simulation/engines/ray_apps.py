"""Server and client apps of the Ray engine, in which each virtual node announces its site's name."""

from __future__ import annotations

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid, ServerApp

from client.admission import locate_site
from client.app import app
from client.config.site import load_site
from server.app import main as run

NAME = "query.name"

server_app = ServerApp()
client_app = app  # Flower looks for an assignment


@client_app.query("name")
def name(message: Message, context: Context) -> Message:
    """The site whose settings this virtual SuperNode was given."""
    site = load_site(*locate_site(context)).site
    return Message(RecordDict({"name": ConfigRecord({"name": site})}), reply_to=message)


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Names the nodes as a SuperLink with registered sites would, then runs the study."""
    questions = [Message(RecordDict(), dst_node_id=node, message_type=NAME) for node in grid.get_node_ids()]
    replies = {reply.metadata.src_node_id: reply for reply in grid.send_and_receive(questions)}
    names = {node: str(reply.content["name"]["name"]) for node, reply in replies.items() if not reply.has_error()}
    nodes = [NodeInfo(node_id=node, name=names.get(node)) for node in grid.get_node_ids()]
    grid.get_nodes = lambda: nodes
    run(grid, context)
